//! Views of quantised weights.

use std::ops::Range;

use quant::Format;

/// Quantised rows of a weight, `[C_out, C_in]`.
#[derive(Debug, Clone, Copy)]
pub struct QuantRows<'a> {
    bytes: &'a [u8],
    format: Format,
    n_out: usize,
    n_in: usize,
}

impl<'a> QuantRows<'a> {
    /// A view of `n_out` rows of `n_in` values.
    ///
    /// # Panics
    ///
    /// If a row is not a whole number of blocks, or `bytes` has another length than the rows.
    pub fn new(bytes: &'a [u8], format: Format, [n_out, n_in]: [usize; 2]) -> Self {
        assert!(
            n_in.is_multiple_of(format.block_len()),
            "rows of {n_in} are not a multiple of the {} values of a block of {format}",
            format.block_len()
        );
        let expected = n_out * format.row_bytes(n_in);
        assert_eq!(bytes.len(), expected, "the size of {n_out} rows of {n_in} in {format}");
        Self { bytes, format, n_out, n_in }
    }

    /// `[C_out, C_in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.n_out, self.n_in]
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    #[inline(always)]
    pub(crate) fn row(&self, row: usize) -> &'a [u8] {
        let size = self.format.row_bytes(self.n_in);
        &self.bytes[row * size..(row + 1) * size]
    }

    pub(crate) fn row_range(&self, rows: Range<usize>) -> Self {
        let size = self.format.row_bytes(self.n_in);
        Self { bytes: &self.bytes[rows.start * size..rows.end * size], n_out: rows.len(), ..*self }
    }

    /// Unpacks some whole blocks of a row.
    pub(crate) fn unpack(&self, row: usize, cols: Range<usize>, values: &mut [f32]) {
        let bytes = self.format.row_bytes(cols.start)..self.format.row_bytes(cols.end);
        self.format.unpack(&self.row(row)[bytes], values);
    }

    /// The columns of the blocks that `cols` touch.
    pub(crate) fn whole_blocks(&self, cols: Range<usize>) -> Range<usize> {
        let block = self.format.block_len();
        cols.start / block * block..cols.end.next_multiple_of(block)
    }
}
