//! Weights that stay in their memory-mapped file, and weights quantised as they are loaded.

use burn::{
    prelude::*,
    tensor::{AllocationProperty, Bytes, DType},
};
use formats::weights::{Maps, Stored, Tensor as FileTensor};
use kernels::{RowBlock, RowBlocks, WeightOrder};
use quant::Format;
use rayon::prelude::*;

use crate::{Error, Result};

/// A weight in its mapped file.
#[expect(clippy::large_enum_variant, reason = "a short-lived result")]
pub(crate) enum Mapped<const D: usize> {
    /// In the layout of its parameter.
    Tensor(Tensor<D>),
    Blocks(RowBlocks),
}

/// A parameter as its file has it, if the file has it in types that `accepts` allows (`None` is f32). Several tensors
/// are groups of the rows of a matrix. `None` if one has to be read.
///
/// # Errors
///
/// If a file can't be mapped, or a value is not finite.
pub(crate) fn mapped<const D: usize>(
    parts: &[FileTensor],
    is_transposed: bool,
    accepts: impl Fn(Option<Format>) -> bool,
    maps: &mut Maps,
    device: &Device,
) -> Result<Option<Mapped<D>>> {
    let mut stored = Vec::with_capacity(parts.len());
    for part in parts {
        match part.stored(maps)? {
            Some(it) if accepts(it.format) => stored.push(it),
            _ => return Ok(None),
        }
    }
    if let ([part], [Stored { bytes, format: None, is_transposed: false }]) = (parts, &stored[..])
        && !is_transposed
    {
        let bytes = Bytes::from_shared(bytes.clone(), AllocationProperty::File);
        let data = TensorData::from_bytes(bytes, part.shape().to_vec(), DType::F32);
        return Ok(Some(Mapped::Tensor(Tensor::from_data(data, device))));
    }
    if D != 2 {
        return Ok(None);
    }
    let blocks = parts.iter().zip(stored).map(|(part, stored)| match stored.format {
        Some(format) => packed_block(stored, format, part.shape(), is_transposed),
        None => f32_block(stored, part.shape(), is_transposed),
    });
    Ok(blocks.collect::<Option<_>>().map(|blocks| Mapped::Blocks(RowBlocks::new(blocks))))
}

/// Quantises the weight of a linear layer or an embedding; the tensors are groups of its rows. `format` returns the
/// format of a part with rows of a length, or `None` for f32.
///
/// # Errors
///
/// If a tensor can't be read, or has a value that the format can't represent.
pub(crate) fn quantised_row_blocks(
    parts: &[FileTensor],
    is_transposed: bool,
    maps: &mut Maps,
    format: impl Fn(usize, usize) -> Option<Format>,
) -> Result<RowBlocks> {
    let mut blocks = Vec::with_capacity(parts.len());
    for (idx, part) in parts.iter().enumerate() {
        let dims @ [_, n_in] = dims_of(part.shape(), is_transposed);
        let format = format(idx, n_in);
        // Weights that already have the format are used where they lie. Those in f32 are not looked at in a map, whose
        // pages would count as memory.
        if let Some(format) = format
            && !part.is_mappable()
            && let Some(stored) = part.stored(maps)?
            && stored.format == Some(format)
            && let Some(block) = packed_block(stored, format, part.shape(), is_transposed)
        {
            blocks.push(block);
            continue;
        }
        let values = part.read()?;
        let values = if is_transposed { transposed(&values, dims) } else { values };
        blocks.push(match format {
            Some(format) => {
                let bytes = quantised(&values, n_in, format).map_err(|idx| Error::Unrepresentable {
                    path: part.path().to_owned(),
                    name: part.name().to_owned(),
                    value: values[idx],
                    format,
                })?;
                RowBlock::quantised(bytes.into(), dims, format)
            }
            None => RowBlock::from_vec(values, dims),
        });
    }
    Ok(RowBlocks::new(blocks))
}

/// Quantises rows of `n_in` values on all cores. The error is the index of a value that the format can't represent.
fn quantised(values: &[f32], n_in: usize, format: Format) -> Result<Vec<u8>, usize> {
    let rows = values.par_chunks(n_in.max(1)).enumerate().map(|(row, values)| {
        let mut bytes = Vec::with_capacity(format.row_bytes(n_in));
        format.pack(values, &mut bytes).map_err(|idx| row * n_in + idx)?;
        Ok(bytes)
    });
    Ok(rows.collect::<Result<Vec<_>, usize>>()?.concat())
}

/// `None` if the values are not aligned.
fn f32_block(stored: Stored, shape: &[usize], is_transposed: bool) -> Option<RowBlock> {
    let order = if is_transposed == stored.is_transposed { WeightOrder::OutIn } else { WeightOrder::InOut };
    RowBlock::new(stored.bytes, dims_of(shape, is_transposed), order)
}

/// `None` for the transpose of blocks of several values.
fn packed_block(stored: Stored, format: Format, shape: &[usize], is_transposed: bool) -> Option<RowBlock> {
    let dims = dims_of(shape, is_transposed);
    let bytes = if is_transposed == stored.is_transposed {
        stored.bytes
    } else {
        let (halves, rest) = stored.bytes.as_chunks::<2>();
        if format.block_len() > 1 || !rest.is_empty() {
            return None;
        }
        transposed(halves, dims).into_flattened().into()
    };
    Some(RowBlock::quantised(bytes, dims, format))
}

/// `[C_out, C_in]` of a tensor that is a weight or its transpose.
fn dims_of(shape: &[usize], is_transposed: bool) -> [usize; 2] {
    if is_transposed { [shape[1], shape[0]] } else { [shape[0], shape[1]] }
}

/// `[n_out, n_in]`, given `[n_in, n_out]`.
fn transposed<T: Copy>(values: &[T], [n_out, _]: [usize; 2]) -> Vec<T> {
    (0..n_out).flat_map(|out| values[out..].iter().step_by(n_out)).copied().collect()
}
