//! Low-rank updates of weights (LoRA).

use burn::{module::Param, prelude::*};
use kernels::Precision;

/// A low-rank update `scale · B · A` of a range of rows of a weight `[C_out, C_in]`
/// ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)).
#[derive(Module, Debug)]
pub struct Lora {
    /// `[R, C_in]`
    a: Param<Tensor<2>>,
    /// `[rows, R]`
    b: Param<Tensor<2>>,
    first_row: usize,
    scale: f64,
}

impl Lora {
    /// An update of the rows that start at `first_row`.
    ///
    /// # Shapes
    ///
    /// - `a`: `[R, C_in]`
    /// - `b`: `[rows, R]`
    ///
    /// # Panics
    ///
    /// If the ranks differ.
    pub fn new(a: Tensor<2>, b: Tensor<2>, first_row: usize, scale: f64) -> Self {
        assert_eq!(a.dims()[0], b.dims()[1], "the matrices of a low-rank update must have the same rank");
        Self { a: Param::from_tensor(a), b: Param::from_tensor(b), first_row, scale }
    }

    /// Panics if the update does not fit a weight of this shape.
    pub(crate) fn check(&self, [n_out, n_in]: [usize; 2]) {
        let ([_, width], [n_rows, _]) = (self.a.dims(), self.b.dims());
        assert_eq!(width, n_in, "the update has {width} inputs and the weight has {n_in}");
        let end = self.first_row + n_rows;
        assert!(end <= n_out, "the update ends at row {end} and the weight has {n_out} rows");
    }

    /// Adds the update to the output `y` of the layer.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - `y`, output: `[B, T, C_out]`
    pub(crate) fn add_to(&self, y: Tensor<3>, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let [n_rows, _] = self.b.dims();
        let rows = self.first_row..self.first_row + n_rows;
        let hidden = kernels::linear(x, self.a.val(), None, precision); // [B, T, R]
        let change = kernels::linear(hidden, self.b.val(), None, precision) * self.scale;
        let changed = y.clone().slice(s![.., .., rows.clone()]) + change;
        y.slice_assign(s![.., .., rows], changed)
    }
}
