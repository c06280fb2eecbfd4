//! The kernels of [`GpuKernels`], in CubeCL. They compute in f32, whatever the types of inputs and outputs.

mod activation;
mod adamw;
mod attention;
mod dropout;
mod heads;
mod launch;
mod loss;
mod norm;
mod reduce;
mod sums;

use burn::{
    backend::tensor::{FloatTensor, IntTensor},
    tensor::DType,
};
use burn_cubecl::{
    CubeBackend,
    kernel::matmul::{MatmulStrategy, matmul},
};
use cpu::{Activation, AdamWStep, NormKind, Precision, dropout::Mask};

use super::kernels::{GpuKernels, ScoreChunk};

impl GpuKernels for CubeBackend {
    fn product(x: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
        matmul(x, y, None, MatmulStrategy::default(), DType::F32).expect("the factors fit each other")
    }

    fn drop_elements(x: FloatTensor<Self>, mask: Mask, precision: Precision) -> FloatTensor<Self> {
        dropout::drop_elements(x, mask, precision)
    }

    fn add_dropped(x: FloatTensor<Self>, residual: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        dropout::add_dropped(x, residual, mask)
    }

    fn attention_weights(scores: FloatTensor<Self>, chunk: ScoreChunk) -> FloatTensor<Self> {
        attention::weights(scores, chunk)
    }

    fn attention_gradients(
        scores: FloatTensor<Self>,
        d_weights: FloatTensor<Self>,
        chunk: ScoreChunk,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::gradients(scores, d_weights, chunk)
    }

    fn to_heads(
        x: FloatTensor<Self>,
        first: usize,
        n: usize,
        head_dim: usize,
        precision: Precision,
    ) -> FloatTensor<Self> {
        heads::to_heads(x, first, n, head_dim, precision)
    }

    fn rotate(
        x: FloatTensor<Self>,
        cosines: FloatTensor<Self>,
        sines: FloatTensor<Self>,
        is_inverse: bool,
        precision: Precision,
    ) -> FloatTensor<Self> {
        heads::rotate(x, [cosines, sines], is_inverse, precision)
    }

    fn join_heads(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        heads::join_heads(queries, keys, values)
    }

    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        norm::rows(x, gain, kind, epsilon)
    }

    fn norm_gradients(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        d_y: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        norm::gradients(x, gain, d_y, kind, epsilon)
    }

    fn activate_rows(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        activation::rows(x, activation)
    }

    fn activation_gradient(
        x: FloatTensor<Self>,
        d_y: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self> {
        activation::gradient(x, d_y, activation)
    }

    fn row_losses(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        row_weights: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        loss::losses(logits, targets, row_weights)
    }

    fn row_losses_with_gradients(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        row_weights: FloatTensor<Self>,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        loss::losses_with_gradients(logits, targets, row_weights, precision)
    }

    fn adamw_step(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        step: AdamWStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        adamw::step(x, [first, second], gradient, scale, &step)
    }

    fn weighted_sum(x: FloatTensor<Self>, a: f32, y: FloatTensor<Self>, b: f32) -> FloatTensor<Self> {
        sums::weighted(x, a, y, b)
    }

    fn add_squares(sums: FloatTensor<Self>, x: FloatTensor<Self>) -> FloatTensor<Self> {
        sums::add_squares(sums, x)
    }
}
