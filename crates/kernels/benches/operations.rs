//! Each operation forward and backward, fused and by its definition, at the sizes of nanoGPT's model for a GPU
//! (width 384, six heads, blocks of 256, batch 8). Throughput in tokens.

#![allow(missing_docs, reason = "divan's macros make public items")]

use burn::{prelude::*, tensor::Distribution};
use divan::{Bencher, counter::ItemsCount};
use kernels::{Activation, Precision};

const BATCH: usize = 8;
const TIME: usize = 256;
const WIDTH: usize = 384;
const N_HEAD: usize = 6;
const VOCAB_SIZE: usize = 65;

fn main() {
    divan::main();
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device).require_grad()
}

/// Times `f` and going backward through its sum.
fn both_ways<const D: usize>(bencher: Bencher<'_, '_>, fused: bool, f: impl Fn() -> Tensor<D>) {
    kernels::use_plain_operations(!fused);
    bencher.counter(ItemsCount::new(BATCH * TIME)).bench_local(|| f().sum().backward());
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn attention(bencher: Bencher<'_, '_>, fused: bool) {
    let qkv = random([BATCH, TIME, 3 * WIDTH]);
    both_ways(bencher, fused, || kernels::causal_attention(qkv.clone(), N_HEAD, 0.0));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn linear(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (random([BATCH, TIME, WIDTH]), random([WIDTH, 4 * WIDTH]));
    both_ways(bencher, fused, || kernels::linear(x.clone(), weight.clone(), None, Precision::F32));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn linear_activate(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, weight) = (random([BATCH, TIME, WIDTH]), random([WIDTH, 4 * WIDTH]));
    both_ways(bencher, fused, || {
        kernels::linear_activate(x.clone(), weight.clone(), None, Activation::Gelu, Precision::F32)
    });
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn layer_norm(bencher: Bencher<'_, '_>, fused: bool) {
    let (x, gain) = (random([BATCH, TIME, WIDTH]), random([WIDTH]));
    both_ways(bencher, fused, || kernels::layer_norm(x.clone(), gain.clone(), None, 1e-5));
}

#[divan::bench(args = [true, false], sample_count = 10)]
fn loss(bencher: Bencher<'_, '_>, fused: bool) {
    let (hidden, weight) = (random([BATCH * TIME, WIDTH]), random([VOCAB_SIZE, WIDTH]));
    let targets = Tensor::<1, Int>::zeros([BATCH * TIME], &hidden.device());
    both_ways(bencher, fused, || {
        kernels::Head::Tied(weight.clone()).loss(hidden.clone(), targets.clone(), Precision::F32)
    });
}
