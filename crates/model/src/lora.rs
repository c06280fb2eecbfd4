//! Low-rank updates of weights (LoRA).

use burn::{
    module::{ModuleMapper, Param, ParamId},
    prelude::*,
};
use kernels::LowRank;

use crate::random::uniform;

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

    /// An update with random A and zero B, which changes nothing yet. A is uniform in ±1/√C_in, as in PEFT (Kaiming's
    /// initialisation with a = √5). It depends on `seeds` and not on the device.
    ///
    /// `shape` is that of the updated rows, `[rows, C_in]`.
    pub fn random(
        [n_rows, n_in]: [usize; 2],
        first_row: usize,
        rank: usize,
        scale: f64,
        seeds: [u64; 2],
        device: &Device,
    ) -> Self {
        let a = uniform([rank, n_in], 1.0 / (n_in as f64).sqrt(), seeds, device);
        Self::new(a, Tensor::zeros([n_rows, rank], device), first_row, scale)
    }

    /// A, `[R, C_in]`.
    pub fn a(&self) -> Tensor<2> {
        self.a.val()
    }

    /// B, `[rows, R]`.
    pub fn b(&self) -> Tensor<2> {
        self.b.val()
    }

    /// The ids of the parameters A and B.
    pub fn ids(&self) -> [ParamId; 2] {
        [self.a.id, self.b.id]
    }

    /// The first row that is updated.
    pub fn first_row(&self) -> usize {
        self.first_row
    }

    /// The factor of B · A.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// A weight `[C_out, C_in]` with the update added.
    pub(crate) fn merged_into(&self, weight: Tensor<2>) -> Tensor<2> {
        let update = self.b.val().detach().matmul(self.a.val().detach()) * self.scale;
        let rows = self.first_row..self.first_row + update.dims()[0];
        let merged = weight.clone().slice(s![rows.clone(), ..]) + update;
        weight.slice_assign(s![rows, ..], merged)
    }

    /// Panics if the update does not fit a weight of this shape.
    pub(crate) fn check(&self, [n_out, n_in]: [usize; 2]) {
        let ([_, width], [n_rows, _]) = (self.a.dims(), self.b.dims());
        assert_eq!(width, n_in, "the update has {width} inputs and the weight has {n_in}");
        let end = self.first_row + n_rows;
        assert!(end <= n_out, "the update ends at row {end} and the weight has {n_out} rows");
    }

    /// The update as the argument of an operation.
    pub(crate) fn update(&self) -> LowRank {
        let Self { a, b, first_row, scale } = self;
        LowRank { a: a.val(), b: b.val(), first_row: *first_row, scale: *scale }
    }
}

/// Makes the matrices of low-rank updates the only parameters with gradients.
#[derive(Default)]
pub(crate) struct LoraOnly {
    /// Fields from the model down to the current one.
    path: Vec<String>,
}

impl ModuleMapper for LoraOnly {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_lora = self.path.iter().any(|name| name == "lora");
        param.set_require_grad(is_lora)
    }
}
