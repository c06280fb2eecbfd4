//! Linear layers, fused with the operations that follow while rows are in cache.
//!
//! A forward pass takes the weight as a list of blocks side by side, each `[in, out]`.

use std::ops::Range;

use super::{
    activation::Activation,
    addend::Addend,
    dropout::Mask,
    factor::Factor,
    gemm::{add_product, product},
    math,
    matrix::Matrix,
    parallel,
    parallel::Buffer,
    quantised::{self, Activations, QuantRows},
    simd_level::SimdLevel,
    skinny,
};

/// Rows per partial sum. It is fixed, so that a sum does not depend on the number of cores.
const ROWS: usize = 64;

/// The parameters of a layer.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    /// None is [`Factor::Quantised`]: those of a layer are [`Factor::Transposed`].
    pub weights: &'a [Factor<'a>],
    /// May be empty.
    pub bias: &'a [f32],
    /// Low-rank updates of the product with the weights.
    pub updates: Option<&'a Addend<'a>>,
}

/// `x · weights + bias`; the bias may be empty.
///
/// # Panics
///
/// If a factor is [`Factor::Quantised`].
pub fn forward(level: SimdLevel, x: Matrix<'_>, weights: &[Factor<'_>], bias: &[f32]) -> Vec<f32> {
    forward_layer(level, x, Layer { weights, bias, updates: None })
}

/// `x · weights + updates + bias`.
pub fn forward_layer(level: SimdLevel, x: Matrix<'_>, layer: Layer<'_>) -> Vec<f32> {
    finished_rows(level, x, layer, |_, row| {
        level.vectorize(
            #[inline(always)]
            || add(row, layer.bias),
        )
    })
}

/// `residual + dropout(x · weights + updates + bias)`.
pub fn forward_residual(
    level: SimdLevel,
    x: Matrix<'_>,
    layer: Layer<'_>,
    residual: &[f32],
    mask: Option<Mask>,
) -> Vec<f32> {
    let width = width_of(layer.weights);
    let finish = |idx: usize, row: &mut [f32]| {
        level.vectorize(
            #[inline(always)]
            || {
                add(row, layer.bias);
                if let Some(mask) = mask {
                    mask.apply(idx as u64, row);
                }
                add(row, &residual[idx * width..(idx + 1) * width]);
            },
        );
    };
    finished_rows(level, x, layer, finish)
}

/// `activation(x · weights + updates + bias)`; with `backward`, also the activation's derivatives, by which the
/// backward pass multiplies.
pub fn forward_activated(
    level: SimdLevel,
    x: Matrix<'_>,
    layer: Layer<'_>,
    activation: Activation,
    backward: bool,
) -> (Vec<f32>, Option<Vec<f32>>) {
    if !backward && activation.n_inputs() == 1 {
        let y = finished_rows(level, x, layer, |_, row| {
            level.vectorize(
                #[inline(always)]
                || {
                    add(row, layer.bias);
                    activate(row, activation);
                },
            );
        });
        return (y, None);
    }
    let width = width_of(layer.weights) / activation.n_inputs();
    let mut y = Buffer::new(x.rows() * width);
    let shared = y.shared();
    let derivatives = finished_rows(level, x, layer, |idx, row| {
        // SAFETY: each row is finished once.
        let y = unsafe { shared.zeroed(idx * width..(idx + 1) * width) };
        level.vectorize(
            #[inline(always)]
            || {
                add(row, layer.bias);
                activate_with_derivatives(row, y, activation);
            },
        );
    });
    // SAFETY: every row has been finished.
    (unsafe { y.finish() }, backward.then_some(derivatives))
}

/// `x · weights + updates`; `finish` receives each row with its index.
fn finished_rows(
    level: SimdLevel,
    x: Matrix<'_>,
    Layer { weights, updates, .. }: Layer<'_>,
    finish: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let width = width_of(weights);
    let finish = |rows: Range<usize>, values: &mut [f32]| {
        if let Some(updates) = updates {
            updates.add(level, rows.clone(), values, width);
        }
        for (row, values) in rows.zip(values.chunks_exact_mut(width.max(1))) {
            finish(row, values);
        }
    };
    let mut y = match weights {
        _ if x.rows() <= skinny::max_rows(level) => skinny::product(level, x, weights),
        [weight] if tiles(level, weight).is_none() => return product(level, x, *weight, finish),
        _ => side_by_side(level, x, weights),
    };
    let shared = parallel::Shared::new(&mut y);
    parallel::pieces(x.rows(), 1, width, |rows| {
        // SAFETY: pieces do not overlap.
        finish(rows.clone(), unsafe { shared.part(rows.start * width..rows.end * width) });
    });
    y
}

/// The weight, if integer tiles multiply it.
fn tiles<'a>(level: SimdLevel, weight: &Factor<'a>) -> Option<QuantRows<'a>> {
    match weight {
        Factor::Transposed(w) if quantised::has_tiles(level.int8().wide(), w.format()) => Some(*w),
        _ => None,
    }
}

