//! Cross-entropy loss of the output head, without materialising all logits.
//!
//! Rows are processed in chunks, whose logits are transposed, `[V, n]`. The head's weight, the largest matrix of a
//! small model, is then the left operand of every product and is read in place. A weight in blocks is read piece by
//! piece, and quantised values are unpacked.

use std::ops::Range;

use super::{
    factor::Factor,
    gemm::{add_product, product},
    math::exp,
    matrix::Matrix,
    parallel::{self, Shared},
    simd_level::SimdLevel,
};

/// Maximum logits of a chunk: 64 MiB.
const MAX_LOGITS: usize = 1 << 24;

/// Values of a weight in blocks that are unpacked together: 8 MiB.
const PIECE: usize = 1 << 21;

/// Columns of transposed logits per task.
const COLS: usize = 64;

/// Rows of transposed logits per partial sum of exponentials.
const BLOCK: usize = 256;

/// The gradients of a loss that are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gradients {
    None,
    /// The gradient of the hidden rows.
    Hidden,
    /// The gradients of the hidden rows and of the weight.
    All,
}

/// A loss and the requested gradients.
pub struct Loss {
    /// The mean over all rows of `-ln softmax(logits)[target]`, or the sum of these with the weights of the rows.
    pub value: f32,
    /// `[N, C]`
    pub d_hidden: Option<Vec<f32>>,
    /// `[V, C]`
    pub d_weight: Option<Vec<f32>>,
}

/// The loss of `hidden`, `[N, C]`, for a head whose weight is blocks side by side, `[C, V]` together. It is the sum with
/// `row_weights`, `[N]`, or without them the mean.
///
/// # Panics
///
/// If there is no block, or rows and their weights differ in number.
pub fn loss(
    level: SimdLevel,
    hidden: &[f32],
    weight: &[Factor<'_>],
    targets: &[usize],
    row_weights: Option<&[f32]>,
    gradients: Gradients,
) -> Loss {
    let n_vocab: usize = weight.iter().map(Factor::cols).sum();
    let width = weight.first().expect("a head has a weight").rows();
    let backward = gradients != Gradients::None;
    let n_rows = targets.len();
    let ones = row_weights.is_none().then(|| vec![1.0; n_rows]);
    let row_weights = row_weights.or(ones.as_deref()).unwrap_or_default();
    assert_eq!(row_weights.len(), n_rows, "each row has a weight");
    let divisor = if ones.is_some() { n_rows as f32 } else { 1.0 };
    // Even chunks of whole panels.
    let max_rows = (MAX_LOGITS / n_vocab / COLS).max(1) * COLS;
    let chunk = n_rows.div_ceil(n_rows.div_ceil(max_rows).max(1)).max(1).next_multiple_of(COLS);
    let mut sum = 0.0;
    let mut d_hidden = backward.then(|| Vec::with_capacity(hidden.len()));
    let mut d_weight = (gradients == Gradients::All).then(|| vec![0.0; n_vocab * width]);
    let rows = targets.chunks(chunk).zip(row_weights.chunks(chunk));
    for (hidden, (targets, row_weights)) in hidden.chunks(chunk * width).zip(rows) {
        let n = targets.len();
        let rows = Matrix::new(hidden, n, width);
        let mut logits = logits(level, weight, rows); // [V, n]
        sum += softmax_loss(level, &mut logits, (targets, row_weights), divisor, backward);
        let d_logits = Matrix::new(&logits, n_vocab, n);
        if let Some(d_hidden) = &mut d_hidden {
            d_hidden.extend(transpose(&backward_hidden(level, weight, d_logits), width, n));
        }
        if let Some(d_weight) = &mut d_weight {
            add_product(level, d_logits, rows, d_weight); // [V, C]
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the loss is f32")]
    let value = (sum / f64::from(divisor)) as f32;
    Loss { value, d_hidden, d_weight }
}

/// The transposed logits of some hidden rows, `[V, n]`.
fn logits(level: SimdLevel, weight: &[Factor<'_>], rows: Matrix<'_>) -> Vec<f32> {
    if let [Factor::Dense(weight)] = weight {
        return product(level, weight.transposed(), rows.transposed(), |_, _| {});
    }
    let n = rows.rows();
    let n_vocab: usize = weight.iter().map(Factor::cols).sum();
    let mut logits = vec![0.0; n_vocab * n];
    each_piece(weight, |range, piece| {
        add_product(level, piece, rows.transposed(), &mut logits[range.start * n..range.end * n]);
    });
    logits
}

/// The transposed gradients of some hidden rows, `[C, n]`, given the gradients of their logits, `[V, n]`.
fn backward_hidden(level: SimdLevel, weight: &[Factor<'_>], d_logits: Matrix<'_>) -> Vec<f32> {
    if let [Factor::Dense(weight)] = weight {
        return product(level, *weight, d_logits, |_, _| {});
    }
    let mut d_hidden = vec![0.0; weight.first().map_or(0, Factor::rows) * d_logits.cols()];
    each_piece(weight, |range, piece| {
        add_product(level, piece.transposed(), d_logits.row_range(range), &mut d_hidden);
    });
    d_hidden
}

/// Calls `task` with pieces of the transposed weight, `[rows, C]` each, and their rows.
fn each_piece(weight: &[Factor<'_>], mut task: impl FnMut(Range<usize>, Matrix<'_>)) {
    let mut first = 0;
    for factor in weight {
        let (n_rows, width) = (factor.cols(), factor.rows());
        match factor {
            Factor::Dense(block) => task(first..first + n_rows, block.transposed()),
            Factor::Transposed(w) | Factor::Quantised(w) => {
                let piece = (PIECE / width.max(1)).max(1);
                for start in (0..n_rows).step_by(piece) {
                    let rows = start..(start + piece).min(n_rows);
                    let values = parallel::fill(rows.len() * width, width, 4, |range, out| {
                        let first = rows.start + range.start / width;
                        for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
                            w.unpack(row, 0..width, out);
                        }
                    });
                    let piece = Matrix::new(&values, rows.len(), width);
                    task(first + rows.start..first + rows.end, piece);
                }
            }
        }
        first += n_rows;
    }
}

/// The weighted sum of the losses of the columns of logits `[V, n]`, given the targets and weights of the columns. With
/// `backward`, replaces the logits by the gradients of the sum over `divisor`.
fn softmax_loss(
    level: SimdLevel,
    logits: &mut [f32],
    (targets, weights): (&[usize], &[f32]),
    divisor: f32,
    backward: bool,
) -> f64 {
    let n = targets.len();
    let n_vocab = logits.len() / n;
    let shared = Shared::new(logits);
    parallel::sum_pieces(n, COLS, |cols| {
        let (targets, weights) = (&targets[cols.clone()], &weights[cols.clone()]);
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
                    let mut scales = [0.0; COLS];
                    for ((scale, weight), sum) in scales.iter_mut().zip(weights).zip(&sums) {
                        *scale = weight / (sum * divisor);
                    }
                    for row in 0..n_vocab {
                        for (x, scale) in column(row).iter_mut().zip(&scales) {
                            *x *= scale;
                        }
                    }
                }
            },
        );
        if backward {
            for (i, (&target, weight)) in targets.iter().zip(weights).enumerate() {
                column(target)[i] -= weight / divisor;
            }
        }
        let losses = target_logits.iter().zip(&largest).zip(&sums);
        let losses = losses.map(|((logit, largest), sum)| f64::from(sum.ln()) + f64::from(largest - logit));
        losses.zip(weights).map(|(loss, &weight)| f64::from(weight) * loss).sum()
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
