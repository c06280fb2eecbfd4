//! Shared texts and tokenizers of the tests.

use std::io;
use std::sync::LazyLock;

use proptest::prelude::*;
use tokenizer::Tokenizer;

/// Text in several scripts, with typical problem cases.
pub(crate) const TEXT: &str = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n\
    I'll don't  \n\n\tx 123 ünïcode 你好 🙂🙂 👩‍👩‍👧 e\u{301} <|endoftext|> Ωmega \r\n\u{3000}\u{a0}٣ ";

/// The parts of a small corpus whose words are frequent enough to merge.
pub(crate) fn corpus() -> impl Iterator<Item = io::Result<String>> {
    let sentence = "the cat and the dog that sat on the mat; 你好世界 καὶ ὁ λόγος ἦν\n";
    (0..5).map(move |_| Ok(sentence.repeat(4)))
}

/// One tokenizer of each kind that encodes any text.
pub(crate) static COMPLETE: LazyLock<[Tokenizer; 3]> = LazyLock::new(|| {
    let trained = Tokenizer::train_bpe(corpus(), 300, &mut |_| {}).expect("the corpus is valid");
    [Tokenizer::byte(), Tokenizer::gpt2(), trained]
});

/// One tokenizer of each kind, the `char` one with the characters of [`TEXT`].
pub(crate) fn all() -> Vec<Tokenizer> {
    let char = Tokenizer::from_chars(TEXT.chars()).expect("the text is not empty");
    [COMPLETE.as_slice(), &[char]].concat()
}

/// Strings of any characters, with words, spaces and contractions as often as the rest of Unicode.
pub(crate) fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just(" ".to_owned()),
        r"[ \n\t\r\u{a0}]{1,4}",
        "'(s|t|re|ve|m|ll|d|x)",
        "[A-Za-z]{1,9}",
        "[0-9]{1,4}",
        r"[\p{L}\p{M}\p{N}]{1,4}",
        "(?s).{1,4}",
        Just("<|endoftext|>".to_owned()),
    ];
    prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}