/// The products with each block of the weight, concatenated along the columns.
fn side_by_side(level: SimdLevel, x: Matrix<'_>, weights: &[Factor<'_>]) -> Vec<f32> {
    let width = width_of(weights);
    let mut y = Buffer::new(x.rows() * width);
    let shared = y.shared();
    let mut activations = None;
    let mut start = 0;
    for weight in weights {
        if let Some(w) = tiles(level, weight) {
            let activations = activations.get_or_insert_with(|| Activations::new(level, x));
            quantised::multiply_many(level, activations, w, shared, start, width);
        } else {
            let part = product(level, x, *weight, |_, _| {});
            let n = weight.cols();
            parallel::pieces(x.rows(), 1, n, |rows| {
                for row in rows {
                    // SAFETY: neither rows nor the columns of weights overlap.
                    let y = unsafe { shared.zeroed(row * width + start..row * width + start + n) };
                    y.copy_from_slice(&part[row * n..(row + 1) * n]);
                }
            });
        }
        start += weight.cols();
    }
    // SAFETY: the weights cover all columns of every row.
    unsafe { y.finish() }
}

fn width_of(weights: &[Factor<'_>]) -> usize {
    weights.iter().map(Factor::cols).sum()
}

/// Applies an elementwise activation in place.
#[inline(always)]
fn activate(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => values.iter_mut().for_each(|x| *x = math::gelu(*x)),
        Activation::GeluTanh => values.iter_mut().for_each(|x| *x = math::gelu_tanh(*x)),
        Activation::Relu2 => values.iter_mut().for_each(|x| *x = x.max(0.0) * x.max(0.0)),
        Activation::Swiglu => unreachable!("SwiGLU is not elementwise"),
    }
}

/// Writes the activation of a row to `y`, and replaces the row by the derivatives.
#[inline(always)]
fn activate_with_derivatives(values: &mut [f32], y: &mut [f32], activation: Activation) {
    match activation {
        Activation::Gelu => {
            for (x, y) in values.iter_mut().zip(y) {
                (*y, *x) = math::gelu_and_derivative(*x);
            }
        }
        Activation::GeluTanh => {
            for (x, y) in values.iter_mut().zip(y) {
                (*y, *x) = math::gelu_tanh_and_derivative(*x);
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
                let (silu, derivative) = math::silu_and_derivative(*gate);
                (*y, *gate, *up) = (silu * *up, derivative * *up, silu);
            }
        }
    }
}

/// Turns derivatives into the gradient of the activation's input, given `d_y`, the gradient of its output with rows of
/// `width` elements.
pub fn backward_activated(
    level: SimdLevel,
    derivatives: &mut [f32],
    d_y: &[f32],
    width: usize,
    activation: Activation,
) {
    let n_inputs = activation.n_inputs();
    assert_eq!(d_y.len() * n_inputs, derivatives.len(), "derivatives and gradient differ in size");
    let shared = parallel::Shared::new(derivatives);
    parallel::pieces(d_y.len() / width.max(1), 1, 2 * n_inputs * width, |rows| {
        // SAFETY: pieces do not overlap.
        let derivatives = unsafe { shared.part(rows.start * n_inputs * width..rows.end * n_inputs * width) };
        let d_y = &d_y[rows.start * width..rows.end * width];
        level.vectorize(
            #[inline(always)]
            || {
                for (derivatives, d_y) in
                    derivatives.chunks_exact_mut(n_inputs * width).zip(d_y.chunks_exact(width))
                {
                    for derivatives in derivatives.chunks_exact_mut(width) {
                        derivatives.iter_mut().zip(d_y).for_each(|(derivative, d_y)| *derivative *= d_y);
                    }
                }
            },
        );
    });
}

/// Applies a dropout mask to all rows.
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

/// The gradient of `x`, given the gradient of `x · weights`, plus `updates`.
///
/// # Panics
///
/// If there is no weight.
pub fn backward_input(
    level: SimdLevel,
    weights: &[Factor<'_>],
    d_y: Matrix<'_>,
    updates: Option<&Addend<'_>>,
) -> Vec<f32> {
    let mut start = 0;
    let mut parts = weights.iter().map(|weight| {
        start += weight.cols();
        (d_y.col_range(start - weight.cols()..start), weight.transposed())
    });
    let (d_y, weight) = parts.next().expect("a layer has a weight");
    let width = weight.cols();
    let mut d_x = product(level, d_y, weight, |rows, values| {
        if let Some(updates) = updates {
            updates.add(level, rows, values, width);
        }
    });
    for (d_y, weight) in parts {
        add_product(level, d_y, weight, &mut d_x);
    }
    d_x
}

/// The gradient of `weight`, given the gradient of `x · weightᵀ`.
pub fn backward_weight(level: SimdLevel, x: Matrix<'_>, d_y: Matrix<'_>) -> Vec<f32> {
    product(level, d_y.transposed(), x, |_, _| {})
}

/// The sum of all rows, which is the gradient of a bias.
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

/// Adds `other` to `values`; an empty `other` changes nothing.
#[inline(always)]
fn add(values: &mut [f32], other: &[f32]) {
    for (value, other) in values.iter_mut().zip(other) {
        *value += other;
    }
}
