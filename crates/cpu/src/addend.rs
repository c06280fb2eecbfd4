//! Products that are added to the rows of a larger product while these are in cache.

use std::ops::Range;

use super::{
    dropout::Mask, gemm::multiply_columns, matrix::Matrix, packed::Packed, simd_level::SimdLevel,
    store::Store,
};

/// The sum of products of some columns of a left operand, each added to some columns of a larger product. They are
/// computed in f32.
pub struct Addend<'a> {
    /// `[N, K]`.
    left: Matrix<'a>,
    parts: Vec<Part>,
    /// Dropout of the products, before they are added.
    mask: Option<Mask>,
}

struct Part {
    /// Columns of the left operand.
    inner: Range<usize>,
    right: Packed,
    /// The first column of the larger product.
    first: usize,
}

impl<'a> Addend<'a> {
    /// An empty sum.
    pub(crate) fn new(left: Matrix<'a>, mask: Option<Mask>) -> Self {
        Self { left, parts: Vec::new(), mask }
    }

    /// Adds the product of some columns of the left operand with `right`, at column `first` of the larger product.
    pub(crate) fn push(&mut self, level: SimdLevel, inner: Range<usize>, right: Matrix<'_>, first: usize) {
        assert_eq!(inner.len(), right.rows(), "inner dimensions differ");
        let mut packed = Packed::default();
        packed.pack(level, right);
        self.parts.push(Part { inner, right: packed, first });
    }

    /// Adds to some rows of a larger product, row-major with `width` columns.
    pub(crate) fn add(&self, level: SimdLevel, rows: Range<usize>, out: &mut [f32], width: usize) {
        for Part { inner, right, first } in &self.parts {
            let left = self.left.row_range(rows.clone()).col_range(inner.clone());
            let n_cols = right.layout().n_cols;
            let Some(mask) = self.mask else {
                multiply_columns(level, left, right, &mut out[*first..], n_cols, width, Store::Add);
                continue;
            };
            let mut values = vec![0.0; rows.len() * n_cols];
            multiply_columns(level, left, right, &mut values, n_cols, n_cols, Store::Overwrite);
            level.vectorize(
                #[inline(always)]
                || {
                    let products = values.chunks_exact_mut(n_cols).zip(out.chunks_exact_mut(width));
                    for (row, (values, out)) in rows.clone().zip(products) {
                        mask.apply(row as u64, values);
                        for (out, value) in out[*first..].iter_mut().zip(values) {
                            *out += *value;
                        }
                    }
                },
            );
        }
    }
}
