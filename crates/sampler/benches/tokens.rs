//! Tokens per second of the sampler alone: the model returns constant logits.

use std::{convert::Infallible, ops::ControlFlow};

use divan::{Bencher, counter::ItemsCount};
use sampler::{Options, generate, random_stream, uniform};

/// Tiny Shakespeare's characters, and GPT-2's tokens.
const VOCAB_SIZES: [usize; 2] = [65, 50_257];
const N_TOKENS: usize = 32;

fn main() {
    divan::main();
}

#[divan::bench(args = VOCAB_SIZES)]
fn greedy(bencher: Bencher, vocab_size: usize) {
    bench(bencher, vocab_size, Options { temperature: 0.0, ..plain() });
}

#[divan::bench(args = VOCAB_SIZES)]
fn plain_temperature(bencher: Bencher, vocab_size: usize) {
    bench(bencher, vocab_size, plain());
}

#[divan::bench(args = VOCAB_SIZES)]
fn top_k_40(bencher: Bencher, vocab_size: usize) {
    bench(bencher, vocab_size, Options { top_k: Some(40), ..plain() });
}

#[divan::bench(args = VOCAB_SIZES)]
fn top_p_95(bencher: Bencher, vocab_size: usize) {
    bench(bencher, vocab_size, Options { top_p: Some(0.95), ..plain() });
}

#[divan::bench(args = VOCAB_SIZES)]
fn typical_p_95(bencher: Bencher, vocab_size: usize) {
    bench(bencher, vocab_size, Options { typical_p: Some(0.95), ..plain() });
}

#[divan::bench(args = VOCAB_SIZES)]
fn top_k_40_top_p_95_min_p_5_penalty_1_1(bencher: Bencher, vocab_size: usize) {
    let options =
        Options { top_k: Some(40), top_p: Some(0.95), min_p: Some(0.05), repetition_penalty: 1.1, ..plain() };
    bench(bencher, vocab_size, options);
}

fn plain() -> Options {
    Options { max_tokens: N_TOKENS, temperature: 0.8, top_k: None, ..Options::default() }
}

fn bench(bencher: Bencher, vocab_size: usize, options: Options) {
    let logits = peaked_logits(vocab_size);
    bencher.counter(ItemsCount::new(N_TOKENS)).bench_local(|| {
        generate(
            &options,
            0,
            &[0],
            |_| String::new(),
            |_| Ok::<_, Infallible>(logits.clone()),
            |_| ControlFlow::Continue(()),
        )
    });
}

/// Exponentially distributed logits, whose probabilities have the long tail of a trained model: at temperature 0.8,
/// top-p 0.95 keeps 20 of 50,257.
fn peaked_logits(vocab_size: usize) -> Vec<f32> {
    let mut rng = random_stream(0, 0);
    #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
    let logits = (0..vocab_size).map(|_| (-1.2 * (1.0 - uniform(&mut rng)).ln()) as f32);
    logits.collect()
}
