//! Learning the merges of a byte-level BPE from a corpus.

use std::collections::HashMap;
use std::io;

use rayon::prelude::*;
use tokenizers::models::bpe::{BPE, BpeTrainer};

use crate::byte_alphabet::{CHARS, spell};
use crate::pre_tokenizer::pieces;
use crate::{Error, Result, Tokenizer, layout};

/// The 256 bytes and `<|endoftext|>`.
pub(crate) const MIN_VOCAB_SIZE: usize = 257;

/// Texts that are counted at a time. Not a function of the number of cores, so that the result is none.
const BATCH_SIZE: usize = 16;

/// Distinct words that are kept in memory; beyond, the rarest are forgotten.
const MAX_WORDS: usize = 4_000_000;

/// Longer words are cut: the trainer's time grows with the square of their length.
const MAX_WORD_BYTES: usize = 256;

/// A pair that comes once is not worth a token.
const MIN_FREQUENCY: u64 = 2;

/// How far the training of a BPE is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BpeProgress {
    /// The corpus is read, and its words are counted.
    Counting {
        /// Bytes of text counted until now.
        bytes: u64,
    },
    /// The corpus is read to its end, and the merges are learned. The last that is reported: how long it takes
    /// is not known, so show that it goes on.
    Merging {
        /// Bytes of text counted in all.
        bytes: u64,
        /// Number of distinct words, which the time grows with.
        n_words: usize,
    },
}

impl Tokenizer {
    /// Trains a byte-level BPE of `vocab_size` tokens with GPT-2's pre-tokenization.
    ///
    /// `texts` is the corpus in parts of any size; a word across the border of two counts as two. A few parts
    /// are in memory at a time, and counted on all cores. `progress` is called after each few of them, and
    /// once before the merges are learned.
    ///
    /// The same corpus in the same parts gives the same tokenizer. If it is too small for the vocabulary (no pair
    /// of tokens comes twice any more), the tokenizer has fewer tokens, with a warning in the log:
    /// [`vocab_size`](Self::vocab_size) tells.
    ///
    /// Fails with [`Error::VocabSize`], with [`Error::Corpus`] if `texts` does, or with [`Error::Train`].
    ///
    /// ```
    /// use tokenizer::Tokenizer;
    ///
    /// let corpus = ["low lower lowest ", "new newer newest"].map(|text| Ok(text.to_owned()));
    /// let tokenizer = Tokenizer::train_bpe(corpus, 260, &mut |_| {})?;
    /// assert_eq!(tokenizer.vocab_size(), 260);
    /// assert!(tokenizer.encode("lower")?.len() < "lower".len());
    /// # Ok::<(), tokenizer::Error>(())
    /// ```
    pub fn train_bpe(
        texts: impl IntoIterator<Item = io::Result<String>>,
        vocab_size: usize,
        progress: &mut dyn FnMut(BpeProgress),
    ) -> Result<Self> {
        check_vocab_size(vocab_size)?;
        let words = count_words(texts, progress)?;
        let merges = learn_merges(words, vocab_size - MIN_VOCAB_SIZE).map_err(Error::Train)?;
        let model = layout::byte_level_model(merges).map_err(Error::Train)?;
        let tokenizer = Self::new(layout::byte_level_pipeline(model));
        if tokenizer.vocab_size() < vocab_size {
            tracing::warn!(
                "the corpus is too small for {vocab_size} tokens: the tokenizer has {}",
                tokenizer.vocab_size()
            );
        }
        Ok(tokenizer)
    }
}

/// Fails with [`Error::VocabSize`] if no trained BPE can have this many tokens.
pub(crate) fn check_vocab_size(vocab_size: usize) -> Result<()> {
    if vocab_size < MIN_VOCAB_SIZE || u32::try_from(vocab_size).is_err() {
        return Err(Error::VocabSize { vocab_size });
    }
    Ok(())
}

