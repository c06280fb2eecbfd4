//! Affine maps, with what commonly follows one done while its rows are in cache.

use super::{
    dropout::Mask, gemm::product, level::Level, math, matrix::Matrix, parallel, parallel::Buffer, skinny,
};
use crate::Activation;

/// Rows whose sums are added up together, whatever the number of cores.
const ROWS: usize = 64;

/// `x · weight + bias`. An empty bias is none.
pub(crate) fn forward(level: Level, x: Matrix<'_>, weight: Matrix<'_>, bias: &[f32]) -> Vec<f32> {
    rows_finished(level, x, weight, |_, row| {
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
    rows_finished(level, x, weight, finish)
}

/// The activation of `x · weight + bias`; with `backward` also its slopes there, by which the backward pass
/// multiplies. An empty bias is none.
pub(crate) fn forward_activated(
    level: Level,
    x: Matrix<'_>,
    weight: Matrix<'_>,
    bias: &[f32],
    activation: Activation,
    backward: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    if !backward {
        let y = rows_finished(level, x, weight, |_, row| {
            level.vectorize(
                #[inline(always)]
                || {
                    add(row, bias);
                    activate(row, activation);
                },
            );
        });
        return (y, None);
    }
    let width = weight.cols();
    let mut y = Buffer::new(x.rows() * width);
    let shared = y.shared();
    let slopes = rows_finished(level, x, weight, |idx, row| {
        // SAFETY: each row is finished once.
        let y = unsafe { shared.zeroed(idx * width..(idx + 1) * width) };
        level.vectorize(
            #[inline(always)]
            || {
                add(row, bias);
                activate_with_slopes(row, y, activation);
            },
        );
    });
    // SAFETY: every row has been finished.
    (unsafe { y.finish() }, Some(slopes))
}

/// `x · weight`, of which `finish` gets each row, with its index.
fn rows_finished(
    level: Level,
    x: Matrix<'_>,
    weight: Matrix<'_>,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    if x.rows() > skinny::MAX_ROWS {
        return product(level, x, weight, finish);
    }
    let mut y = skinny::product(level, x, weight);
    y.chunks_exact_mut(weight.cols()).enumerate().for_each(|(idx, row)| finish(idx, row));
    y
}

/// Replaces each number by its activation.
#[inline(always)]
fn activate(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => values.iter_mut().for_each(|x| *x = math::gelu(*x)),
        Activation::GeluTanh => values.iter_mut().for_each(|x| *x = math::gelu_tanh(*x)),
    }
}

/// Puts the activation of each number into `y`, and its slope where the number was.
#[inline(always)]
fn activate_with_slopes(values: &mut [f32], y: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => {
            for (x, y) in values.iter_mut().zip(y) {
                (*y, *x) = math::gelu_and_slope(*x);
            }
        }
        Activation::GeluTanh => {
            for (x, y) in values.iter_mut().zip(y) {
                (*y, *x) = math::gelu_tanh_and_slope(*x);
            }
        }
    }
}

/// Multiplies each number by the other of its place.
pub(crate) fn multiply_by(level: Level, values: &mut [f32], factors: &[f32]) {
    assert_eq!(values.len(), factors.len(), "each number has its factor");
    let shared = parallel::Shared::new(values);
    parallel::pieces(factors.len(), 16, 2, |range| {
        // SAFETY: pieces do not overlap.
        let values = unsafe { shared.part(range.clone()) };
        level.vectorize(
            #[inline(always)]
            || {
                for (value, factor) in values.iter_mut().zip(&factors[range.clone()]) {
                    *value *= factor;
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
