//! Low-rank updates of linear layers (LoRA, [Hu et al., 2021](https://arxiv.org/abs/2106.09685)).
//!
//! An update adds `scale · dropout(x) · Aᵀ · Bᵀ` to a range of a layer's outputs. All updates of a layer share the
//! input and its dropout, so their products with A are one product.

use super::{
    addend::Addend,
    dropout::Mask,
    gemm::product,
    linear,
    matrix::Matrix,
    parallel::{self, Buffer},
    simd_level::SimdLevel,
};

/// The sizes of a low-rank update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LowRankShape {
    /// R.
    pub rank: usize,
    /// The first of the updated outputs.
    pub first: usize,
    /// Updated outputs.
    pub n: usize,
    pub scale: f32,
}

/// The low-rank updates of a layer.
#[derive(Debug, Clone, Copy)]
pub struct LowRankUpdates<'a> {
    pub shapes: &'a [LowRankShape],
    /// The matrices A, `[R, C_in]` each, one after another.
    pub a: &'a [f32],
    /// The matrices B, `[n, R]` each, one after another.
    pub b: &'a [f32],
    /// Dropout of the input before A.
    pub mask: Option<Mask>,
}

impl<'a> LowRankUpdates<'a> {
    /// `scale · dropout(x) · Aᵀ` of all updates side by side, `[N, ΣR]`.
    pub fn hidden(&self, level: SimdLevel, x: Matrix<'_>) -> Vec<f32> {
        let mut buffer = Vec::new();
        let a = self.a(x.cols()).transposed();
        let mut hidden = linear::forward(level, self.dropped(level, x, &mut buffer), &[a.into()], &[]);
        let n_ranks = self.n_ranks();
        let shared = parallel::Shared::new(&mut hidden);
        parallel::pieces(x.rows(), 1, n_ranks, |rows| {
            // SAFETY: pieces do not overlap.
            let hidden = unsafe { shared.part(rows.start * n_ranks..rows.end * n_ranks) };
            for row in hidden.chunks_exact_mut(n_ranks) {
                let mut rest = row;
                for shape in self.shapes {
                    let (hidden, next) = rest.split_at_mut(shape.rank);
                    hidden.iter_mut().for_each(|x| *x *= shape.scale);
                    rest = next;
                }
            }
        });
        hidden
    }

    /// The updates of the layer's output, given [`LowRankUpdates::hidden`].
    pub fn addend<'h>(&self, level: SimdLevel, hidden: &'h [f32]) -> Addend<'h> {
        let mut addend = Addend::new(self.rows(hidden), None);
        for (shape, first_rank, b) in self.parts() {
            addend.push(level, first_rank..first_rank + shape.rank, b.transposed(), shape.first);
        }
        addend
    }

    /// The gradient of `dropout(x) · Aᵀ` of all updates side by side, `[N, ΣR]`, given that of the layer's product.
    pub fn backward_hidden(&self, level: SimdLevel, d_y: Matrix<'_>) -> Vec<f32> {
        let n_ranks = self.n_ranks();
        let mut d_hidden = Buffer::new(d_y.rows() * n_ranks);
        let shared = d_hidden.shared();
        for (LowRankShape { rank, first, n, scale }, first_rank, b) in self.parts() {
            let part = product(level, d_y.col_range(first..first + n), b, |_, _| {});
            parallel::pieces(d_y.rows(), 1, rank, |rows| {
                for (row, part) in rows.clone().zip(part[rows.start * rank..].chunks_exact(rank)) {
                    let start = row * n_ranks + first_rank;
                    // SAFETY: neither rows nor the columns of updates overlap.
                    let out = unsafe { shared.zeroed(start..start + rank) };
                    out.iter_mut().zip(part).for_each(|(out, d)| *out = d * scale);
                }
            });
        }
        // SAFETY: the updates cover all columns of every row.
        unsafe { d_hidden.finish() }
    }

    /// The part of the input's gradient that passes A, given [`LowRankUpdates::backward_hidden`].
    pub fn backward_addend<'h>(&self, level: SimdLevel, d_hidden: &'h [f32]) -> Addend<'h> {
        let n_ranks = self.n_ranks();
        let mut addend = Addend::new(self.rows(d_hidden), self.mask);
        addend.push(level, 0..n_ranks, self.a(self.a.len() / n_ranks), 0);
        addend
    }

    /// The gradients of the matrices A, in the same stack.
    pub fn backward_a(&self, level: SimdLevel, x: Matrix<'_>, d_hidden: &[f32]) -> Vec<f32> {
        let mut buffer = Vec::new();
        linear::backward_weight(level, self.dropped(level, x, &mut buffer), self.rows(d_hidden))
    }

    /// The gradients of the matrices B, as [`LowRankUpdates::b`], given [`LowRankUpdates::hidden`] and the gradient of
    /// the layer's product.
    pub fn backward_b(&self, level: SimdLevel, hidden: &[f32], d_y: Matrix<'_>) -> Vec<f32> {
        let hidden = self.rows(hidden);
        let mut d_b = Vec::with_capacity(self.b.len());
        for (LowRankShape { rank, first, n, .. }, first_rank, _) in self.parts() {
            let hidden = hidden.col_range(first_rank..first_rank + rank);
            d_b.extend(linear::backward_weight(level, hidden, d_y.col_range(first..first + n)));
        }
        d_b
    }

    /// ΣR.
    fn n_ranks(&self) -> usize {
        self.shapes.iter().map(|shape| shape.rank).sum()
    }

    /// `[ΣR, C_in]`.
    fn a(&self, n_in: usize) -> Matrix<'a> {
        Matrix::new(self.a, self.n_ranks(), n_in)
    }

    /// `[N, ΣR]`.
    fn rows<'h>(&self, hidden: &'h [f32]) -> Matrix<'h> {
        let n_ranks = self.n_ranks();
        Matrix::new(hidden, hidden.len() / n_ranks, n_ranks)
    }

    /// Each update with its first column of the hidden rows and its B, `[n, R]`.
    fn parts(&self) -> impl Iterator<Item = (LowRankShape, usize, Matrix<'a>)> {
        let b = self.b;
        self.shapes.iter().scan((0, 0), move |(first_rank, first_value), &shape| {
            let part = (shape, *first_rank, Matrix::new(&b[*first_value..], shape.n, shape.rank));
            *first_rank += shape.rank;
            *first_value += shape.n * shape.rank;
            Some(part)
        })
    }

    /// The input with dropout.
    fn dropped<'x>(&self, level: SimdLevel, x: Matrix<'x>, buffer: &'x mut Vec<f32>) -> Matrix<'x> {
        let Some(mask) = self.mask else { return x };
        let width = x.cols();
        *buffer = parallel::fill(x.rows() * width, width, 2, |range, out| {
            let first = range.start / width;
            level.vectorize(
                #[inline(always)]
                || {
                    for (row, out) in (first..).zip(out.chunks_exact_mut(width)) {
                        out.copy_from_slice(x.row(row));
                        mask.apply(row as u64, out);
                    }
                },
            );
        });
        Matrix::new(buffer, x.rows(), width)
    }
}
