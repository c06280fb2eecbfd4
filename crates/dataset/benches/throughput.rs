//! Throughput of sampling windows and of preparing a text.

use std::sync::Arc;

use dataset::{BatchIndex, Options, RngStream, Source, TokenizerChoice, Tokens, Windows, prepare};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tokenizer::TokenizerKind;

fn main() {
    divan::main();
}

/// Tokens per second, at the sizes of `configs/nanogpt-cpu.toml` and of GPT-2's training.
#[divan::bench(args = [(64, 12), (1024, 12)])]
fn windows(bencher: Bencher<'_, '_>, (block_size, batch_size): (usize, usize)) {
    let tokens = Arc::new(Tokens::from_vec((0..1_000_000).collect()));
    let windows = Windows::new(tokens, block_size, batch_size, 1337, RngStream::Train)
        .expect("the text is longer than a window");
    let mut step = 0;
    bencher.counter(ItemsCount::new(block_size * batch_size)).bench_local(|| {
        step += 1;
        windows.batch(BatchIndex { step, ..BatchIndex::default() })
    });
}

/// Bytes of tiny Shakespeare per second, without reuse.
#[divan::bench(args = ["char", "byte", "gpt2"], sample_count = 10)]
fn prepare_shakespeare(bencher: Bencher<'_, '_>, kind: &str) {
    let choice = TokenizerChoice::Kind(kind.parse::<TokenizerKind>().expect("a valid tokenizer kind"));
    let source = Source::resolve("shakespeare").expect("a known corpus");
    bencher
        .counter(BytesCount::of_str(dataset::default_text()))
        .with_inputs(|| tempfile::tempdir().expect("a temporary folder"))
        .bench_refs(|folder| {
            let options = Options { root: folder.path().into(), ..Options::default() };
            prepare(&source, &choice, &options, &|_| ()).expect("the corpus can be prepared")
        });
}
