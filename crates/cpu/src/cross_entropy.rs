//! The loss of the output head, without its logits.
//!
//! The logits of some rows at a time are made transposed, `[V, n]`: then the weight of the head, the largest
//! matrix of a small model, is the left factor of every product and is read where it lies.

use super::{
    gemm::{add_product, product},
    math::exp,
    matrix::Matrix,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Logits held at once, as numbers: 64 MiB.
const MAX_LOGITS: usize = 1 << 24;

/// Columns of transposed logits that a core goes down together.
const COLS: usize = 64;

/// Rows of transposed logits whose exponentials are added up together.
const BLOCK: usize = 256;

/// A loss, and its gradients where they were asked for.
pub struct Loss {
    /// The mean over all rows of `-ln softmax(logits)[target]`.
    pub mean: f32,
    /// The gradients of the hidden rows, `[N, C]`, and of the weight, `[V, C]`.
    pub gradients: Option<(Vec<f32>, Vec<f32>)>,
}

/// The mean loss of `hidden`, `[N, C]`, under a head of weight `[V, C]`, and with `backward` its gradients.
pub fn loss(level: SimdLevel, hidden: &[f32], weight: Matrix<'_>, targets: &[usize], backward: bool) -> Loss {
    let (n_vocab, width) = (weight.rows(), weight.cols());
    let n_rows = targets.len();
    // Parts of one size, of whole panels of the products.
    let most = (MAX_LOGITS / n_vocab / COLS).max(1) * COLS;
    let at_once = n_rows.div_ceil(n_rows.div_ceil(most).max(1)).max(1).next_multiple_of(COLS);
    let mut sum = 0.0;
    let mut d_hidden = Vec::with_capacity(if backward { hidden.len() } else { 0 });
    let mut d_weight = if backward { vec![0.0; n_vocab * width] } else { Vec::new() };
    for (hidden, targets) in hidden.chunks(at_once * width).zip(targets.chunks(at_once)) {
        let n = targets.len();
        let rows = Matrix::new(hidden, n, width);
        let mut logits = product(level, weight, rows.transposed(), |_, _| {}); // [V, n]
        sum += softmax_loss(level, &mut logits, targets, n_rows, backward);
        if backward {
            let d_logits = Matrix::new(&logits, n_vocab, n);
            let transposed = product(level, weight.transposed(), d_logits, |_, _| {}); // [C, n]
            d_hidden.extend(transpose(&transposed, width, n));
            add_product(level, d_logits, rows, &mut d_weight); // [V, C]
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loss is f32")]
    let mean = (sum / n_rows as f64) as f32;
    Loss { mean, gradients: backward.then_some((d_hidden, d_weight)) }
}

/// The sum of the losses of columns of logits `[V, n]`; with `backward`, these become the gradients of the
/// mean over `n_total`.
fn softmax_loss(
    level: SimdLevel,
    logits: &mut [f32],
    targets: &[usize],
    n_total: usize,
    backward: bool,
) -> f64 {
    let n = targets.len();
    let n_vocab = logits.len() / n;
    let shared = Shared::new(logits);
    parallel::sum_pieces(n, COLS, |cols| {
        let targets = &targets[cols.clone()];
        // SAFETY: pieces have their own columns, and rows of them do not overlap.
        let column = |row: usize| unsafe { shared.part(row * n + cols.start..row * n + cols.end) };
        let target_logits: Vec<f32> = targets.iter().enumerate().map(|(i, &t)| column(t)[i]).collect();
        let (mut largest, mut sums) = ([f32::NEG_INFINITY; COLS], [0.0_f32; COLS]);
        level.vectorize(
            #[inline(always)]
            || {
                for row in 0..n_vocab {
                    for (largest, &mut x) in largest.iter_mut().zip(column(row)) {
                        *largest = if x > *largest { x } else { *largest };
                    }
                }
                // Long sums of f32 lose digits: blocks of them are added up.
                for start in (0..n_vocab).step_by(BLOCK) {
                    let mut block = [0.0_f32; COLS];
                    for row in start..(start + BLOCK).min(n_vocab) {
                        for ((sum, x), largest) in block.iter_mut().zip(column(row)).zip(&largest) {
                            *x = exp(*x - largest);
                            *sum += *x;
                        }
                    }
                    for (sum, block) in sums.iter_mut().zip(&block) {
                        *sum += block;
                    }
                }
                if backward {
                    let scales = sums.map(|sum| 1.0 / (sum * n_total as f32));
                    for row in 0..n_vocab {
                        for (x, scale) in column(row).iter_mut().zip(&scales) {
                            *x *= scale;
                        }
                    }
                }
            },
        );
        if backward {
            for (i, &target) in targets.iter().enumerate() {
                column(target)[i] -= 1.0 / n_total as f32;
            }
        }
        let losses = target_logits.iter().zip(&largest).zip(&sums);
        losses.map(|((logit, largest), sum)| f64::from(sum.ln()) + f64::from(largest - logit)).sum()
    })
}

/// `[rows, cols]` as `[cols, rows]`.
fn transpose(x: &[f32], n_rows: usize, n_cols: usize) -> Vec<f32> {
    parallel::fill(x.len(), n_rows, 1, |range, out| {
        let first = range.start / n_rows;
        let n = range.len() / n_rows;
        for (row, x) in x.chunks_exact(n_cols).enumerate() {
            for (out, x) in out[row..].iter_mut().step_by(n_rows).zip(&x[first..first + n]) {
                *out = *x;
            }
        }
    })
}
