//! Low-rank updates of weights.

use burn::{module::Param, prelude::*};
use kernels::Precision;

/// An update of some rows of a weight `[C_out, C_in]`: `scale · B · A` is added to them
/// ([Hu et al., 2021](https://arxiv.org/abs/2106.09685)).
#[derive(Module, Debug)]
pub struct Lora {
    /// `[R, C_in]`, of rank R.
    a: Param<Tensor<2>>,
    /// `[rows, R]`.
    b: Param<Tensor<2>>,
    first_row: usize,
    scale: f64,
}

impl Lora {
    /// The update of the rows from `first_row` on, as many as `b` has: `a` is `[R, C_in]`, `b` `[rows, R]`.
    ///
    /// # Panics
    ///
    /// If the two have not the same rank.
    pub fn new(a: Tensor<2>, b: Tensor<2>, first_row: usize, scale: f64) -> Self {
        assert_eq!(a.dims()[0], b.dims()[1], "both matrices have the rank of the update");
        Self { a: Param::from_tensor(a), b: Param::from_tensor(b), first_row, scale }
    }

    /// Refuses a weight of another shape.
    pub(crate) fn check(&self, [n_out, n_in]: [usize; 2]) {
        let ([_, width], [n_rows, _]) = (self.a.dims(), self.b.dims());
        assert_eq!(width, n_in, "the update takes {width} inputs and the weight {n_in}");
        let end = self.first_row + n_rows;
        assert!(end <= n_out, "the update ends at row {end} and the weight at {n_out}");
    }

    /// Adds the update to the outputs of the layer.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - `y`, output: `[B, T, C_out]`
    pub(crate) fn add_to(&self, y: Tensor<3>, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let [n_rows, _] = self.b.dims();
        let rows = self.first_row..self.first_row + n_rows;
        let low = kernels::linear(x, self.a.val(), None, precision); // [B, T, R]
        let change = kernels::linear(low, self.b.val(), None, precision) * self.scale;
        let changed = y.clone().slice(s![.., .., rows.clone()]) + change;
        y.slice_assign(s![.., .., rows], changed)
    }
}