/// How often each word comes.
fn count_words(
    texts: impl IntoIterator<Item = io::Result<String>>,
    progress: &mut dyn FnMut(BpeProgress),
) -> Result<HashMap<String, u64>> {
    let mut texts = texts.into_iter();
    let mut words = HashMap::new();
    let mut bytes = 0;
    let mut too_rare = 0;
    loop {
        let batch = texts.by_ref().take(BATCH_SIZE).collect::<io::Result<Vec<String>>>();
        let batch = batch.map_err(Error::Corpus)?;
        if batch.is_empty() {
            break;
        }
        for counts in batch.par_iter().map(|text| count_in(text)).collect::<Vec<_>>() {
            add_counts(&mut words, counts);
        }
        while words.len() > MAX_WORDS {
            too_rare += 1;
            words.retain(|_, count| *count > too_rare);
        }
        bytes += batch.iter().map(|text| text.len() as u64).sum::<u64>();
        progress(BpeProgress::Counting { bytes });
    }
    progress(BpeProgress::Merging { bytes, n_words: words.len() });
    Ok(words)
}

fn count_in(text: &str) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    for word in pieces(text).flat_map(cut) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// Cuts a word into parts of at most [`MAX_WORD_BYTES`].
fn cut(mut word: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (part, rest) = word.split_at(word.floor_char_boundary(MAX_WORD_BYTES));
        word = rest;
        (!part.is_empty()).then_some(part)
    })
}

fn add_counts(words: &mut HashMap<String, u64>, counts: HashMap<&str, u64>) {
    for (word, count) in counts {
        match words.get_mut(word) {
            Some(total) => *total += count,
            None => {
                words.insert(word.to_owned(), count);
            }
        }
    }
}

/// At most `n_merges` merges, the most frequent pairs first, spelled in the byte alphabet.
fn learn_merges(words: HashMap<String, u64>, n_merges: usize) -> tokenizers::Result<Vec<(String, String)>> {
    let words = fit_counts(words);
    // Each merge is of a pair in some word, and the trainer allocates for all it is told of beforehand.
    let n_merges = n_merges.min(words.keys().map(String::len).sum());
    let trainer = BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(MIN_FREQUENCY)
        .initial_alphabet(CHARS.iter().copied().collect())
        .vocab_size(CHARS.len() + n_merges)
        .build();
    let mut model = BPE::default();
    let words = words.iter().map(|(word, &count)| (spell(word).into(), count)).collect();
    trainer.do_train(&words, &mut model)?;
    // The library shows the merges only in its file.
    Ok(serde_json::from_value(serde_json::to_value(&model)?["merges"].take())?)
}

/// Scales the counts of a corpus of many gigabytes down, as the trainer counts pairs in an `i32`.
fn fit_counts(mut words: HashMap<String, u64>) -> HashMap<String, u64> {
    let n_bytes: u64 = words.iter().map(|(word, count)| word.len() as u64 * count).sum();
    let scale = n_bytes / u64::from(i32::MAX.unsigned_abs()) + 1;
    words.retain(|_, count| {
        *count /= scale;
        *count > 0
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_word_is_cut_between_characters() {
        let word = "é".repeat(MAX_WORD_BYTES) + "x";
        let parts: Vec<&str> = cut(&word).collect();
        assert_eq!(parts.concat(), word);
        assert!(parts.len() == 3 && parts.iter().all(|part| part.len() <= MAX_WORD_BYTES), "{parts:?}");
    }

    #[test]
    fn counts_are_scaled_only_if_they_do_not_fit() {
        let counts = |counts: &[(&str, u64)]| -> HashMap<String, u64> {
            counts.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
        };
        let small = counts(&[("ab", 1_000_000_000), ("cd", 1)]);
        assert_eq!(fit_counts(small.clone()), small);
        let large = counts(&[("ab", 3_000_000_000), ("cd", 30), ("rare", 1)]);
        assert_eq!(fit_counts(large), counts(&[("ab", 1_000_000_000), ("cd", 10)]));
    }

    #[test]
    fn words_are_counted_over_all_texts() {
        let texts = (0..40).map(|_| Ok("to be to".to_owned()));
        let mut reports = Vec::new();
        let words = count_words(texts, &mut |report| reports.push(report)).unwrap();
        let expected = [("to", 40), (" be", 40), (" to", 40)];
        assert_eq!(words, expected.map(|(word, count)| (word.to_owned(), count)).into());
        let [
            BpeProgress::Counting { bytes: 128 },
            BpeProgress::Counting { bytes: 256 },
            BpeProgress::Counting { bytes: 320 },
            BpeProgress::Merging { bytes: 320, n_words: 3 },
        ] = reports[..]
        else {
            panic!("{reports:?}");
        };
    }
}
