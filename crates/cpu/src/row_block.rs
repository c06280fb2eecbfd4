//! Rows of a weight in memory that is shared, such as that of a mapped file.

use std::fmt;

use bytes::Bytes;

use super::matrix::Matrix;

/// Some rows of a weight `[C_out, C_in]`, as a file has them.
#[derive(Clone)]
pub struct RowBlock {
    /// `n_out · n_in` numbers of f32.
    memory: Bytes,
    n_out: usize,
    n_in: usize,
    order: Order,
}

/// How the numbers of a weight lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `[C_out, C_in]`.
    OutIn,
    /// `[C_in, C_out]`.
    InOut,
}

impl RowBlock {
    /// A block over numbers of f32 in the byte order of this machine. `None` if the memory is not aligned for them.
    ///
    /// # Panics
    ///
    /// If the memory does not hold `n_out · n_in` numbers.
    pub fn new(memory: Bytes, [n_out, n_in]: [usize; 2], order: Order) -> Option<Self> {
        let n = bytemuck::try_cast_slice::<u8, f32>(&memory).ok()?.len();
        assert_eq!(n, n_out * n_in, "the block has {n_out} x {n_in} numbers");
        Some(Self { memory, n_out, n_in, order })
    }

    /// `[C_out, C_in]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.n_out, self.n_in]
    }

    /// Its numbers, `[C_out, C_in]` or `[C_in, C_out]` as they lie.
    pub fn numbers(&self) -> (&[f32], Order) {
        (bytemuck::cast_slice(&self.memory), self.order)
    }

    /// Copies a row, `[C_in]`, from where it lies.
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        match self.numbers() {
            (numbers, Order::OutIn) => out.copy_from_slice(&numbers[row * self.n_in..][..self.n_in]),
            (numbers, Order::InOut) => {
                for (out, number) in out.iter_mut().zip(numbers[row..].iter().step_by(self.n_out)) {
                    *out = *number;
                }
            }
        }
    }

    /// The right factor of a product with rows of inputs, `C_in` high.
    pub fn factor(&self) -> Matrix<'_> {
        match self.numbers() {
            (numbers, Order::OutIn) => Matrix::new(numbers, self.n_out, self.n_in).transposed(),
            (numbers, Order::InOut) => Matrix::new(numbers, self.n_in, self.n_out),
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
    fn memory_that_is_not_aligned_is_refused() {
        let memory = Bytes::from(vec![0; 4 * 6 + 4]);
        let start = memory.as_ptr().align_offset(align_of::<f32>());
        let block = |start: usize| RowBlock::new(memory.slice(start..start + 24), [2, 3], Order::InOut);
        assert_eq!(block(start).unwrap().dims(), [2, 3]);
        assert!(block(start + 1).is_none());
    }

    #[test]
    fn a_factor_has_inputs_for_rows_in_either_order() {
        let memory: Vec<u8> = (0_u8..6).flat_map(|x| f32::from(x).to_ne_bytes()).collect();
        for (order, expected) in [(Order::OutIn, [0.0, 1.0, 2.0]), (Order::InOut, [0.0, 2.0, 4.0])] {
            let block = RowBlock::new(Bytes::from(memory.clone()), [2, 3], order).unwrap();
            let factor = block.factor();
            assert_eq!((factor.rows(), factor.cols()), (3, 2));
            let (numbers, _) = block.numbers();
            let first = |idx: usize| if order == Order::OutIn { numbers[idx] } else { numbers[2 * idx] };
            assert_eq!([0, 1, 2].map(first), expected);
        }
    }
}
