//! Vectors of 64 bytes, for products with many rows.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Integers and floats per vector.
pub(super) const LANES: usize = 16;

/// Instructions for integer tiles.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WideLevel {
    /// Without vector instructions; used in tests only, since products in f32 are faster.
    #[cfg(test)]
    Portable,
    /// No integer tiles.
    None,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
}

impl WideLevel {
    pub(crate) fn has_tiles(self) -> bool {
        !matches!(self, Self::None)
    }

    #[inline(always)]
    pub(super) fn run<Op: WithWide>(self, op: Op) {
        match self {
            #[cfg(test)]
            Self::Portable => op.run(Portable),
            Self::None => unreachable!("there are no integer tiles"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(vnni) => vnni.run(op),
        }
    }
}

/// Code that is compiled for each level.
pub(super) trait WithWide {
    fn run<W: Wide>(self, w: W);
}

/// Vectors of 64 bytes, 16 integers and 16 floats. Methods are inlined into code in which the instructions are enabled.
pub(super) trait Wide: Copy {
    type Bytes: Copy;
    type Ints: Copy;
    type Floats: Copy;

    fn bytes(self, bytes: &[u8; 4 * LANES]) -> Self::Bytes;
    fn zero_ints(self) -> Self::Ints;

    /// The primitive: adds to each integer the dot product of four unsigned bytes with `signed`.
    fn add_dots(self, sums: Self::Ints, unsigned: Self::Bytes, signed: [i8; 4]) -> Self::Ints;

    fn floats(self, ints: Self::Ints) -> Self::Floats;
    fn zeros(self) -> Self::Floats;
    fn load(self, values: &[f32; LANES]) -> Self::Floats;
    fn store(self, values: Self::Floats) -> [f32; LANES];
    fn splat(self, value: f32) -> Self::Floats;
    fn mul(self, x: Self::Floats, y: Self::Floats) -> Self::Floats;
    fn mul_add(self, x: Self::Floats, y: Self::Floats, z: Self::Floats) -> Self::Floats;
}

/// Plain Rust.
#[cfg(test)]
#[derive(Clone, Copy)]
pub(super) struct Portable;

#[cfg(test)]
impl Wide for Portable {
    type Bytes = [u8; 4 * LANES];
    type Ints = [i32; LANES];
    type Floats = [f32; LANES];

    fn bytes(self, bytes: &[u8; 4 * LANES]) -> Self::Bytes {
        *bytes
    }

    fn zero_ints(self) -> Self::Ints {
        [0; LANES]
    }

    fn add_dots(self, sums: Self::Ints, unsigned: Self::Bytes, signed: [i8; 4]) -> Self::Ints {
        let dot =
            |i: usize| (0..4).map(|j| i32::from(unsigned[4 * i + j]) * i32::from(signed[j])).sum::<i32>();
        std::array::from_fn(|i| sums[i] + dot(i))
    }

    fn floats(self, ints: Self::Ints) -> Self::Floats {
        ints.map(|int| int as f32)
    }

    fn zeros(self) -> Self::Floats {
        [0.0; LANES]
    }

    fn load(self, values: &[f32; LANES]) -> Self::Floats {
        *values
    }

    fn store(self, values: Self::Floats) -> [f32; LANES] {
        values
    }

    fn splat(self, value: f32) -> Self::Floats {
        [value; LANES]
    }

    fn mul(self, x: Self::Floats, y: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| x[i] * y[i])
    }

    fn mul_add(self, x: Self::Floats, y: Self::Floats, z: Self::Floats) -> Self::Floats {
        std::array::from_fn(|i| x[i] * y[i] + z[i])
    }
}

/// Proof that the processor has AVX-512 VNNI.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512Vnni(());

#[cfg(target_arch = "x86_64")]
impl Avx512Vnni {
    pub(super) fn detect() -> Option<Self> {
        let has_it = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni");
        has_it.then_some(Self(()))
    }

    #[inline(always)]
    fn run<Op: WithWide>(self, op: Op) {
        #[target_feature(enable = "avx512f,avx512vnni")]
        fn run<Op: WithWide>(vnni: Avx512Vnni, op: Op) {
            op.run(vnni);
        }
        // SAFETY: an `Avx512Vnni` exists only if the processor has the instructions.
        unsafe { run(self, op) }
    }
}

// Each method is inlined into `Avx512Vnni::run`, where the instructions are enabled.
#[cfg(target_arch = "x86_64")]
impl Wide for Avx512Vnni {
    type Bytes = __m512i;
    type Ints = __m512i;
    type Floats = __m512;

    #[inline(always)]
    fn bytes(self, bytes: &[u8; 4 * LANES]) -> __m512i {
        // SAFETY: an `Avx512Vnni` exists only if the processor has the instructions; the array is as long as the vector.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn zero_ints(self) -> __m512i {
        // SAFETY: as above.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn add_dots(self, sums: __m512i, unsigned: __m512i, signed: [i8; 4]) -> __m512i {
        let signed = i32::from_le_bytes(signed.map(i8::cast_unsigned));
        // SAFETY: as above.
        unsafe { _mm512_dpbusd_epi32(sums, unsigned, _mm512_set1_epi32(signed)) }
    }

    #[inline(always)]
    fn floats(self, ints: __m512i) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_cvtepi32_ps(ints) }
    }

    #[inline(always)]
    fn zeros(self) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    fn load(self, values: &[f32; LANES]) -> __m512 {
        // SAFETY: as above; the array is as long as the vector.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, values: __m512) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        // SAFETY: as above; the array is as long as the vector.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), values) };
        out
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn mul(self, x: __m512, y: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(x, y) }
    }

    #[inline(always)]
    fn mul_add(self, x: __m512, y: __m512, z: __m512) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(x, y, z) }
    }
}
