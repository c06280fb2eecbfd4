//! Layer norm and RMS norm over rows.

use super::{
    math::{sum, sum_pairs},
    parallel::{self, Buffer},
    simd_level::SimdLevel,
};

/// Layer norm or RMS norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NormKind {
    /// Subtracts the mean of a row ([Ba et al., 2016](https://arxiv.org/abs/1607.06450)).
    Layer,
    /// Does not subtract the mean ([Zhang and Sennrich, 2019](https://arxiv.org/abs/1910.07467)).
    Rms,
}

/// Rows per partial sum. It is fixed, so that a sum does not depend on the number of cores.
const ROWS: usize = 64;

/// Row statistics for the backward pass, two for each row: the mean (0 in RMS norm) and `1 / √(variance + ε)`.
pub type Moments = Vec<f32>;

/// `(x - mean) / √(variance + ε) · gain + offset` for each row, and its [`Moments`]. RMS norm takes the mean as 0. The
/// offset may be empty.
pub fn forward(
    level: SimdLevel,
    kind: NormKind,
    x: &[f32],
    gain: &[f32],
    offset: &[f32],
    epsilon: f32,
) -> (Vec<f32>, Moments) {
    let width = gain.len();
    let n_rows = x.len() / width;
    assert_eq!(x.len(), n_rows * width, "{} elements do not split into rows of {width}", x.len());
    let (mut y, mut moments) = (Buffer::new(x.len()), Buffer::new(2 * n_rows));
    let (shared_y, shared_moments) = (y.shared(), moments.shared());
    parallel::pieces(n_rows, 1, width, |rows| {
        let range = rows.start * width..rows.end * width;
        // SAFETY: pieces do not overlap.
        let (y, moments) =
            unsafe { (shared_y.zeroed(range.clone()), shared_moments.zeroed(2 * rows.start..2 * rows.end)) };
        level.vectorize(
            #[inline(always)]
            || {
                let rows = x[range.clone()].chunks_exact(width).zip(y.chunks_exact_mut(width));
                for ((x, y), moments) in rows.zip(moments.as_chunks_mut::<2>().0) {
                    let mean = match kind {
                        NormKind::Layer => sum(x, |x| x) / width as f32,
                        NormKind::Rms => 0.0,
                    };
                    let mean_square = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
                    let scale = 1.0 / (mean_square + epsilon).sqrt();
                    *moments = [mean, scale];
                    if offset.is_empty() {
                        for ((y, x), gain) in y.iter_mut().zip(x).zip(gain) {
                            *y = (x - mean) * scale * gain;
                        }
                    } else {
                        for (((y, x), gain), offset) in y.iter_mut().zip(x).zip(gain).zip(offset) {
                            *y = (x - mean) * scale * gain + offset;
                        }
                    }
                }
            },
        );
    });
    // SAFETY: the pieces cover all rows.
    unsafe { (y.finish(), moments.finish()) }
}

/// The gradients of `x`, the gain and the offset, given `d_y`, the gradient of the output.
pub fn backward(
    level: SimdLevel,
    kind: NormKind,
    x: &[f32],
    gain: &[f32],
    moments: &[f32],
    d_y: &[f32],
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let width = gain.len();
    let n_rows = x.len() / width;
    assert_eq!(x.len(), n_rows * width, "{} elements do not split into rows of {width}", x.len());
    let n_pieces = n_rows.div_ceil(ROWS);
    let (mut d_x, mut sums) = (Buffer::new(x.len()), Buffer::new(n_pieces * 2 * width));
    let (shared_d_x, shared_sums) = (d_x.shared(), sums.shared());
    parallel::each(n_pieces, |piece| {
        let rows = piece * ROWS..((piece + 1) * ROWS).min(n_rows);
        let range = rows.start * width..rows.end * width;
        // SAFETY: pieces do not overlap.
        let (d_x, sums) = unsafe {
            (shared_d_x.zeroed(range.clone()), shared_sums.zeroed(2 * piece * width..2 * (piece + 1) * width))
        };
        let (d_gain, d_offset) = sums.split_at_mut(width);
        level.vectorize(
            #[inline(always)]
            || {
                let inputs = x[range.clone()].chunks_exact(width).zip(d_y[range.clone()].chunks_exact(width));
                let moments = moments[2 * rows.start..2 * rows.end].as_chunks::<2>().0;
                for (((x, d_y), d_x), &[mean, scale]) in inputs.zip(d_x.chunks_exact_mut(width)).zip(moments)
                {
                    let d_gains = d_gain.iter_mut().zip(&mut *d_offset);
                    for ((((d_gain, d_offset), d_x), (x, d_y)), gain) in
                        d_gains.zip(&mut *d_x).zip(x.iter().zip(d_y)).zip(gain)
                    {
                        *d_gain += d_y * (x - mean) * scale;
                        *d_offset += d_y;
                        *d_x = d_y * gain;
                    }
                    // With g the gradient of the normalised row n: (g - mean(g) - n · mean(g · n)) · scale. RMS
                    // norm has no second term.
                    let mean_term = match kind {
                        NormKind::Layer => sum(d_x, |d_x| d_x) / width as f32,
                        NormKind::Rms => 0.0,
                    };
                    let along = sum_pairs(d_x, x, |d_x, x| d_x * (x - mean)) / width as f32;
                    let scale_term = along * scale * scale;
                    for (d_x, x) in d_x.iter_mut().zip(x) {
                        *d_x = (*d_x - mean_term - (x - mean) * scale_term) * scale;
                    }
                }
            },
        );
    });
    // SAFETY: the pieces cover all rows, and each has its sums.
    let (d_x, sums) = unsafe { (d_x.finish(), sums.finish()) };
    let mut total = vec![0.0; 2 * width];
    for sums in sums.chunks_exact(2 * width) {
        for (total, sum) in total.iter_mut().zip(sums) {
            *total += sum;
        }
    }
    let d_offset = total.split_off(width);
    (d_x, total, d_offset)
}
