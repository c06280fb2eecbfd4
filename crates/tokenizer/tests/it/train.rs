//! Training a BPE.

use std::io;

use tokenizer::{BpeProgress, Error, Tokenizer, TokenizerKind};

use crate::common;

fn train(vocab_size: usize) -> Tokenizer {
    Tokenizer::train_bpe(common::corpus(), vocab_size, &mut |_| {}).expect("the corpus is valid")
}

#[test]
fn the_same_corpus_gives_the_same_tokenizer() {
    let json = train(310).to_json();
    for _ in 0..3 {
        assert_eq!(train(310).to_json(), json);
    }
    assert_ne!(train(309).to_json(), json);
}

#[test]
fn the_requested_size_is_reached() {
    for vocab_size in [257, 258, 290, 310] {
        let tokenizer = train(vocab_size);
        assert_eq!(tokenizer.vocab_size(), vocab_size);
        assert_eq!(tokenizer.kind(), Some(TokenizerKind::Bpe { vocab_size }));
        assert_eq!(tokenizer.end_of_text(), Some(u32::try_from(vocab_size).unwrap() - 1));
    }
}

#[test]
fn the_first_tokens_are_gpt2s_bytes_and_then_the_most_frequent_pair() {
    let (tokenizer, gpt2) = (train(258), Tokenizer::gpt2());
    for id in 0..256 {
        assert_eq!(tokenizer.token_bytes(id), gpt2.token_bytes(id));
    }
    assert_eq!(tokenizer.token_bytes(256), Some(b"at".as_slice()));
    assert_eq!(tokenizer.token_bytes(257), Some(b"<|endoftext|>".as_slice()));
}

#[test]
fn more_tokens_make_shorter_encodings() {
    let lengths =
        [257, 280, 310].map(|vocab_size| train(vocab_size).encode("the cat 你好 λόγος").unwrap().len());
    assert!(lengths[0] > lengths[1] && lengths[1] > lengths[2], "{lengths:?}");
}

#[test]
fn a_small_corpus_gives_fewer_tokens() {
    // One pair occurs twice: "ab".
    let corpus = || [Ok("ab ab".to_owned())];
    let tokenizer = Tokenizer::train_bpe(corpus(), u32::MAX as usize, &mut |_| {}).unwrap();
    assert_eq!(tokenizer.vocab_size(), 258);
    assert_eq!(tokenizer.kind(), Some(TokenizerKind::Bpe { vocab_size: 258 }));
    let reloaded = Tokenizer::from_json(&tokenizer.to_json()).unwrap();
    assert_eq!(reloaded.kind(), tokenizer.kind());

    let empty = Tokenizer::train_bpe([], 1000, &mut |_| {}).unwrap();
    assert_eq!(empty.vocab_size(), 257);
    assert_eq!(empty.decode(&empty.encode("any é").unwrap()), "any é");
}

#[test]
fn progress_counts_the_bytes_and_then_the_merges() {
    let mut reports = Vec::new();
    Tokenizer::train_bpe(common::corpus(), 300, &mut |report| reports.push(report)).unwrap();
    let total: u64 = common::corpus().map(|text| text.unwrap().len() as u64).sum();
    assert_eq!(reports.remove(0), BpeProgress::Counting { bytes: total });
    let merging = |n_merges| BpeProgress::Merging { n_merges, n_wanted: 43 };
    let expected: Vec<BpeProgress> = [0].into_iter().chain(0..43).map(merging).collect();
    assert_eq!(reports, expected);
}

#[test]
fn a_corpus_that_cannot_be_read_is_an_error() {
    let corpus = [Ok("text".to_owned()), Err(io::Error::other("unplugged"))];
    let error = Tokenizer::train_bpe(corpus, 300, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, Error::Corpus(source) if source.to_string() == "unplugged"), "{error:?}");
}

#[test]
fn a_size_out_of_range_is_an_error() {
    for vocab_size in [0, 256, u32::MAX as usize + 1] {
        let error = Tokenizer::train_bpe(common::corpus(), vocab_size, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::VocabSize { vocab_size: asked } if asked == vocab_size), "{error:?}");
    }
}
