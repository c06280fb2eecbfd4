//! Quantising.
//!
//! The formulas are those of ggml's `quantize_row_*_ref` (ggml-quants.c), without an importance matrix. All sums are in
//! its order, so the blocks are the same bit for bit.

mod block_256;
mod block_32;
mod halves;
mod lanes;
mod scale;
mod search;

use bytemuck::Pod;
use pulp::{Arch, Simd, WithSimd};

use crate::Format;

impl Format {
    /// Quantises `values`, a whole number of blocks, and appends the blocks to `bytes`.
    ///
    /// `f16` and `bf16` round to nearest, ties to even. The other formats are quantised like ggml's reference
    /// implementation.
    ///
    /// # Errors
    ///
    /// The index of a value that the format can't represent; `bytes` is then unchanged. For `f16` and `bf16`, this is a
    /// finite value that would become infinite. For the other formats, it is a NaN or infinity, or the largest value of
    /// a block whose scale would become infinite.
    ///
    /// # Panics
    ///
    /// If `values` is not a whole number of blocks.
    pub fn pack(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
        assert_eq!(values.len() % self.block_len(), 0, "{} values in {self}", values.len());
        let start = bytes.len();
        bytes.resize(start + self.row_bytes(values.len()), 0);
        let packed = Arch::new().dispatch(Pack { format: self, values, bytes: &mut bytes[start..] });
        if packed.is_err() {
            bytes.truncate(start);
        }
        packed
    }
}

pub(crate) struct Pack<'a> {
    pub(crate) format: Format,
    pub(crate) values: &'a [f32],
    pub(crate) bytes: &'a mut [u8],
}

impl WithSimd for Pack<'_> {
    type Output = Result<(), usize>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Result<(), usize> {
        let Self { format, values, bytes } = self;
        match format {
            Format::F16 => halves::pack_f16(values, bytes),
            Format::BF16 => halves::pack_bf16(values, bytes),
            Format::Q4_0 => pack_blocks(values, bytes, block_32::pack_q4_0),
            Format::Q4_1 => pack_blocks(values, bytes, block_32::pack_q4_1),
            Format::Q5_0 => pack_blocks(values, bytes, block_32::pack_q5_0),
            Format::Q5_1 => pack_blocks(values, bytes, block_32::pack_q5_1),
            Format::Q8_0 => pack_blocks(values, bytes, block_32::pack_q8_0),
            Format::Q4K => pack_blocks(values, bytes, block_256::pack_q4_k),
            Format::Q5K => pack_blocks(values, bytes, block_256::pack_q5_k),
            Format::Q6K => pack_blocks(values, bytes, block_256::pack_q6_k),
        }
    }
}

/// Packs blocks `B` of `N` values. The error of `pack` is an index in the block, that of this function one in `values`.
#[inline(always)]
fn pack_blocks<B: Pod, const N: usize>(
    values: &[f32],
    bytes: &mut [u8],
    pack: impl Fn(&[f32; N]) -> Result<B, usize>,
) -> Result<(), usize> {
    let blocks: &mut [B] = bytemuck::cast_slice_mut(bytes);
    for (block_idx, (block, values)) in blocks.iter_mut().zip(values.as_chunks().0).enumerate() {
        *block = pack(values).map_err(|idx| block_idx * N + idx)?;
    }
    Ok(())
}
