//! Checks of stored scales.

use bytemuck::AnyBitPattern;
use pulp::{Arch, Simd, WithSimd};

use crate::half_float::{bf16_is_finite, f16_is_finite};
use crate::{Format, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0};

/// Blocks that are checked without a branch.
const CHUNK: usize = 256;

impl Format {
    /// The index of the first block of `bytes` with an infinite or NaN scale or minimum; for `f16` and `bf16`, of the
    /// first such value. If there is none, [`Self::unpack`] gives finite values only.
    ///
    /// # Panics
    ///
    /// If `bytes` is not a whole number of blocks.
    pub fn first_bad_scale(self, bytes: &[u8]) -> Option<usize> {
        assert_eq!(bytes.len() % self.block_bytes(), 0, "{} bytes in {self}", bytes.len());
        Arch::new().dispatch(FirstBad { format: self, bytes })
    }
}

pub(crate) struct FirstBad<'a> {
    pub(crate) format: Format,
    pub(crate) bytes: &'a [u8],
}

impl WithSimd for FirstBad<'_> {
    type Output = Option<usize>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Option<usize> {
        let Self { format, bytes } = self;
        match format {
            Format::F16 => first(bytes, |half: &[u8; 2]| !f16_is_finite(*half)),
            Format::BF16 => first(bytes, |half: &[u8; 2]| !bf16_is_finite(*half)),
            Format::Q4_0 => first(bytes, |block: &Q4_0| !f16_is_finite(block.scale)),
            Format::Q4_1 => first(bytes, |block: &Q4_1| !both_finite(block.scale, block.min)),
            Format::Q5_0 => first(bytes, |block: &Q5_0| !f16_is_finite(block.scale)),
            Format::Q5_1 => first(bytes, |block: &Q5_1| !both_finite(block.scale, block.min)),
            Format::Q8_0 => first(bytes, |block: &Q8_0| !f16_is_finite(block.scale)),
            Format::Q4K => first(bytes, |block: &Q4_K| !both_finite(block.scale, block.min)),
            Format::Q5K => first(bytes, |block: &Q5_K| !both_finite(block.scale, block.min)),
            Format::Q6K => first(bytes, |block: &Q6_K| !f16_is_finite(block.scale)),
        }
    }
}

#[inline(always)]
fn both_finite(scale: [u8; 2], min: [u8; 2]) -> bool {
    f16_is_finite(scale) & f16_is_finite(min)
}

#[inline(always)]
fn first<B: AnyBitPattern>(bytes: &[u8], is_bad: impl Fn(&B) -> bool) -> Option<usize> {
    let blocks: &[B] = bytemuck::cast_slice(bytes);
    for (chunk_idx, chunk) in blocks.chunks(CHUNK).enumerate() {
        if chunk.iter().fold(false, |any, block| any | is_bad(block)) {
            return chunk.iter().position(is_bad).map(|idx| chunk_idx * CHUNK + idx);
        }
    }
    None
}
