//! Memory-mapped weights.

use burn::{
    prelude::*,
    tensor::{AllocationProperty, Bytes, DType},
};
use formats::weights::{Maps, Result, Tensor as FileTensor};
use kernels::{RowBlock, RowBlocks, WeightOrder};

/// A tensor backed by the mapped file. `None` if it has to be read.
///
/// # Errors
///
/// If the file can't be mapped, or a value is not finite.
pub(crate) fn mapped_tensor<const D: usize>(
    stored: &FileTensor,
    maps: &mut Maps,
    device: &Device,
) -> Result<Option<Tensor<D>>> {
    let Some(mapped) = stored.mapped(maps)? else { return Ok(None) };
    let bytes = Bytes::from_shared(mapped, AllocationProperty::File);
    let data = TensorData::from_bytes(bytes, stored.shape().to_vec(), DType::F32);
    Ok(Some(Tensor::from_data(data, device)))
}

/// The weight of a linear layer backed by the mapped file; the tensors are groups of its rows. `None` if one has to be
/// read.
///
/// # Errors
///
/// As [`mapped_tensor`].
pub(crate) fn mapped_row_blocks(
    parts: &[FileTensor],
    is_transposed: bool,
    maps: &mut Maps,
) -> Result<Option<RowBlocks>> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let [first, second] = [part.shape()[0], part.shape()[1]];
        let (dims, order) = if is_transposed {
            ([second, first], WeightOrder::InOut)
        } else {
            ([first, second], WeightOrder::OutIn)
        };
        let Some(mapped) = part.mapped(maps)? else { return Ok(None) };
        let Some(block) = RowBlock::new(mapped, dims, order) else { return Ok(None) };
        blocks.push(block);
    }
    Ok(Some(RowBlocks::new(blocks)))
}
