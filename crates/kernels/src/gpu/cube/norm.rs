//! Layer norm and RMS norm; a cube normalises whole rows.

use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps},
    prelude::Shape,
    tensor::DType,
};
use burn_cubecl::{CubeBackend, tensor::CubeTensor};
use cpu::{NormKind, Precision};
use cubecl::prelude::*;

use super::{
    launch::{Geometry, contiguous, element, empty, empty_operand},
    reduce::cube_sum,
};

/// Maximum cubes of the backward pass. Each sums the gradients of the gain over its rows.
const MAX_PARTS: usize = 512;

/// The mean of a row, or 0 for RMS norm, and the factor to a mean square of 1.
#[cube]
fn moments(
    x: &[f32],
    start: usize,
    n_columns: usize,
    epsilon: f32,
    shared: &mut Shared<[f32]>,
    #[comptime] centres: bool,
) -> (f32, f32) {
    let mut mean = f32::new(0.0);
    if centres {
        let mut sum = f32::new(0.0);
        let mut column = UNIT_POS as usize;
        while column < n_columns {
            sum += x[start + column];
            column += CUBE_DIM as usize;
        }
        mean = cube_sum(sum, shared) / n_columns as f32;
    }
    let mut squares = f32::new(0.0);
    let mut column = UNIT_POS as usize;
    while column < n_columns {
        let centred = x[start + column] - mean;
        squares += centred * centred;
        column += CUBE_DIM as usize;
    }
    let mean_square = cube_sum(squares, shared) / n_columns as f32;
    (mean, f32::new(1.0) / (mean_square + epsilon).sqrt())
}

/// A row per cube.
#[cube(launch)]
fn rows_kernel<O: Float>(
    x: &[f32],
    gain: &[f32],
    y: &mut [O],
    n_rows: usize,
    n_columns: usize,
    epsilon: f32,
    #[comptime] centres: bool,
    #[comptime] n_units: usize,
    #[define(O)] _type: ElemType,
) {
    let row = CUBE_POS;
    if row >= n_rows {
        terminate!();
    }
    let start = row * n_columns;
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let (mean, factor) = moments(x, start, n_columns, epsilon, &mut shared, centres);
    let mut column = UNIT_POS as usize;
    while column < n_columns {
        y[start + column] = O::cast_from((x[start + column] - mean) * factor * gain[column]);
        column += CUBE_DIM as usize;
    }
}

/// Every row whose index is that of the cube, modulo the number of cubes.
#[cube(launch)]
fn gradients_kernel<I: Float>(
    x: &[f32],
    gain: &[f32],
    d_y: &[I],
    d_x: &mut [f32],
    d_gains: &mut [f32],
    n_rows: usize,
    n_columns: usize,
    epsilon: f32,
    #[comptime] centres: bool,
    #[comptime] n_units: usize,
    #[define(I)] _type: ElemType,
) {
    let part = CUBE_POS * n_columns;
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let mut row = CUBE_POS;
    while row < n_rows {
        let start = row * n_columns;
        let (mean, factor) = moments(x, start, n_columns, epsilon, &mut shared, centres);
        let mut along = f32::new(0.0);
        let mut offset = f32::new(0.0);
        let mut column = UNIT_POS as usize;
        while column < n_columns {
            let scaled = f32::cast_from(d_y[start + column]) * gain[column];
            along += scaled * (x[start + column] - mean) * factor;
            offset += scaled;
            column += CUBE_DIM as usize;
        }
        let along = cube_sum(along, &mut shared) / n_columns as f32;
        let mut offset_mean = f32::new(0.0);
        if centres {
            offset_mean = cube_sum(offset, &mut shared) / n_columns as f32;
        }
        let mut column = UNIT_POS as usize;
        while column < n_columns {
            let normed = (x[start + column] - mean) * factor;
            let d = f32::cast_from(d_y[start + column]);
            d_x[start + column] = factor * (d * gain[column] - normed * along - offset_mean);
            // Only this unit uses this element.
            let mut sum = d * normed;
            if row >= CUBE_COUNT {
                sum += d_gains[part + column];
            }
            d_gains[part + column] = sum;
            column += CUBE_DIM as usize;
        }
        row += CUBE_COUNT;
    }
}

pub(super) fn rows(
    x: CubeTensor,
    gain: CubeTensor,
    kind: NormKind,
    epsilon: f32,
    precision: Precision,
) -> CubeTensor {
    let [x, gain] = [x, gain].map(contiguous);
    let [n_rows, n_columns] = x.shape().dims();
    let y = empty_operand(&x, x.shape(), precision);
    let Geometry { cubes, cube, n_units } = Geometry::rows(n_rows, n_columns);
    let (client, element) = (x.client.clone(), element(&y));
    rows_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        gain.into_buffer_arg(),
        y.clone().into_buffer_arg(),
        n_rows,
        n_columns,
        epsilon,
        kind == NormKind::Layer,
        n_units,
        element,
    );
    y
}

pub(super) fn gradients(
    x: CubeTensor,
    gain: CubeTensor,
    d_y: CubeTensor,
    kind: NormKind,
    epsilon: f32,
) -> (CubeTensor, CubeTensor) {
    let [x, gain, d_y] = [x, gain, d_y].map(contiguous);
    let [n_rows, n_columns] = x.shape().dims();
    let n_parts = n_rows.clamp(1, MAX_PARTS);
    let d_x = empty(&x, x.shape(), DType::F32);
    let d_gains = empty(&x, Shape::new([n_parts, n_columns]), DType::F32);
    let Geometry { cubes, cube, n_units } = Geometry::rows(n_parts, n_columns);
    let (client, element) = (x.client.clone(), element(&d_y));
    gradients_kernel::launch(
        &client,
        cubes,
        cube,
        x.into_buffer_arg(),
        gain.into_buffer_arg(),
        d_y.into_buffer_arg(),
        d_x.clone().into_buffer_arg(),
        d_gains.clone().into_buffer_arg(),
        n_rows,
        n_columns,
        epsilon,
        kind == NormKind::Layer,
        n_units,
        element,
    );
    let d_gain = CubeBackend::float_sum_dim(d_gains, 0);
    (d_x, CubeBackend::float_reshape(d_gain, Shape::new([n_columns])))
}
