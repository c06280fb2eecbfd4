//! Linear layers that keep operands of products in the precision of products.

use burn::{
    backend::{Backend, TensorMetadata, tensor::FloatTensor},
    tensor::DType,
};
use cpu::{Activation, Precision, dropout::Mask};

use super::{kernels::GpuKernels, primitive::operand};

/// The operands of `x · weightᵀ`.
#[derive(Debug, Clone)]
pub(super) struct Operands<B: Backend> {
    /// `[rows, C_in]`
    x: FloatTensor<B>,
    /// `[C_out, C_in]`
    weight: FloatTensor<B>,
    precision: Precision,
    /// The type of the rows as they were given, and so of their gradient.
    given: DType,
}

impl<B: GpuKernels> Operands<B> {
    pub(super) fn new(x: FloatTensor<B>, weight: FloatTensor<B>, precision: Precision) -> Self {
        let given = x.dtype();
        let [x, weight] = [x, weight].map(|x| operand::<B>(x, precision));
        Self { x, weight, precision, given }
    }

    /// `x · weightᵀ`, `[rows, C_out]`, as operands of a precision: that of the factors, or f32.
    pub(super) fn product(&self, precision: Precision) -> FloatTensor<B> {
        B::product(self.x.clone(), B::float_transpose(self.weight.clone()), precision)
    }

    /// `residual` + dropout of [`Operands::product`].
    pub(super) fn added(&self, residual: FloatTensor<B>, mask: Option<Mask>) -> FloatTensor<B> {
        match mask {
            Some(mask) => B::add_dropped(self.product(Precision::F32), residual, mask),
            None => B::float_add(residual, self.product(Precision::F32)),
        }
    }

    /// The wanted gradients of `x` and of the weight, given that of the product.
    pub(super) fn gradients(
        self,
        d_y: FloatTensor<B>,
        of_x: bool,
        of_weight: bool,
    ) -> [Option<FloatTensor<B>>; 2] {
        let d_y = operand::<B>(d_y, self.precision);
        let d_x = of_x.then(|| match self.given {
            DType::F32 => B::product(d_y.clone(), self.weight, Precision::F32),
            _ => operand::<B>(B::product(d_y.clone(), self.weight, self.precision), Precision::Bf16),
        });
        let d_weight = of_weight.then(|| B::product(B::float_transpose(d_y), self.x, Precision::F32));
        [d_x, d_weight]
    }

    /// As [`Operands::gradients`], given the gradient of [`Operands::added`].
    pub(super) fn dropped_gradients(
        self,
        d_y: FloatTensor<B>,
        mask: Option<Mask>,
        of_x: bool,
        of_weight: bool,
    ) -> [Option<FloatTensor<B>>; 2] {
        let d_y = match mask {
            Some(mask) => B::drop_elements(d_y, mask, self.precision),
            None => d_y,
        };
        self.gradients(d_y, of_x, of_weight)
    }
}

/// The forward pass of an activated layer.
#[derive(Debug, Clone)]
pub(super) struct Activated<B: Backend> {
    operands: Operands<B>,
    /// The input of the activation, `[rows, C_out]`.
    hidden: FloatTensor<B>,
    activation: Activation,
}

impl<B: GpuKernels> Activated<B> {
    pub(super) fn new(operands: Operands<B>, activation: Activation) -> Self {
        let hidden = operands.product(operands.precision);
        Self { operands, hidden, activation }
    }

    /// The activated rows, in the precision of products.
    pub(super) fn output(&self) -> FloatTensor<B> {
        B::activate_rows(self.hidden.clone(), self.activation, self.operands.precision)
    }

    /// As [`Operands::gradients`].
    pub(super) fn gradients(
        self,
        d_y: FloatTensor<B>,
        of_x: bool,
        of_weight: bool,
    ) -> [Option<FloatTensor<B>>; 2] {
        debug_assert_eq!(d_y.rank(), 2);
        let d_hidden = B::activation_gradient(self.hidden, d_y, self.activation);
        self.operands.gradients(d_hidden, of_x, of_weight)
    }
}
