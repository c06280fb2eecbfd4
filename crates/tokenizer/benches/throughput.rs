//! Throughput of each tokenizer kind in bytes of text per second: `cargo bench -p tokenizer`.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use tokenizer::{Tokenizer, TokenizerKind};

fn main() {
    divan::main();
}

const KINDS: [TokenizerKind; 4] =
    [TokenizerKind::Char, TokenizerKind::Byte, TokenizerKind::Gpt2, TokenizerKind::Bpe { vocab_size: 1024 }];

/// About a megabyte of made-up words; as in natural language, frequent words are short.
fn text() -> String {
    const SYLLABLES: [&str; 16] =
        ["a", "the", "of", "to", "in", "er", "on", "re", "st", "ing", "men", "wor", "ly", "qua", "é", "sch"];
    let mut state = 1_u64;
    let mut sample = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits fit") % n
    };
    let mut text = String::new();
    while text.len() < 1 << 20 {
        for _ in 0..=sample(4) {
            let limit = sample(16) + 1;
            text.push_str(SYLLABLES[sample(limit)]);
        }
        text.push_str([" ", " ", " ", " ", " ", " ", ", ", ".\n"][sample(8)]);
    }
    text
}

fn tokenizer(kind: TokenizerKind, text: &str) -> Tokenizer {
    let tokenizer = match kind {
        TokenizerKind::Char => Tokenizer::from_chars(text.chars()),
        TokenizerKind::Byte => Ok(Tokenizer::byte()),
        TokenizerKind::Gpt2 => Ok(Tokenizer::gpt2()),
        TokenizerKind::Bpe { vocab_size } => {
            Tokenizer::train_bpe([Ok(text.to_owned())], vocab_size, &mut |_| {})
        }
    };
    tokenizer.expect("the text has all characters")
}

#[divan::bench(args = KINDS)]
fn encode(bencher: Bencher<'_, '_>, kind: TokenizerKind) {
    let text = text();
    let tokenizer = tokenizer(kind, &text);
    bencher.counter(BytesCount::of_str(&text)).bench(|| tokenizer.encode(black_box(&text)));
}

#[divan::bench(args = KINDS)]
fn decode(bencher: Bencher<'_, '_>, kind: TokenizerKind) {
    let text = text();
    let tokenizer = tokenizer(kind, &text);
    let ids = tokenizer.encode(&text).expect("the text has all characters");
    bencher.counter(BytesCount::of_str(&text)).bench(|| tokenizer.decode(black_box(&ids)));
}

#[divan::bench(args = [TokenizerKind::Char, TokenizerKind::Gpt2])]
fn from_json(bencher: Bencher<'_, '_>, kind: TokenizerKind) {
    let json = tokenizer(kind, &text()).to_json();
    bencher.counter(BytesCount::of_str(&json)).bench(|| Tokenizer::from_json(black_box(&json)));
}
