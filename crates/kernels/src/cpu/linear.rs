//! Affine maps, with what commonly follows one done while its rows are in cache.

use super::{
    dropout::Mask, gemm::product, level::Level, math, matrix::Matrix, parallel, parallel::Buffer, skinny,
};
use crate::Activation;

/// Rows whose sums are added up together, whatever the number of cores.
const ROWS: usize = 64;

/// `x · weight + bias`. An empty bias is none.
pub(crate) fn forward(level: Level, x: Matrix<'_>, weight: Matrix<'_>, bias: &[f32]) -> Vec<f32> {
    if x.rows() <= skinny::MAX_ROWS {
        let mut y = skinny::product(level, x, weight);
        for row in y.chunks_exact_mut(weight.cols()) {
            add(row, bias);
        }
        return y;
    }
    product(level, x, weight, |_, row| {
        level.vectorize(
            #[inline(always)]
            || add(row, bias),
        )
    })
}

/// `residual + dropout(x · weight + bias)`. An empty bias is none.
pub(crate) fn forward_onto(
    level: Level,
    x: Matrix<'_>,
    weight: Matrix<'_>,
    bias: &[f32],
    residual: &[f32],
    mask: Option<Mask>,
) -> Vec<f32> {
    let width = weight.cols();
    let finish = |idx: usize, row: &mut [f32]| {
        level.vectorize(
            #[inline(always)]
            || {
                add(row, bias);
                if let Some(mask) = mask {
                    mask.apply(idx as u64, row);
                }
                add(row, &residual[idx * width..(idx + 1) * width]);
            },
        );
    };
    if x.rows() <= skinny::MAX_ROWS {
        let mut y = skinny::product(level, x, weight);
        y.chunks_exact_mut(width).enumerate().for_each(|(idx, row)| finish(idx, row));
        return y;
    }
    product(level, x, weight, finish)
}

/// `x · weight + bias` and its activation. An empty bias is none.
pub(crate) fn forward_activated(
    level: Level,
    x: Matrix<'_>,
    weight: Matrix<'_>,
    bias: &[f32],
    activation: Activation,
) -> (Vec<f32>, Vec<f32>) {
    let width = weight.cols();
    let mut activated = Buffer::new(x.rows() * width);
    let shared = activated.shared();
    let finish = |idx: usize, row: &mut [f32]| {
        // SAFETY: each row is finished once.
        let out = unsafe { shared.zeroed(idx * width..(idx + 1) * width) };
        level.vectorize(
            #[inline(always)]
            || {
                add(row, bias);
                activate(row, out, activation);
            },
        );
    };
    let y = if x.rows() <= skinny::MAX_ROWS {
        let mut y = skinny::product(level, x, weight);
        y.chunks_exact_mut(width).enumerate().for_each(|(idx, row)| finish(idx, row));
        y
    } else {
        product(level, x, weight, finish)
    };
    // SAFETY: every row has been finished.
    (y, unsafe { activated.finish() })
}

/// The activation of each number of `x`, into `y`.
#[inline(always)]
fn activate(x: &[f32], y: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => {
            for (x, y) in x.iter().zip(y) {
                *y = math::gelu(*x);
            }
        }
        Activation::GeluTanh => {
            for (x, y) in x.iter().zip(y) {
                *y = math::gelu_tanh(*x);
            }
        }
    }
}

/// Multiplies the gradient of an activation's output by its slope at `x`.
pub(crate) fn activate_backward(level: Level, x: &[f32], d_y: &mut [f32], activation: Activation) {
    let shared = parallel::Shared::new(d_y);
    parallel::pieces(x.len(), 1, 4, |range| {
        // SAFETY: pieces do not overlap.
        let d_y = unsafe { shared.part(range.clone()) };
        let x = &x[range];
        level.vectorize(
            #[inline(always)]
            || match activation {
                Activation::Gelu => {
                    for (x, d) in x.iter().zip(&mut *d_y) {
                        *d *= math::gelu_slope(*x);
                    }
                }
                Activation::GeluTanh => {
                    for (x, d) in x.iter().zip(&mut *d_y) {
                        *d *= math::gelu_tanh_slope(*x);
                    }
                }
            },
        );
    });
}

/// Multiplies each row by its dropout mask.
pub(crate) fn drop_rows(level: Level, values: &mut [f32], width: usize, mask: Mask) {
    let shared = parallel::Shared::new(values);
    parallel::pieces(shared.len() / width, 1, width, |rows| {
        for row in rows {
            // SAFETY: rows do not overlap.
            let values = unsafe { shared.part(row * width..(row + 1) * width) };
            level.vectorize(
                #[inline(always)]
                || mask.apply(row as u64, values),
            );
        }
    });
}

/// The gradient of `x` from that of `x · weight`.
pub(crate) fn backward_input(level: Level, weight: Matrix<'_>, d_y: Matrix<'_>) -> Vec<f32> {
    product(level, d_y, weight.transposed(), |_, _| {})
}

/// The gradient of `weight` from that of `x · weight`.
pub(crate) fn backward_weight(level: Level, x: Matrix<'_>, d_y: Matrix<'_>) -> Vec<f32> {
    product(level, x.transposed(), d_y, |_, _| {})
}

/// The sum of all rows of `width`, which is the gradient of a bias.
pub(crate) fn sum_rows(level: Level, values: &[f32], width: usize) -> Vec<f32> {
    let n_pieces = values.len().div_ceil(ROWS * width);
    let sums = parallel::fill(n_pieces * width, width, ROWS, |range, sums| {
        let first = range.start / width;
        for (piece, sums) in sums.chunks_exact_mut(width).enumerate() {
            let start = (first + piece) * ROWS * width;
            let rows = &values[start..(start + ROWS * width).min(values.len())];
            level.vectorize(
                #[inline(always)]
                || {
                    for row in rows.chunks_exact(width) {
                        add(sums, row);
                    }
                },
            );
        }
    });
    let mut total = vec![0.0; width];
    sums.chunks_exact(width).for_each(|sums| add(&mut total, sums));
    total
}

/// Adds one slice to another; an empty one changes nothing.
#[inline(always)]
fn add(values: &mut [f32], other: &[f32]) {
    for (value, other) in values.iter_mut().zip(other) {
        *value += other;
    }
}
