//! The cross-entropy loss and its gradient; a row of logits per cube.

use burn::{backend::TensorMetadata, prelude::Shape, tensor::DType};
use burn_cubecl::tensor::CubeTensor;
use cpu::Precision;
use cubecl::prelude::*;

use super::{
    launch::{Geometry, contiguous, element, empty, empty_padded, strided_rows},
    reduce::{cube_max, cube_sum},
};

/// Computes losses, and gradients in `d_logits` if they are wanted; otherwise it has one element.
#[cube(launch)]
fn losses_kernel<L: Float, T: Int, O: Float>(
    logits: &[L],
    targets: &[T],
    row_weights: &[f32],
    losses: &mut [f32],
    d_logits: &mut [O],
    n_rows: usize,
    n_vocab: usize,
    logits_stride: usize,
    gradients_stride: usize,
    #[comptime] has_gradients: bool,
    #[comptime] n_units: usize,
    #[define(L, T, O)] _types: [ElemType; 3],
) {
    let row = CUBE_POS;
    if row >= n_rows {
        terminate!();
    }
    let start = row * logits_stride;
    let mut shared = Shared::<[f32]>::new_slice(n_units);
    let mut largest = f32::cast_from(logits[start]);
    let mut column = UNIT_POS as usize;
    while column < n_vocab {
        largest = max(largest, f32::cast_from(logits[start + column]));
        column += CUBE_DIM as usize;
    }
    let largest = cube_max(largest, &mut shared);
    let mut sum = f32::new(0.0);
    let mut column = UNIT_POS as usize;
    while column < n_vocab {
        sum += (f32::cast_from(logits[start + column]) - largest).exp();
        column += CUBE_DIM as usize;
    }
    let sum = cube_sum(sum, &mut shared);
    let target = u32::cast_from(targets[row]) as usize;
    let weight = row_weights[row];
    if UNIT_POS == 0 {
        // The difference first: it is exact where the target is likely.
        losses[row] = weight * (sum.ln() - (f32::cast_from(logits[start + target]) - largest));
    }
    if has_gradients {
        let mut column = UNIT_POS as usize;
        while column < n_vocab {
            let mut gradient = (f32::cast_from(logits[start + column]) - largest).exp() / sum;
            if column == target {
                gradient -= f32::new(1.0);
            }
            d_logits[row * gradients_stride + column] = O::cast_from(weight * gradient);
            column += CUBE_DIM as usize;
        }
    }
}

fn launch(
    logits: CubeTensor,
    targets: CubeTensor,
    row_weights: CubeTensor,
    d_logits: Option<&CubeTensor>,
) -> CubeTensor {
    let (logits, logits_stride) = strided_rows(logits);
    let [targets, row_weights] = [targets, row_weights].map(contiguous);
    let [n_rows, n_vocab] = logits.shape().dims();
    let losses = empty(&logits, Shape::new([n_rows, 1]), DType::F32);
    let has_gradients = d_logits.is_some();
    let d_logits = d_logits.cloned().unwrap_or_else(|| empty(&logits, Shape::new([1, 1]), DType::F32));
    let gradients_stride = d_logits.meta.strides()[0];
    let Geometry { cubes, cube, n_units } = Geometry::rows(n_rows, n_vocab);
    let client = logits.client.clone();
    let types = [element(&logits), element(&targets), element(&d_logits)];
    losses_kernel::launch(
        &client,
        cubes,
        cube,
        logits.into_buffer_arg(),
        targets.into_buffer_arg(),
        row_weights.into_buffer_arg(),
        losses.clone().into_buffer_arg(),
        d_logits.into_buffer_arg(),
        n_rows,
        n_vocab,
        logits_stride,
        gradients_stride,
        has_gradients,
        n_units,
        types,
    );
    losses
}

pub(super) fn losses(logits: CubeTensor, targets: CubeTensor, row_weights: CubeTensor) -> CubeTensor {
    launch(logits, targets, row_weights, None)
}

pub(super) fn losses_with_gradients(
    logits: CubeTensor,
    targets: CubeTensor,
    row_weights: CubeTensor,
    precision: Precision,
) -> (CubeTensor, CubeTensor) {
    let d_logits = empty_padded(&logits, logits.shape(), precision);
    let losses = launch(logits, targets, row_weights, Some(&d_logits));
    (losses, d_logits)
}
