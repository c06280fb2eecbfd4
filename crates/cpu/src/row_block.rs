//! Rows of a weight in shared memory, such as a memory-mapped file.

use std::fmt;

use bytes::Bytes;

use super::matrix::Matrix;

/// Some rows of a weight `[C_out, C_in]`, in the order of their file.
#[derive(Clone)]
pub struct RowBlock {
    /// `n_out · n_in` f32 values.
    data: Bytes,
    n_out: usize,
    n_in: usize,
    order: WeightOrder,
}

/// The memory order of a weight.
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
        Some(Self { data, n_out, n_in, order })
    }

    /// `[C_out, C_in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.n_out, self.n_in]
    }

    /// The values, `[C_out, C_in]` or `[C_in, C_out]`, and their order.
    pub fn values(&self) -> (&[f32], WeightOrder) {
        (bytemuck::cast_slice(&self.data), self.order)
    }

    /// Copies a row, `[C_in]`, to `out`.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        match self.values() {
            (values, WeightOrder::OutIn) => out.copy_from_slice(&values[row * self.n_in..][..self.n_in]),
            (values, WeightOrder::InOut) => {
                for (out, value) in out.iter_mut().zip(values[row..].iter().step_by(self.n_out)) {
                    *out = *value;
                }
            }
        }
    }

    /// The right operand of a product with rows of inputs, `[C_in, C_out]`.
    pub fn operand(&self) -> Matrix<'_> {
        match self.values() {
            (values, WeightOrder::OutIn) => Matrix::new(values, self.n_out, self.n_in).transposed(),
            (values, WeightOrder::InOut) => Matrix::new(values, self.n_in, self.n_out),
        }
    }
}

impl fmt::Debug for RowBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_out, n_in, order, .. } = self;
        write!(f, "RowBlock({n_out} x {n_in}, {order:?})")
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
    fn operands_have_inputs_as_rows_in_either_order() {
        let data: Vec<u8> = (0_u8..6).flat_map(|x| f32::from(x).to_ne_bytes()).collect();
        for (order, expected) in
            [(WeightOrder::OutIn, [0.0, 1.0, 2.0]), (WeightOrder::InOut, [0.0, 2.0, 4.0])]
        {
            let block = RowBlock::new(Bytes::from(data.clone()), [2, 3], order).unwrap();
            let operand = block.operand();
            assert_eq!((operand.rows(), operand.cols()), (3, 2));
            let (values, _) = block.values();
            let first = |idx: usize| if order == WeightOrder::OutIn { values[idx] } else { values[2 * idx] };
            assert_eq!([0, 1, 2].map(first), expected);
        }
    }
}
