//! Cross-entropy loss of the output head, without materialising all logits.
//!
//! Rows are processed in chunks, whose logits are transposed, `[V, n]`. The head's weight, the largest matrix of a
//! small model, is then the left operand of every product and is read in place.

use super::{
    gemm::{add_product, product},
    math::exp,
    matrix::Matrix,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Maximum logits of a chunk: 64 MiB.
const MAX_LOGITS: usize = 1 << 24;

/// Columns of transposed logits per task.
const COLS: usize = 64;

/// Rows of transposed logits per partial sum of exponentials.
const BLOCK: usize = 256;

/// A loss and, if requested, its gradients.
pub struct Loss {
    /// The mean over all rows of `-ln softmax(logits)[target]`.
    pub mean: f32,
    /// The gradients of the hidden rows, `[N, C]`, and of the weight, `[V, C]`.
    pub gradients: Option<(Vec<f32>, Vec<f32>)>,
}

/// The mean loss of `hidden`, `[N, C]`, for a head with weight `[V, C]`; with `backward`, also its gradients.
pub fn loss(level: SimdLevel, hidden: &[f32], weight: Matrix<'_>, targets: &[usize], backward: bool) -> Loss {
    let (n_vocab, width) = (weight.rows(), weight.cols());
    let n_rows = targets.len();
    // Even chunks of whole panels.
    let max_rows = (MAX_LOGITS / n_vocab / COLS).max(1) * COLS;
    let chunk = n_rows.div_ceil(n_rows.div_ceil(max_rows).max(1)).max(1).next_multiple_of(COLS);
    let mut sum = 0.0;
    let mut d_hidden = Vec::with_capacity(if backward { hidden.len() } else { 0 });
    let mut d_weight = if backward { vec![0.0; n_vocab * width] } else { Vec::new() };
    for (hidden, targets) in hidden.chunks(chunk * width).zip(targets.chunks(chunk)) {
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

/// The sum of the losses of the columns of logits `[V, n]`. With `backward`, replaces the logits by the gradients of
/// the mean over `n_total`.
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
        // SAFETY: pieces have disjoint columns, and their rows do not overlap.
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
                // Long f32 sums lose precision, so sums of blocks are added.
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

/// Transposes `[n_rows, n_cols]` to `[n_cols, n_rows]`.
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
