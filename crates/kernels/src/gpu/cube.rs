//! The kernels of [`GpuKernels`], in CubeCL. They compute in f32, whatever the types of inputs and outputs.

mod activation;
mod adamw;
mod attention;
mod dropout;
mod heads;
mod launch;
mod loss;
mod muon;
mod norm;
mod positions;
mod reduce;
mod sums;

use burn::backend::{
    TensorMetadata,
    tensor::{FloatTensor, IntTensor},
};
use burn_cubecl::{
    CubeBackend,
    kernel::matmul::{MatmulStrategy, matmul},
};
use cpu::{Activation, AdamWStep, NormKind, Precision, dropout::Mask};

use super::{
    heads::HeadSplit,
    kernels::{GpuKernels, ScoreChunk, product_shape},
};

impl GpuKernels for CubeBackend {
    fn product(x: FloatTensor<Self>, y: FloatTensor<Self>, precision: Precision) -> FloatTensor<Self> {
        // Burn would pad the rows, and the kernels here would copy them.
        let out = launch::empty_operand(&x, product_shape(&x.shape(), &y.shape()), precision);
        let dtype = out.dtype();
        matmul(x, y, Some(out), MatmulStrategy::default(), dtype).expect("the factors fit each other")
    }

    fn drop_elements(x: FloatTensor<Self>, mask: Mask, precision: Precision) -> FloatTensor<Self> {
        dropout::drop_elements(x, mask, precision)
    }

    fn add_dropped(x: FloatTensor<Self>, residual: FloatTensor<Self>, mask: Mask) -> FloatTensor<Self> {
        dropout::add_dropped(x, residual, mask)
    }

    fn attention_weights(
        scores: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        chunk: ScoreChunk,
    ) -> FloatTensor<Self> {
        attention::weights(scores, starts, chunk)
    }

    fn attention_gradients(
        scores: FloatTensor<Self>,
        d_weights: FloatTensor<Self>,
        starts: FloatTensor<Self>,
        chunk: ScoreChunk,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        attention::gradients(scores, d_weights, starts, chunk)
    }

    fn split_heads(
        qkv: FloatTensor<Self>,
        gains: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        split: HeadSplit,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        heads::split(qkv, gains, angles, split)
    }

    fn channel_gradients(
        d_queries: FloatTensor<Self>,
        d_keys: FloatTensor<Self>,
        d_values: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        gains: FloatTensor<Self>,
        angles: FloatTensor<Self>,
        split: HeadSplit,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let d_heads = [d_queries, d_keys, d_values];
        heads::gradients(d_heads, qkv, gains, angles, split)
    }

    fn to_heads(x: FloatTensor<Self>, n_head: usize, precision: Precision) -> FloatTensor<Self> {
        positions::to_heads(x, n_head, precision)
    }

    fn first_heads(heads: FloatTensor<Self>, time: usize) -> FloatTensor<Self> {
        positions::first(heads, time)
    }

    fn put_heads(channels: FloatTensor<Self>, heads: FloatTensor<Self>, first: usize) -> FloatTensor<Self> {
        positions::put(channels, heads, first)
    }

    fn add_to_first(sums: FloatTensor<Self>, more: FloatTensor<Self>) -> FloatTensor<Self> {
        positions::add_to_first(sums, more)
    }

    fn norm_rows(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        kind: NormKind,
        epsilon: f32,
        precision: Precision,
    ) -> FloatTensor<Self> {
        norm::rows(x, gain, kind, epsilon, precision)
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

    fn activate_rows(
        x: FloatTensor<Self>,
        activation: Activation,
        precision: Precision,
    ) -> FloatTensor<Self> {
        activation::rows(x, activation, precision)
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

    fn muon_momentum(
        gradient: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        momentum: f32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        muon::momentum(gradient, mean, scale, momentum)
    }

    fn muon_move(
        x: FloatTensor<Self>,
        change: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        keep: f32,
    ) -> FloatTensor<Self> {
        muon::moved(x, change, scale, keep)
    }

    fn weighted_sum(x: FloatTensor<Self>, a: f32, y: FloatTensor<Self>, b: f32) -> FloatTensor<Self> {
        sums::weighted(x, a, y, b)
    }

    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
        f: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        sums::add_squares(sums, [a, b, c, d, e, f])
    }
}
