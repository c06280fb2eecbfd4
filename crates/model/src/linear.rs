//! Linear layers.

use burn::{module::Param, prelude::*};
use kernels::{Activation, Precision, RowBlocks, Weight};

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
}

impl Linear {
    pub(crate) fn new(weight: Param<Tensor<2>>, bias: Option<Param<Tensor<1>>>) -> Self {
        Self { weight: Some(weight), bias, blocks: None, lora: Vec::new() }
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

    /// Adds a low-rank update.
    ///
    /// # Panics
    ///
    /// If it does not fit the weight.
    pub(crate) fn add_lora(&mut self, lora: Lora) {
        lora.check(self.weight().dims());
        self.lora.push(lora);
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
        let y = kernels::linear(x.clone(), self.weight(), self.bias(), precision);
        self.lora.iter().fold(y, |y, lora| lora.add_to(y, x.clone(), precision))
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
        if !self.lora.is_empty() {
            return kernels::activate(self.forward(x, precision), activation);
        }
        kernels::linear_activate(x, self.weight(), self.bias(), activation, precision)
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
        if !self.lora.is_empty() {
            return residual + kernels::dropout(self.forward(x, precision), dropout);
        }
        kernels::linear_residual(x, self.weight(), self.bias(), dropout, residual, precision)
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }
}
