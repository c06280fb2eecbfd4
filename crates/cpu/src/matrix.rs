//! Strided matrix views.

use std::ops::Range;

/// A view of a matrix with contiguous rows or columns.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols)
    }

    /// A row-major matrix whose rows start `row_stride` elements apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(cols <= row_stride || rows <= 1, "rows of {cols} overlap {row_stride} apart");
        assert!(
            rows == 0 || (rows - 1) * row_stride + cols <= data.len(),
            "{rows} rows of {cols}, {row_stride} apart, do not fit in {} elements",
            data.len()
        );
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without a copy.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether rows are contiguous.
    pub fn is_row_major(&self) -> bool {
        self.col_stride == 1
    }

    /// One row; the matrix must be row-major.
    #[inline(always)]
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.row_stride..][..self.cols]
    }

    /// A view of some columns.
    pub fn col_range(self, range: Range<usize>) -> Self {
        self.transposed().row_range(range).transposed()
    }

    /// A view of some rows.
    pub fn row_range(self, range: Range<usize>) -> Self {
        let start = (range.start * self.row_stride).min(self.data.len());
        Self { data: &self.data[start..], rows: range.len(), ..self }
    }
}
