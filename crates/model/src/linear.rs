//! Linear layers.

use burn::{module::Param, prelude::*};
use kernels::{Activation, Precision, RowBlocks, UpdatedWeight, Weight};

use crate::lora::Lora;

/// `x · Wᵀ + b`. The token embedding is one too, whose weight is also the head of a tied model.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    /// `[C_out, C_in]`. `None` if `blocks` are the weight.
    weight: Option<Param<Tensor<2>>>,
    /// `[C_out]`
    pub(crate) bias: Option<Param<Tensor<1>>>,
    /// The weight as row blocks, such as those of a mapped file. It is not a parameter.
    #[module(skip)]
    blocks: Option<RowBlocks>,
    lora: Vec<Lora>,
    /// Probability of dropout of the input of low-rank updates.
    lora_dropout: f64,
}

impl Linear {
    pub(crate) fn new(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight: Some(weight), bias, blocks: None, lora: Vec::new(), lora_dropout: 0.0 }
    }

    /// Replaces the weight by row blocks.
    ///
    /// # Panics
    ///
    /// If the shapes differ.
    pub(crate) fn set_blocks(&mut self, blocks: RowBlocks) {
        assert_eq!(blocks.dims(), self.weight().dims(), "row blocks must have the shape of the weight");
        (self.weight, self.blocks) = (None, Some(blocks));
    }

    /// Replaces the weight by a function of it. The parameter keeps its id.
    ///
    /// # Panics
    ///
    /// If the weight is in row blocks.
    pub(crate) fn change_weight(&mut self, change: impl FnOnce(Tensor<2>) -> Tensor<2>) {
        let weight = self.weight.take().expect("the weight is a parameter");
        self.weight = Some(weight.map(|old| {
            let needs_gradient = old.is_require_grad();
            change(old.detach()).set_require_grad(needs_gradient)
        }));
    }

    /// Adds a low-rank update.
    ///
    /// # Panics
    ///
    /// If it does not fit the weight.
    pub(crate) fn add_lora(&mut self, lora: Lora) {
        lora.check(self.weight().dims());
        self.lora.push(lora);
    }

    /// The low-rank updates.
    pub(crate) fn lora(&self) -> &[Lora] {
        &self.lora
    }

    /// Adds the low-rank updates to the weight.
    ///
    /// # Panics
    ///
    /// If there are updates and the weight is in row blocks.
    pub(crate) fn merge_lora(&mut self) {
        for lora in std::mem::take(&mut self.lora) {
            self.change_weight(|weight| lora.merged_into(weight));
        }
    }

    /// Sets the probability of dropout of the input of low-rank updates.
    pub(crate) fn set_lora_dropout(&mut self, probability: f64) {
        self.lora_dropout = probability;
    }

    /// The weight without low-rank updates.
    pub(crate) fn weight(&self) -> Weight<'_> {
        match (&self.weight, &self.blocks) {
            (Some(weight), _) => weight.val().into(),
            (None, Some(blocks)) => blocks.into(),
            (None, None) => unreachable!("a layer has a weight"),
        }
    }

    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - output: `[B, T, C_out]`
    pub(crate) fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        kernels::linear(x, self.updated_weight(), self.bias(), precision)
    }

    /// As [`Linear::forward`]; see [`kernels::linear_operand`].
    pub(crate) fn forward_operand(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        kernels::linear_operand(x, self.updated_weight(), self.bias(), precision)
    }

    /// The layer followed by an activation.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - output: `[B, T, C_out]`, or `[B, T, C_out / 2]` with SwiGLU
    pub(crate) fn forward_activated(
        &self,
        x: Tensor<3>,
        activation: Activation,
        precision: Precision,
    ) -> Tensor<3> {
        kernels::linear_activate(x, self.updated_weight(), self.bias(), activation, precision)
    }

    /// The layer with dropout, added to `residual`.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - `residual`: `[B, T, C_out]`
    /// - output: `[B, T, C_out]`
    pub(crate) fn forward_residual(
        &self,
        x: Tensor<3>,
        dropout: f64,
        residual: Tensor<3>,
        precision: Precision,
    ) -> Tensor<3> {
        kernels::linear_residual(x, self.updated_weight(), self.bias(), dropout, residual, precision)
    }

    fn updated_weight(&self) -> UpdatedWeight<'_> {
        let updates = self.lora.iter().map(Lora::update).collect();
        UpdatedWeight { weight: self.weight(), updates, dropout: self.lora_dropout }
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }
}
