//! AVX2 and VNNI.

use std::arch::x86_64::*;

use super::vectors::{Vectors, WithVectors};

/// Proof that the processor has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2(());

/// Proof that the processor also has AVX-512 VNNI, for vectors of 32 bytes too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(Avx2);

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let has_it = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has_it.then_some(Self(()))
    }

    #[inline(always)]
    pub(super) fn run<Op: WithVectors>(self, op: Op) {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn run<Op: WithVectors>(avx2: Avx2, op: Op) {
            op.run(X86(avx2));
        }
        // SAFETY: an `Avx2` exists only if the processor has the instructions.
        unsafe { run(self, op) }
    }
}

impl Avx512Vnni {
    pub(super) fn detect() -> Option<Self> {
        let has_it = is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw");
        has_it.then(Avx2::detect).flatten().map(Self)
    }

    #[inline(always)]
    pub(super) fn run<Op: WithVectors>(self, op: Op) {
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
        fn run<Op: WithVectors>(vnni: Avx512Vnni, op: Op) {
            op.run(X86(vnni));
        }
        // SAFETY: an `Avx512Vnni` exists only if the processor has the instructions.
        unsafe { run(self, op) }
    }
}

/// The instructions that differ between the levels.
pub(super) trait Dots: Copy {
    fn dots(self, unsigned: __m256i, signed: __m256i) -> __m256i;
}

impl Dots for Avx2 {
    #[inline(always)]
    fn dots(self, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: an `Avx2` exists only if the processor has the instructions. Sums of two products of at most 128
        // and 127 fit 16 bits.
        unsafe { _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1)) }
    }
}

impl Dots for Avx512Vnni {
    #[inline(always)]
    fn dots(self, unsigned: __m256i, signed: __m256i) -> __m256i {
        // SAFETY: an `Avx512Vnni` exists only if the processor has the instructions.
        unsafe { _mm256_dpbusd_epi32(_mm256_setzero_si256(), unsigned, signed) }
    }
}

/// Vectors of AVX2, with the dot products of a level.
#[derive(Clone, Copy)]
pub(super) struct X86<D>(D);

#[inline(always)]
fn splat(byte: u8) -> __m256i {
    // SAFETY: called by `X86` only, which exists only if the processor has AVX2.
    unsafe { _mm256_set1_epi8(byte.cast_signed()) }
}

#[inline(always)]
fn load_bytes<T>(bytes: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: as above; the array is as long as the vector.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline(always)]
fn load_half<T>(values: &T) -> __m128i {
    const { assert!(size_of::<T>() == 16) };
    // SAFETY: as above; the value is as long as the vector.
    unsafe { _mm_loadu_si128(std::ptr::from_ref(values).cast()) }
}

// Each method is inlined into the `run` of a level, where the instructions are enabled.
impl<D: Dots> Vectors for X86<D> {
    type Bytes = __m256i;
    type Ints = __m256i;
    type Floats = __m256;

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 32]) -> __m256i {
        load_bytes(bytes)
    }

    #[inline(always)]
    fn store_bytes(self, bytes: __m256i) -> [u8; 32] {
        let mut out = [0; 32];
        // SAFETY: an `X86` exists only if the processor has AVX2; the array is as long as the vector.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), bytes) };
        out
    }

    #[inline(always)]
    fn nibbles(self, bytes: &[u8; 16]) -> __m256i {
        let bytes = load_half(bytes);
        // SAFETY: an `X86` exists only if the processor has AVX2, FMA and F16C.
        unsafe { _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), splat(15)) }
    }

    #[inline(always)]
    fn bits(self, bits: [u8; 4], mask: u8) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let bits = _mm256_set1_epi32(i32::from_le_bytes(bits));
            let source = _mm256_set_epi64x(
                0x0303_0303_0303_0303,
                0x0202_0202_0202_0202,
                0x0101_0101_0101_0101,
                0x0000_0000_0000_0000,
            );
            let selected = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            let bits = _mm256_and_si256(_mm256_shuffle_epi8(bits, source), selected);
            _mm256_and_si256(_mm256_cmpeq_epi8(bits, selected), splat(mask))
        }
    }

    #[inline(always)]
    fn shifted_left<const N: i32>(self, bytes: __m256i, mask: u8) -> __m256i {
        debug_assert!(u32::from(mask) & ((1 << N) - 1) == 0, "bits of the next byte would be kept");
        // SAFETY: as above.
        unsafe { _mm256_and_si256(_mm256_slli_epi16::<N>(bytes), splat(mask)) }
    }

    #[inline(always)]
    fn shifted_right<const N: i32>(self, bytes: __m256i, mask: u8) -> __m256i {
        debug_assert!(u32::from(mask) << N <= 255, "bits of the next byte would be kept");
        // SAFETY: as above.
        unsafe { _mm256_and_si256(_mm256_srli_epi16::<N>(bytes), splat(mask)) }
    }

    #[inline(always)]
    fn or(self, x: __m256i, y: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_or_si256(x, y) }
    }

    #[inline(always)]
    fn dots(self, unsigned: __m256i, signed: &[i8; 32]) -> __m256i {
        self.0.dots(unsigned, load_bytes(signed))
    }

    #[inline(always)]
    fn signed_dots(self, x: &[i8; 32], y: &[i8; 32]) -> __m256i {
        let (x, y) = (load_bytes(x), load_bytes(y));
        // SAFETY: as above.
        unsafe { self.0.dots(_mm256_abs_epi8(x), _mm256_sign_epi8(y, x)) }
    }

    #[inline(always)]
    fn floats(self, ints: __m256i) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_cvtepi32_ps(ints) }
    }

    #[inline(always)]
    fn load(self, values: &[f32; 8]) -> __m256 {
        // SAFETY: as above; the array is as long as the vector.
        unsafe { _mm256_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: __m256) -> [f32; 8] {
        let mut out = [0.0; 8];
        // SAFETY: as above; the array is as long as the vector.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), values) };
        out
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn u8s(self, values: [u8; 8]) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_set1_epi64x(i64::from_le_bytes(values)))) }
    }

    #[inline(always)]
    fn i8s(self, values: [i8; 8]) -> __m256 {
        let values = i64::from_le_bytes(values.map(i8::cast_unsigned));
        // SAFETY: as above.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_set1_epi64x(values))) }
    }

    #[inline(always)]
    fn f16s(self, halves: [[u8; 2]; 8]) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_cvtph_ps(load_half(&halves)) }
    }

    #[inline(always)]
    fn bf16s(self, halves: [[u8; 2]; 8]) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(&halves)), 16)) }
    }

    #[inline(always)]
    fn spread<const N: i32>(self, values: __m256) -> __m256 {
        let (first, second) = (2 * N, 2 * N + 1);
        // SAFETY: as above.
        unsafe {
            let source = _mm256_setr_epi32(first, first, first, first, second, second, second, second);
            _mm256_permutevar8x32_ps(values, source)
        }
    }

    #[inline(always)]
    fn mul(self, x: __m256, y: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_mul_ps(x, y) }
    }

    #[inline(always)]
    fn add(self, x: __m256, y: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(x, y) }
    }

    #[inline(always)]
    fn mul_add(self, x: __m256, y: __m256, z: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(x, y, z) }
    }

    #[inline(always)]
    fn sum(self, values: __m256) -> f32 {
        // SAFETY: as above.
        unsafe {
            let sums = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
            let sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
            _mm_cvtss_f32(_mm_add_ss(sums, _mm_shuffle_ps(sums, sums, 1)))
        }
    }
}
