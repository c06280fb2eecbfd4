//! Weights that are used where they lie in a file.

use burn::{
    prelude::*,
    tensor::{AllocationProperty, Bytes, DType},
};
use formats::weights::{Maps, Result, Tensor as FileTensor};
use kernels::{Order, RowBlock, RowBlocks};

/// A tensor over the file. `None` if it has to be read.
///
/// # Errors
///
/// If the file can't be mapped, or a number is not finite.
pub(crate) fn tensor<const D: usize>(
    stored: &FileTensor,
    maps: &mut Maps,
    device: &Device,
) -> Result<Option<Tensor<D>>> {
    let Some(memory) = stored.mapped(maps)? else { return Ok(None) };
    let bytes = Bytes::from_shared(memory, AllocationProperty::File);
    let data = TensorData::from_bytes(bytes, stored.shape().to_vec(), DType::F32);
    Ok(Some(Tensor::from_data(data, device)))
}

/// The weight of a linear layer over the file, of tensors that are rows of it. `None` if one has to be read.
///
/// # Errors
///
/// As [`tensor`].
pub(crate) fn blocks(
    parts: &[FileTensor],
    is_transposed: bool,
    maps: &mut Maps,
) -> Result<Option<RowBlocks>> {
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let [first, second] = [part.shape()[0], part.shape()[1]];
        let (dims, order) =
            if is_transposed { ([second, first], Order::InOut) } else { ([first, second], Order::OutIn) };
        let Some(memory) = part.mapped(maps)? else { return Ok(None) };
        let Some(block) = RowBlock::new(memory, dims, order) else { return Ok(None) };
        blocks.push(block);
    }
    Ok(Some(RowBlocks::new(blocks)))
}
