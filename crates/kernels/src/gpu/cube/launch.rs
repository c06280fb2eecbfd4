//! Launch geometry, and tensors as kernel arguments.

use burn::{
    backend::{TensorMetadata, cubecl::dtype_to_storage_type},
    prelude::Shape,
    tensor::DType,
};
use burn_cubecl::{
    kernel::into_contiguous,
    ops::numeric::{empty_device_contiguous_dtype, empty_device_dtype},
    tensor::CubeTensor,
};
use cpu::Precision;
use cubecl::prelude::*;

use crate::gpu::primitive::operand_type;

/// Units of a cube, the most that WebGPU guarantees.
const MAX_UNITS: u32 = 256;

/// Cubes along an axis of the grid, the most that WebGPU guarantees.
const MAX_CUBES: usize = 65_535;

/// Maximum elements of a tensor.
const MAX_LENGTH: usize = 1 << 31;

/// A number of cubes and their units.
pub(super) struct Geometry {
    pub(super) cubes: CubeCount,
    pub(super) cube: CubeDim,
    pub(super) n_units: usize,
}

impl Geometry {
    /// A unit for each of `n` elements. The last cubes may have units beyond them.
    pub(super) fn elements(n: usize) -> Self {
        Self::cubes(n.div_ceil(MAX_UNITS as usize), MAX_UNITS)
    }

    /// A cube for each of `n_rows` rows with this many columns; a power of two of units. The last cubes may be beyond the
    /// rows.
    pub(super) fn rows(n_rows: usize, n_columns: usize) -> Self {
        let n_units = u32::try_from(n_columns).unwrap_or(MAX_UNITS).next_power_of_two().clamp(32, MAX_UNITS);
        Self::cubes(n_rows, n_units)
    }

    /// A group of `width` units, a power of two, for each of `n_rows` rows, with at most `max_cubes` cubes. The last cubes may
    /// be beyond the rows.
    pub(super) fn groups(n_rows: usize, width: usize, max_cubes: usize) -> Self {
        let rows_per_cube = MAX_UNITS as usize / width;
        Self::cubes(n_rows.div_ceil(rows_per_cube).min(max_cubes), MAX_UNITS)
    }

    /// The width of a group for rows with this many columns.
    pub(super) fn group_width(n_columns: usize) -> usize {
        n_columns.next_power_of_two().min(MAX_UNITS as usize)
    }

    fn cubes(n: usize, n_units: u32) -> Self {
        let x = n.clamp(1, MAX_CUBES);
        let [x, y] = [x, n.div_ceil(x).max(1)].map(|n| u32::try_from(n).expect("a grid has fewer cubes"));
        Self { cubes: CubeCount::Static(x, y, 1), cube: CubeDim::new_1d(n_units), n_units: n_units as usize }
    }
}

/// # Panics
///
/// If the kernels can't index this many elements: their indices are `u32`, and loops go beyond the end by one round.
fn check_length(n: usize) {
    assert!(
        n <= MAX_LENGTH,
        "a tensor of {n} elements is beyond the 2^31 of GPU kernels; a smaller micro-batch has smaller tensors"
    );
}

/// A new tensor without padding, beside `x`.
pub(super) fn empty(x: &CubeTensor, shape: Shape, dtype: DType) -> CubeTensor {
    check_length(shape.num_elements());
    empty_device_contiguous_dtype(x.client.clone(), x.device.clone(), shape, dtype)
}

/// A new tensor of operands beside `x`, without padding.
pub(super) fn empty_operand(x: &CubeTensor, shape: Shape, precision: Precision) -> CubeTensor {
    empty(x, shape, operand_type(precision).into())
}

/// A new matrix of operands beside `x`, whose rows may be padded for products.
pub(super) fn empty_padded(x: &CubeTensor, shape: Shape, precision: Precision) -> CubeTensor {
    let x = empty_device_dtype(x.client.clone(), x.device.clone(), shape, operand_type(precision).into());
    check_length(x.shape()[0] * x.meta.strides()[0]);
    x
}

/// The tensor without padding or another order of axes.
pub(super) fn contiguous(x: CubeTensor) -> CubeTensor {
    check_length(x.shape().num_elements());
    into_contiguous(x)
}

/// The kernel argument of an optional tensor, without padding.
pub(super) fn present(x: CubeTensor, is_present: bool) -> ComptimeOptionArgs<Box<[f32]>> {
    is_present.then(|| contiguous(x).into_buffer_arg()).into()
}

/// The tensor without padding, in a buffer that no other tensor uses.
pub(super) fn reusable(x: CubeTensor) -> CubeTensor {
    contiguous(if x.can_mut() { x } else { x.copy() })
}

/// A matrix whose elements of a row are consecutive, and the elements from one row to the next.
pub(super) fn strided_rows(x: CubeTensor) -> (CubeTensor, usize) {
    let is_by_rows = x.meta.strides()[1] == 1;
    let x = if is_by_rows { x } else { into_contiguous(x) };
    let stride = x.meta.strides()[0];
    check_length(x.shape()[0] * stride);
    (x, stride)
}

pub(super) fn element(x: &CubeTensor) -> ElemType {
    dtype_to_storage_type(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_beyond_the_indices_are_refused() {
        check_length(MAX_LENGTH);
        let refused = std::panic::catch_unwind(|| check_length(MAX_LENGTH + 1));
        let message = *refused.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("a tensor of 2147483649 elements"), "{message}");
    }
}
