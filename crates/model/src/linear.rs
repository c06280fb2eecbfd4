//! Linear layers.

use burn::{module::Param, prelude::*};
use kernels::{Activation, Precision};

/// `x · Wᵀ + b`.
#[derive(Module, Debug)]
pub(crate) struct Linear {
    /// `[C_out, C_in]`.
    pub(crate) weight: Param<Tensor<2>>,
    /// `[C_out]`.
    pub(crate) bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - output: `[B, T, C_out]`
    pub(crate) fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        kernels::linear(x, self.weight.val(), self.bias(), precision)
    }

    /// The activation of the layer.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - output: `[B, T, C_out]`, or half as wide for an activation of two numbers
    pub(crate) fn forward_activated(
        &self,
        x: Tensor<3>,
        activation: Activation,
        precision: Precision,
    ) -> Tensor<3> {
        kernels::linear_activate(x, self.weight.val(), self.bias(), activation, precision)
    }

    /// `residual` plus the layer with dropout.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C_in]`
    /// - `residual`: `[B, T, C_out]`
    /// - output: `[B, T, C_out]`
    pub(crate) fn forward_onto(
        &self,
        x: Tensor<3>,
        dropout: f64,
        residual: Tensor<3>,
        precision: Precision,
    ) -> Tensor<3> {
        kernels::linear_residual(x, self.weight.val(), self.bias(), dropout, residual, precision)
    }

    fn bias(&self) -> Option<Tensor<1>> {
        self.bias.as_ref().map(Param::val)
    }
}
