//! The built-in vocabulary of GPT-2.

use tokenizers::models::bpe::BPE;

use crate::pipeline;

/// The 50000 merges of GPT-2, one per line, after a version line (see `build.rs`).
const MERGES: &str = include_str!(concat!(env!("OUT_DIR"), "/gpt2-merges.txt"));

/// 256 bytes, 50000 merges and `<|endoftext|>`.
pub(crate) const VOCAB_SIZE: usize = 50_257;

pub(crate) fn model() -> BPE {
    let merges = MERGES
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_owned(), right.to_owned()))
        .collect();
    pipeline::byte_level_model(merges).expect("the merges are verified at build time")
}
