//! The right factor of a product.

use std::ops::Range;

use super::{matrix::Matrix, quantised::QuantRows};

/// The right factor of a product: f32 values or quantised ones.
#[derive(Debug, Clone, Copy)]
pub enum Factor<'a> {
    Dense(Matrix<'a>),
    /// A quantised weight: the product is `x · w`.
    Quantised(QuantRows<'a>),
    /// The transpose of a quantised weight: the product is `x · wᵀ`, as in a linear layer.
    Transposed(QuantRows<'a>),
}

impl<'a> Factor<'a> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.rows(),
            Self::Quantised(w) => w.dims()[0],
            Self::Transposed(w) => w.dims()[1],
        }
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        match self {
            Self::Dense(matrix) => matrix.cols(),
            Self::Quantised(w) => w.dims()[1],
            Self::Transposed(w) => w.dims()[0],
        }
    }

    /// The transpose, without a copy.
    #[must_use]
    pub fn transposed(&self) -> Self {
        match self {
            Self::Dense(matrix) => Self::Dense(matrix.transposed()),
            Self::Quantised(w) => Self::Transposed(*w),
            Self::Transposed(w) => Self::Quantised(*w),
        }
    }

    /// Some rows and columns. Quantised values are unpacked into `buffer`.
    pub(crate) fn part<'b>(
        &self,
        rows: Range<usize>,
        cols: Range<usize>,
        buffer: &'b mut Vec<f32>,
    ) -> Matrix<'b>
    where
        'a: 'b,
    {
        match self {
            Self::Dense(matrix) => matrix.row_range(rows).col_range(cols),
            Self::Quantised(w) => unpacked(*w, rows, cols, buffer),
            Self::Transposed(w) => unpacked(*w, cols, rows, buffer).transposed(),
        }
    }
}

/// Unpacks a part of a weight into `buffer`. The blocks at its edges are unpacked whole.
fn unpacked<'b>(
    w: QuantRows<'_>,
    rows: Range<usize>,
    cols: Range<usize>,
    buffer: &'b mut Vec<f32>,
) -> Matrix<'b> {
    let whole = w.whole_blocks(cols.clone());
    let n_rows = rows.len();
    buffer.resize(buffer.len().max(n_rows * whole.len()), 0.0);
    for (row, values) in rows.zip(buffer.chunks_exact_mut(whole.len().max(1))) {
        w.unpack(row, whole.clone(), values);
    }
    Matrix::strided(&buffer[cols.start - whole.start..], n_rows, cols.len(), whole.len())
}

impl<'a> From<Matrix<'a>> for Factor<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        Self::Dense(matrix)
    }
}
