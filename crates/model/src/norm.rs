//! Layer norm and RMS norm.

use burn::{module::Param, prelude::*};
use kernels::Precision;

use crate::NormKind;

/// A layer norm or an RMS norm with learned gain and bias.
#[derive(Module, Debug)]
pub(crate) struct Norm {
    /// `[C]`
    pub(crate) gamma: Param<Tensor<1>>,
    /// `[C]`; `None` in an RMS norm.
    beta: Option<Param<Tensor<1>>>,
    #[module(skip)]
    kind: NormKind,
    epsilon: f64,
}

impl Norm {
    /// A norm of rows of `width`, with a gain of 1 and a bias of 0.
    pub(crate) fn new(width: usize, kind: NormKind, epsilon: f64, bias: bool, device: &Device) -> Self {
        Self {
            gamma: Param::from_tensor(Tensor::ones([width], device)),
            beta: bias.then(|| Param::from_tensor(Tensor::zeros([width], device))),
            kind,
            epsilon,
        }
    }

    pub(crate) fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// `precision` is that of the products that take the output.
    ///
    /// # Shapes
    ///
    /// - `x`: `[B, T, C]`
    /// - output: `[B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>, precision: Precision) -> Tensor<3> {
        let beta = self.beta.as_ref().map(Param::val);
        kernels::norm(x, self.kind.into(), self.gamma.val(), beta, self.epsilon, precision)
    }
}
