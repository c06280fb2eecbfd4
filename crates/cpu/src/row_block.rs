//! Rows of a weight in shared memory, such as a memory-mapped file.

use std::fmt;

use bytes::Bytes;
use quant::Format;

use super::{factor::Factor, matrix::Matrix, quantised::QuantRows};

/// Some rows of a weight `[C_out, C_in]`, such as those of a file, in its order and type.
#[derive(Clone)]
pub struct RowBlock {
    data: Bytes,
    n_out: usize,
    n_in: usize,
    stored: Stored,
}

/// How the values of a weight are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    F32(WeightOrder),
    /// `[C_out, C_in]`.
    Quantised(Format),
}

/// The memory order of an f32 weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightOrder {
    /// `[C_out, C_in]`.
    OutIn,
    /// `[C_in, C_out]`.
    InOut,
}

impl RowBlock {
    /// A block over f32 values in native byte order. `None` if `data` is not aligned for f32.
    ///
    /// # Panics
    ///
    /// If `data` does not hold `n_out · n_in` values.
    pub fn new(data: Bytes, [n_out, n_in]: [usize; 2], order: WeightOrder) -> Option<Self> {
        let n = bytemuck::try_cast_slice::<u8, f32>(&data).ok()?.len();
        assert_eq!(n, n_out * n_in, "a block of {n_out} x {n_in} does not have {n} values");
        Some(Self { data, n_out, n_in, stored: Stored::F32(order) })
    }

    /// A block that owns its values, `[C_out, C_in]`.
    ///
    /// # Panics
    ///
    /// If `values` has another length than the rows.
    pub fn from_vec(values: Vec<f32>, [n_out, n_in]: [usize; 2]) -> Self {
        assert_eq!(values.len(), n_out * n_in, "the size of {n_out} rows of {n_in}");
        let data = Bytes::from_owner(Values(values));
        Self { data, n_out, n_in, stored: Stored::F32(WeightOrder::OutIn) }
    }

    /// A block over quantised rows. No scale may be infinite or NaN ([`Format::first_bad_scale`]).
    ///
    /// # Panics
    ///
    /// If a row is not a whole number of blocks of `format`, or `data` has another length than the rows.
    pub fn quantised(data: Bytes, [n_out, n_in]: [usize; 2], format: Format) -> Self {
        QuantRows::new(&data, format, [n_out, n_in]);
        Self { data, n_out, n_in, stored: Stored::Quantised(format) }
    }

    /// `[C_out, C_in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.n_out, self.n_in]
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> usize {
        self.data.len()
    }

    /// A copy of the values, `[C_out, C_in]`.
    pub fn to_vec(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.n_out * self.n_in];
        for (row, values) in values.chunks_exact_mut(self.n_in.max(1)).enumerate() {
            self.copy_row(row, values);
        }
        values
    }

    /// Copies a row, `[C_in]`, to `out`.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        match self.factor() {
            Factor::Transposed(w) => w.unpack(row, 0..self.n_in, out),
            Factor::Quantised(_) => unreachable!("a factor is transposed"),
            Factor::Dense(matrix) => {
                let column = &matrix.data[row * matrix.col_stride..];
                for (out, value) in out.iter_mut().zip(column.iter().step_by(matrix.row_stride)) {
                    *out = *value;
                }
            }
        }
    }

    /// The right factor of a product with rows of inputs, `[C_in, C_out]`.
    pub fn factor(&self) -> Factor<'_> {
        let dims = [self.n_out, self.n_in];
        match self.stored {
            Stored::F32(WeightOrder::OutIn) => {
                Matrix::new(self.f32s(), self.n_out, self.n_in).transposed().into()
            }
            Stored::F32(WeightOrder::InOut) => Matrix::new(self.f32s(), self.n_in, self.n_out).into(),
            Stored::Quantised(format) => Factor::Transposed(QuantRows::new(&self.data, format, dims)),
        }
    }

    fn f32s(&self) -> &[f32] {
        bytemuck::cast_slice(&self.data)
    }
}

/// The bytes of f32 values, aligned for f32.
struct Values(Vec<f32>);

impl AsRef<[u8]> for Values {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl fmt::Debug for RowBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_out, n_in, stored, .. } = self;
        write!(f, "RowBlock({n_out} x {n_in}, {stored:?})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unaligned_data_is_refused() {
        let data = Bytes::from(vec![0; 4 * 6 + 4]);
        let start = data.as_ptr().align_offset(align_of::<f32>());
        let block = |start: usize| RowBlock::new(data.slice(start..start + 24), [2, 3], WeightOrder::InOut);
        assert_eq!(block(start).unwrap().dims(), [2, 3]);
        assert!(block(start + 1).is_none());
    }

    #[test]
    fn factors_have_inputs_as_rows_in_either_order() {
        let data: Vec<u8> = (0_u8..6).flat_map(|x| f32::from(x).to_ne_bytes()).collect();
        for (order, expected) in [
            (WeightOrder::OutIn, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            (WeightOrder::InOut, [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]),
        ] {
            let block = RowBlock::new(Bytes::from(data.clone()), [2, 3], order).unwrap();
            let factor = block.factor();
            assert_eq!((factor.rows(), factor.cols()), (3, 2));
            assert_eq!(block.to_vec(), expected);
        }
    }

    #[test]
    fn quantised_rows_are_unpacked() {
        let mut row = vec![0x00, 0x38];
        row.extend([2; 32]);
        let block = RowBlock::quantised(Bytes::from([row.clone(), row].concat()), [2, 32], Format::Q8_0);
        assert_eq!((block.factor().rows(), block.factor().cols()), (32, 2));
        assert_eq!(block.to_vec(), [1.0; 64]);
    }

    #[test]
    #[should_panic(expected = "rows of 48 are not a multiple of the 32 values of a block of q8_0")]
    fn rows_of_whole_blocks_are_required() {
        RowBlock::quantised(Bytes::from(vec![0; 102]), [2, 48], Format::Q8_0);
    }
}
