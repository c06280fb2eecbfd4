//! The heads of attention; QK norm and RoPE of one head's queries or keys.

use super::rope::RopeAngles;
use super::{
    math::{sum, sum_pairs},
    matrix::Matrix,
    simd_level::SimdLevel,
};

/// The heads of an attention layer, and how their queries and keys are prepared.
#[derive(Debug, Clone)]
pub struct HeadLayout {
    /// Heads of queries, H.
    pub n_head: usize,
    /// Heads of keys and values, KV.
    pub n_kv_head: usize,
    /// Rotates queries and keys by their positions.
    pub rope: Option<RopeAngles>,
    /// Added to the mean square of the QK norm.
    pub epsilon: f32,
}

impl HeadLayout {
    /// The preparation of queries and that of keys, by the gains of their norms.
    pub(super) fn preparations<'a>(&'a self, gains: [&'a [f32]; 2]) -> [Preparation<'a>; 2] {
        let Self { epsilon, ref rope, .. } = *self;
        gains.map(|gain| Preparation { gain, epsilon, rope: rope.as_ref() })
    }
}

/// What becomes of the queries of all heads, or of their keys.
#[derive(Clone, Copy)]
pub(super) struct Preparation<'a> {
    /// Of an RMS norm over each head; empty where there is none.
    pub(super) gain: &'a [f32],
    pub(super) epsilon: f32,
    pub(super) rope: Option<&'a RopeAngles>,
}

impl Preparation<'_> {
    fn is_none(&self) -> bool {
        self.gain.is_empty() && self.rope.is_none()
    }

    /// Rows `[n, D]` of one head, the first at position `first`, prepared in `memory` where there is anything to do.
    pub(super) fn forward<'m>(
        &self,
        level: SimdLevel,
        rows: Matrix<'m>,
        first: usize,
        memory: &'m mut Vec<f32>,
    ) -> Matrix<'m> {
        if self.is_none() {
            return rows;
        }
        let width = rows.cols();
        memory.resize(rows.rows() * width, 0.0);
        level.vectorize(
            #[inline(always)]
            || {
                for (idx, out) in memory.chunks_exact_mut(width).enumerate() {
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
        Matrix::new(memory, rows.rows(), width)
    }

    /// Makes gradients of prepared rows into those of the rows, and adds the gain's to `d_gain`.
    pub(super) fn backward(
        &self,
        level: SimdLevel,
        rows: Matrix<'_>,
        first: usize,
        d_rows: &mut [f32],
        d_gain: &mut [f32],
    ) {
        if self.is_none() {
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

    /// One over the root of the mean square of a row.
    #[inline(always)]
    fn scale(&self, row: &[f32]) -> f32 {
        1.0 / (sum(row, |x| x * x) / row.len() as f32 + self.epsilon).sqrt()
    }
}
