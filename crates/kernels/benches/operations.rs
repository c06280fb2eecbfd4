//! Each operation forward and backward, fused and in its reference implementation, at the sizes of nanoGPT's
//! Shakespeare model for GPUs (width 384, 6 heads, block size 256, batch size 8). Throughput is in tokens.

#![allow(missing_docs, reason = "divan's macros make public items")]

use burn::{prelude::*, tensor::Distribution};
use divan::{Bencher, counter::ItemsCount};
use kernels::{
    Activation, AdamWStep, Attention, LmHead, NormKind, Precision, QkNorm, Rope, Segment, Slot, SlotShape,
    SlotType, supported_precision,
};

const BATCH: usize = 8;
const TIME: usize = 256;
const WIDTH: usize = 384;
const N_HEAD: usize = 6;
const VOCAB_SIZE: usize = 65;

fn main() {
    rayon::scope(|_| divan::main()); // On a pool thread, as kindling computes.
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
}

/// Times `f` and the backward pass through its sum.
fn forward_and_backward<const D: usize>(bencher: Bencher<'_, '_>, fused: bool, f: impl Fn() -> Tensor<D>) {
    kernels::use_plain_operations(!fused);
    bencher.counter(ItemsCount::new(BATCH * TIME)).bench_local(|| f().sum().backward());
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn attention(bencher: Bencher<'_, '_>, fused: bool) {
    let qkv = random([BATCH, TIME, 3 * WIDTH]);
    forward_and_backward(bencher, fused, || {
        kernels::causal_attention(qkv.clone(), &Attention::plain(N_HEAD), None, 0.0)
    });
}

/// Grouped-query attention with QK norm and RoPE, as in recent open models.
#[divan::bench(args = [true, false], sample_count = 10)]
fn attention_with_qk_norm_and_rope(bencher: Bencher<'_, '_>, fused: bool) {
    let head_dim = WIDTH / N_HEAD;
    let gain = || random([1, head_dim]).reshape([head_dim]);
    let attention = Attention {
        n_head: N_HEAD,
        n_kv_head: N_HEAD / 2,
        qk_norm: Some(QkNorm { query_gain: gain(), key_gain: gain(), epsilon: 1e-6 }),
        rope: Some(Rope::new(head_dim, TIME, 1e4)),
        precision: Precision::F32,
    };
    let qkv = random([BATCH, TIME, 2 * WIDTH]);
    forward_and_backward(bencher, fused, || kernels::causal_attention(qkv.clone(), &attention, None, 0.0));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn swiglu(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (random([BATCH, TIME, WIDTH]), random([4 * WIDTH, WIDTH]));
    let activation = Activation::Swiglu;
    forward_and_backward(bencher, fused, || {
        kernels::linear_activate(x.clone(), weight.clone(), None, activation, Precision::F32)
    });
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn linear(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (random([BATCH, TIME, WIDTH]), random([4 * WIDTH, WIDTH]));
    forward_and_backward(bencher, fused, || kernels::linear(x.clone(), weight.clone(), None, Precision::F32));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn linear_activate(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (random([BATCH, TIME, WIDTH]), random([4 * WIDTH, WIDTH]));
    forward_and_backward(bencher, fused, || {
        kernels::linear_activate(x.clone(), weight.clone(), None, Activation::Gelu, Precision::F32)
    });
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn layer_norm(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, gain) = (random([BATCH, TIME, WIDTH]), random([WIDTH]));
    forward_and_backward(bencher, fused, || {
        kernels::norm(x.clone(), NormKind::Layer, gain.clone(), None, 1e-5, Precision::F32)
    });
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn loss(bencher: Bencher<'_, '_>, fused: bool) {
    let (hidden, weight) = (random([BATCH * TIME, WIDTH]), random([VOCAB_SIZE, WIDTH]));
    let targets = Tensor::<1, Int>::zeros([BATCH * TIME], &hidden.device());
    forward_and_backward(bencher, fused, || {
        LmHead::new(weight.clone()).loss(hidden.clone(), targets.clone(), Precision::F32)
    });
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn embed(bencher: Bencher<'_, '_>, fused: bool) {
    let (tokens, positions) = (random([VOCAB_SIZE, WIDTH]), random([TIME, WIDTH]));
    let ids = Tensor::<2, Int>::zeros([BATCH, TIME], &tokens.device());
    forward_and_backward(bencher, fused, || {
        kernels::embed(ids.clone(), tokens.clone(), Some(positions.clone()), None, 0.1)
    });
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn linear_residual(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (random([BATCH, TIME, 4 * WIDTH]), random([4 * WIDTH, WIDTH]));
    let residual = random([BATCH, TIME, WIDTH]);
    forward_and_backward(bencher, fused, || {
        kernels::linear_residual(x.clone(), weight.clone(), None, 0.1, residual.clone(), Precision::F32)
    });
}

/// Times `f` without a backward pass. Throughput is in `n_items` per call.
fn forward_only<T>(bencher: Bencher<'_, '_>, fused: bool, n_items: usize, f: impl FnMut() -> T) {
    kernels::use_plain_operations(!fused);
    bencher.counter(ItemsCount::new(n_items)).bench_local(f);
}

/// A random tensor without gradients.
fn untracked_random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
}

/// Throughput in parameters.
#[divan::bench(args = [true, false], sample_count = 10)]
fn adamw(bencher: Bencher<'_, '_>, fused: bool) {
    let n_params = 12 * WIDTH * WIDTH;
    let gradient = untracked_random([n_params]);
    let step = AdamWStep {
        learning_rate: 1e-3,
        beta_1: 0.9,
        beta_2: 0.99,
        epsilon: 1e-8,
        weight_decay: 0.1,
        time: 10,
        gradient_scale: 0.5,
    };
    let mut state = Some((untracked_random([n_params]), [(); 2].map(|()| Tensor::zeros_like(&gradient))));
    forward_only(bencher, fused, n_params, || {
        let (x, moments) = state.take().expect("each call restores the state");
        state = Some(kernels::adamw(&step, x, gradient.clone(), moments));
    });
}

/// Throughput in parameters.
#[divan::bench(args = [true, false], sample_count = 10)]
fn sum_of_squares(bencher: Bencher<'_, '_>, fused: bool) {
    let gradient = untracked_random([12 * WIDTH * WIDTH]);
    forward_only(bencher, fused, 12 * WIDTH * WIDTH, || {
        kernels::sum_of_squares(gradient.clone()).into_data()
    });
}

/// Attention of a slot's next `n` positions.
fn next_positions(slot: &mut Slot, heads: &Attention, n: usize, qkv: Tensor<3>) -> Tensor<3> {
    let segment = Segment { past: slot.len(), n };
    kernels::ragged_attention(qkv, heads, &[segment], &mut [slot], 0)
}

/// One token after a full block, as in decoding.
#[divan::bench(args = [true, false], sample_count = 10, sample_size = 20)]
fn attention_of_one_token(bencher: Bencher<'_, '_>, fused: bool) {
    kernels::use_plain_operations(!fused);
    let shape = SlotShape { n_layer: 1, n_kv_head: N_HEAD, head_dim: WIDTH / N_HEAD, capacity: 2 * TIME };
    let mut slot = Slot::new(shape, SlotType::F32, &Device::flex());
    let heads = Attention::plain(N_HEAD);
    next_positions(&mut slot, &heads, TIME, untracked_random([1, TIME, 3 * WIDTH]));
    let qkv = untracked_random([1, 1, 3 * WIDTH]);
    forward_only(bencher, fused, 1, || {
        slot.truncate(TIME);
        next_positions(&mut slot, &heads, 1, qkv.clone())
    });
}

/// One row times a matrix, as in decoding.
#[divan::bench(args = [true, false], sample_count = 10)]
fn linear_of_one_token(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (untracked_random([1, 1, WIDTH]), untracked_random([4 * WIDTH, WIDTH]));
    forward_only(bencher, fused, 1, || kernels::linear(x.clone(), weight.clone(), None, Precision::F32));
}

/// The logits of one token over GPT-2's vocabulary.
#[divan::bench(args = [true, false], sample_count = 10)]
fn logits_of_one_token(bencher: Bencher<'_, '_>, fused: bool) {
    let (hidden, weight) = (untracked_random([1, 1, WIDTH]), untracked_random([50_257, WIDTH]));
    forward_only(bencher, fused, 1, || LmHead::new(weight.clone()).logits(hidden.clone(), Precision::F32));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn linear_activate_bf16(bencher: Bencher<'_, '_>, fused: bool) {
    let precision = supported_precision(Precision::Bf16, &Device::flex()); // f32 if the processor lacks bf16.
    let (x, weight) = (random([BATCH, TIME, WIDTH]), random([4 * WIDTH, WIDTH]));
    forward_and_backward(bencher, fused, || {
        kernels::linear_activate(x.clone(), weight.clone(), None, Activation::Gelu, precision)
    });
}
