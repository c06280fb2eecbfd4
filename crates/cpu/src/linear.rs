//! Affine maps, with what commonly follows one done while its rows are in cache.
//!
//! The weight of a forward pass is a list of blocks side by side, each `[in, out]` with rows or columns contiguous.

use super::{
    activation::Activation, dropout::Mask, gemm::product, math, matrix::Matrix, parallel, parallel::Buffer,
    simd_level::SimdLevel, skinny,
};

/// Rows whose sums are added up together, whatever the number of cores.
const ROWS: usize = 64;

/// `x · weights + bias`. An empty bias is none.
pub fn forward(level: SimdLevel, x: Matrix<'_>, weights: &[Matrix<'_>], bias: &[f32]) -> Vec<f32> {
    rows_finished(level, x, weights, |_, row| {
        level.vectorize(
            #[inline(always)]
            || add(row, bias),
        )
    })
}

/// `residual + dropout(x · weights + bias)`. An empty bias is none.
pub fn forward_onto(
    level: SimdLevel,
    x: Matrix<'_>,
    weights: &[Matrix<'_>],
    bias: &[f32],
    residual: &[f32],
    mask: Option<Mask>,
) -> Vec<f32> {
    let width = width_of(weights);
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
    rows_finished(level, x, weights, finish)
}

/// The activation of `x · weights + bias`; with `backward` also its slopes there, by which the backward pass
/// multiplies. An empty bias is none.
pub fn forward_activated(
    level: SimdLevel,
    x: Matrix<'_>,
    weights: &[Matrix<'_>],
    bias: &[f32],
    activation: Activation,
    backward: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    if !backward && activation.n_inputs() == 1 {
        let y = rows_finished(level, x, weights, |_, row| {
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
    let width = width_of(weights) / activation.n_inputs();
    let mut y = Buffer::new(x.rows() * width);
    let shared = y.shared();
    let slopes = rows_finished(level, x, weights, |idx, row| {
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
    (unsafe { y.finish() }, backward.then_some(slopes))
}

/// `x · weights`, of which `finish` gets each row, with its index.
fn rows_finished(
    level: SimdLevel,
    x: Matrix<'_>,
    weights: &[Matrix<'_>],
    finish: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let width = width_of(weights);
    let mut y = if x.rows() <= skinny::max_rows(level) {
        skinny::product(level, x, weights)
    } else if let [weight] = weights {
        return product(level, x, *weight, finish);
    } else {
        side_by_side(level, x, weights)
    };
    let shared = parallel::Shared::new(&mut y);
    parallel::pieces(x.rows(), 1, width, |rows| {
        for row in rows {
            // SAFETY: rows do not overlap.
            finish(row, unsafe { shared.part(row * width..(row + 1) * width) });
        }
    });
    y
}

/// The products with each of the weights, side by side in each row.
fn side_by_side(level: SimdLevel, x: Matrix<'_>, weights: &[Matrix<'_>]) -> Vec<f32> {
    let parts: Vec<_> =
        weights.iter().map(|weight| (product(level, x, *weight, |_, _| {}), weight.cols())).collect();
    let width = width_of(weights);
    parallel::fill(x.rows() * width, width, 1, |range, y| {
        for (row, y) in (range.start / width..).zip(y.chunks_exact_mut(width)) {
            let mut rest = y;
            for (part, width) in &parts {
                let (y, after) = rest.split_at_mut(*width);
                y.copy_from_slice(&part[row * width..(row + 1) * width]);
                rest = after;
            }
        }
    })
}

fn width_of(weights: &[Matrix<'_>]) -> usize {
    weights.iter().map(Matrix::cols).sum()
}

/// Replaces each number by its activation, one of a single number.
#[inline(always)]
fn activate(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => values.iter_mut().for_each(|x| *x = math::gelu(*x)),
        Activation::GeluTanh => values.iter_mut().for_each(|x| *x = math::gelu_tanh(*x)),
        Activation::Relu2 => values.iter_mut().for_each(|x| *x = x.max(0.0) * x.max(0.0)),
        Activation::Swiglu => unreachable!("it is one of two numbers"),
    }
}

/// Puts the activation of a row into `y`, and its slope where each number was.
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
        Activation::Relu2 => {
            for (x, y) in values.iter_mut().zip(y) {
                let positive = x.max(0.0);
                (*y, *x) = (positive * positive, 2.0 * positive);
            }
        }
        Activation::Swiglu => {
            let (gates, ups) = values.split_at_mut(y.len());
            for ((gate, up), y) in gates.iter_mut().zip(ups).zip(y) {
                let (silu, slope) = math::silu_and_slope(*gate);
                (*y, *gate, *up) = (silu * *up, slope * *up, silu);
            }
        }
    }
}

/// Makes slopes into the gradient of what a map makes, from that of its activation, whose rows are `width` long.
pub fn backward_activated(
    level: SimdLevel,
    slopes: &mut [f32],
    d_y: &[f32],
    width: usize,
    activation: Activation,
) {
    let n_inputs = activation.n_inputs();
    assert_eq!(d_y.len() * n_inputs, slopes.len(), "each number has its slopes");
    let shared = parallel::Shared::new(slopes);
    parallel::pieces(d_y.len() / width.max(1), 1, 2 * n_inputs * width, |rows| {
        // SAFETY: pieces do not overlap.
        let slopes = unsafe { shared.part(rows.start * n_inputs * width..rows.end * n_inputs * width) };
        let d_y = &d_y[rows.start * width..rows.end * width];
        level.vectorize(
            #[inline(always)]
            || {
                for (slopes, d_y) in slopes.chunks_exact_mut(n_inputs * width).zip(d_y.chunks_exact(width)) {
                    for slopes in slopes.chunks_exact_mut(width) {
                        slopes.iter_mut().zip(d_y).for_each(|(slope, d_y)| *slope *= d_y);
                    }
                }
            },
        );
    });
}

/// Multiplies each row by its dropout mask.
pub fn drop_rows(level: SimdLevel, values: &mut [f32], width: usize, mask: Mask) {
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

/// The gradient of `x` from that of `x · weightᵀ`.
pub fn backward_input(level: SimdLevel, weight: Matrix<'_>, d_y: Matrix<'_>) -> Vec<f32> {
    product(level, d_y, weight, |_, _| {})
}

/// The gradient of `weight` from that of `x · weightᵀ`.
pub fn backward_weight(level: SimdLevel, x: Matrix<'_>, d_y: Matrix<'_>) -> Vec<f32> {
    product(level, d_y.transposed(), x, |_, _| {})
}

/// The sum of all rows of `width`, which is the gradient of a bias.
pub fn sum_rows(level: SimdLevel, values: &[f32], width: usize) -> Vec<f32> {
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
