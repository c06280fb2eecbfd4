//! Head counts of attention; QK norm and RoPE of one head's queries or keys.

use super::rope::RopeAngles;
use super::{
    math::{sum, sum_pairs},
    matrix::Matrix,
    simd_level::SimdLevel,
};

/// The head counts, RoPE and QK norm of an attention layer.
#[derive(Debug, Clone)]
pub struct HeadLayout {
    /// Query heads, H.
    pub n_head: usize,
    /// Key/value heads, KV.
    pub n_kv_head: usize,
    pub rope: Option<RopeAngles>,
    /// Added to the mean square in QK norm.
    pub epsilon: f32,
}

impl HeadLayout {
    /// The transforms of queries and of keys, given the gains of their norms.
    pub(super) fn qk_transforms<'a>(&'a self, gains: [&'a [f32]; 2]) -> [QkTransform<'a>; 2] {
        let Self { epsilon, ref rope, .. } = *self;
        gains.map(|gain| QkTransform { gain, epsilon, rope: rope.as_ref() })
    }
}

/// QK norm and RoPE of queries or of keys.
#[derive(Clone, Copy)]
pub(super) struct QkTransform<'a> {
    /// Gain of the RMS norm over each head, `[D]`; empty without QK norm.
    pub(super) gain: &'a [f32],
    pub(super) epsilon: f32,
    pub(super) rope: Option<&'a RopeAngles>,
}

impl QkTransform<'_> {
    fn is_identity(&self) -> bool {
        self.gain.is_empty() && self.rope.is_none()
    }

    /// Transforms rows `[n, D]` of one head, the first at position `first`. The result is in `buffer`, or is `rows` if
    /// there is neither QK norm nor RoPE.
    pub(super) fn forward<'m>(
        &self,
        level: SimdLevel,
        rows: Matrix<'m>,
        first: usize,
        buffer: &'m mut Vec<f32>,
    ) -> Matrix<'m> {
        if self.is_identity() {
            return rows;
        }
        let width = rows.cols();
        buffer.resize(rows.rows() * width, 0.0);
        level.vectorize(
            #[inline(always)]
            || {
                for (idx, out) in buffer.chunks_exact_mut(width).enumerate() {
                    out.copy_from_slice(rows.row(idx));
                    if !self.gain.is_empty() {
                        let scale = self.scale(out);
                        out.iter_mut().zip(self.gain).for_each(|(x, gain)| *x *= scale * gain);
                    }
                    if let Some(rope) = self.rope {
                        let (cosines, sines) = rope.at(first + idx);
                        let (a, b) = out.split_at_mut(width / 2);
                        for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cosines).zip(sines) {
                            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                        }
                    }
                }
            },
        );
        Matrix::new(buffer, rows.rows(), width)
    }

    /// Turns `d_rows`, the gradients of transformed rows, into the gradients of `rows`. Adds the gain's gradient to
    /// `d_gain`.
    pub(super) fn backward(
        &self,
        level: SimdLevel,
        rows: Matrix<'_>,
        first: usize,
        d_rows: &mut [f32],
        d_gain: &mut [f32],
    ) {
        if self.is_identity() {
            return;
        }
        let width = rows.cols();
        level.vectorize(
            #[inline(always)]
            || {
                for (idx, d_row) in d_rows.chunks_exact_mut(width).enumerate() {
                    if let Some(rope) = self.rope {
                        let (cosines, sines) = rope.at(first + idx);
                        let (a, b) = d_row.split_at_mut(width / 2);
                        for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cosines).zip(sines) {
                            (*a, *b) = (*a * cos + *b * sin, *b * cos - *a * sin);
                        }
                    }
                    if self.gain.is_empty() {
                        continue;
                    }
                    let row = rows.row(idx);
                    let scale = self.scale(row);
                    for (((d_gain, d), x), gain) in d_gain.iter_mut().zip(&mut *d_row).zip(row).zip(self.gain)
                    {
                        *d_gain += *d * x * scale;
                        *d *= gain;
                    }
                    // As in the backward pass of an RMS norm.
                    let along = sum_pairs(d_row, row, |d, x| d * x) / width as f32 * scale * scale;
                    for (d, x) in d_row.iter_mut().zip(row) {
                        *d = (*d - x * along) * scale;
                    }
                }
            },
        );
    }

    /// `1 / √(mean square + ε)` of a row.
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        1.0 / (sum(row, |x| x * x) / row.len() as f32 + self.epsilon).sqrt()
    }
}
