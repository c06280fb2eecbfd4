//! Training of a byte-level BPE on a corpus.

mod merges;
mod words;

use std::io;

use hashbrown::HashMap;
use rayon::prelude::*;

use self::merges::learn_merges;
use self::words::WordCounts;
use crate::byte_alphabet::spell;
use crate::error::MIN_VOCAB_SIZE;
use crate::kind::check_vocab_size;
use crate::pre_tokenizer::pieces;
use crate::{Error, Result, Tokenizer, pipeline};

/// Texts that are counted together. It does not depend on the number of cores, so the result does not either.
const BATCH_SIZE: usize = 16;

/// Distinct words in memory; above this number, the rarest are dropped.
const MAX_WORDS: usize = 4_000_000;

/// Bytes of distinct words in memory for a small text; above this, the rarest are dropped. Learning the merges takes 12
/// to 22 bytes of memory for each, less than 1 GB in total. Text with spaces between words rarely reaches it.
const MIN_DISTINCT_BYTES: usize = 40 << 20;

/// The same for a text of 4 GiB and more; linear in between.
const MAX_DISTINCT_BYTES: usize = 128 << 20;

/// The longest word; longer ones are split.
const MAX_WORD_BYTES: usize = 256;

/// The progress of training a BPE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BpeProgress {
    /// Reading the corpus and counting its words.
    Counting {
        /// Bytes of text counted so far.
        bytes: u64,
    },
    /// Learning the merges. The first ones take the longest.
    Merging {
        /// Merges learned so far.
        n_merges: usize,
        /// The requested number of merges; a small corpus may give fewer.
        n_wanted: usize,
    },
}

impl Tokenizer {
    /// Trains a byte-level BPE of `vocab_size` tokens with GPT-2's pre-tokenization.
    ///
    /// `texts` is the corpus in parts of any size; a word across two parts counts as two words. 16 parts are in memory
    /// at a time and counted on all cores. `progress` is called after each 16 parts and before each merge.
    ///
    /// The same corpus in the same parts gives the same tokenizer. If the corpus is too small (no pair of tokens occurs
    /// twice any more), the tokenizer has fewer tokens, and a warning is logged.
    ///
    /// Fails with [`Error::VocabSize`], with [`Error::Corpus`] if `texts` fails, or with [`Error::Train`].
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
        let words = count_words(texts, max_distinct_bytes, progress)?;
        let n_wanted = vocab_size - MIN_VOCAB_SIZE;
        let merges = learn_merges(words, n_wanted, &mut |n_merges| {
            progress(BpeProgress::Merging { n_merges, n_wanted });
        });
        let merges = merges.into_iter().map(|(left, right)| (spell(left), spell(right))).collect();
        let model = pipeline::byte_level_model(merges).map_err(Error::Train)?;
        let tokenizer = Self::new(pipeline::byte_level_pipeline(model));
        if tokenizer.vocab_size() < vocab_size {
            tracing::warn!(
                "the corpus is too small for {vocab_size} tokens; the tokenizer has {}",
                tokenizer.vocab_size()
            );
        }
        Ok(tokenizer)
    }
}

/// Counts the words of the corpus.
fn count_words(
    texts: impl IntoIterator<Item = io::Result<String>>,
    max_distinct_bytes: impl Fn(u64) -> usize,
    progress: &mut dyn FnMut(BpeProgress),
) -> Result<WordCounts> {
    let mut texts = texts.into_iter();
    let mut words = WordCounts::default();
    let mut bytes = 0;
    let mut too_rare = 0;
    let mut is_warned = false;
    loop {
        let batch = texts.by_ref().take(BATCH_SIZE).collect::<io::Result<Vec<String>>>();
        let batch = batch.map_err(Error::Corpus)?;
        if batch.is_empty() {
            return Ok(words);
        }
        for counts in batch.par_iter().map(|text| count_in(text)).collect::<Vec<_>>() {
            words.add(counts);
        }
        while words.len() > MAX_WORDS {
            too_rare += 1;
            words.drop_up_to(too_rare);
        }
        bytes += batch.iter().map(|text| text.len() as u64).sum::<u64>();
        let max_bytes = max_distinct_bytes(bytes);
        if words.size_bytes() > max_bytes {
            // Halved, so that this does not run after each batch.
            words.keep_most_frequent(max_bytes / 2);
            if !std::mem::replace(&mut is_warned, true) {
                tracing::warn!(
                    "the text has more than {} MiB of distinct words, usually because it has no spaces; merges are \
                     learned from the most frequent words and a sample of the others",
                    max_bytes >> 20
                );
            }
        }
        progress(BpeProgress::Counting { bytes });
    }
}

/// The limit on distinct words, in bytes, for a text of this size.
fn max_distinct_bytes(text_bytes: u64) -> usize {
    let share = usize::try_from(text_bytes / 32).unwrap_or(usize::MAX);
    share.clamp(MIN_DISTINCT_BYTES, MAX_DISTINCT_BYTES)
}

fn count_in(text: &str) -> HashMap<&str, u64> {
    let mut counts = HashMap::new();
    for word in pieces(text).flat_map(split_word) {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// Splits a word into parts of at most [`MAX_WORD_BYTES`].
fn split_word(mut word: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (part, rest) = word.split_at(word.floor_char_boundary(MAX_WORD_BYTES));
        word = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_word_is_split_between_characters() {
        let word = "é".repeat(MAX_WORD_BYTES) + "x";
        let parts: Vec<&str> = split_word(&word).collect();
        assert_eq!(parts.concat(), word);
        assert!(parts.len() == 3 && parts.iter().all(|part| part.len() <= MAX_WORD_BYTES), "{parts:?}");
    }

    #[test]
    fn words_are_counted_over_all_texts() {
        let texts = (0..40).map(|_| Ok("to be to".to_owned()));
        let mut reports = Vec::new();
        let words = count_words(texts, max_distinct_bytes, &mut |report| reports.push(report)).unwrap();
        let mut counts: Vec<(&[u8], u64)> = words.iter().collect();
        counts.sort_unstable();
        assert_eq!(counts, [(b" be".as_slice(), 40), (b" to", 40), (b"to", 40)]);
        let bytes = [128, 256, 320];
        assert_eq!(reports, bytes.map(|bytes| BpeProgress::Counting { bytes }));
    }

    /// Texts in which each word occurs once, except for a frequent one.
    fn diverse_texts() -> impl Iterator<Item = io::Result<String>> {
        (0..100).map(|text_idx| {
            let words = (0..50).map(|word_idx| format!(" 世界{:07}", text_idx * 50 + word_idx));
            Ok(words.chain([" again".to_owned()]).collect::<String>().replace(' ', ","))
        })
    }

    #[test]
    fn distinct_words_are_bounded_and_the_rarest_are_dropped_first() {
        let count = |max_bytes| {
            let words = count_words(diverse_texts(), |_| max_bytes, &mut |_| {}).unwrap();
            let mut counts: Vec<(Vec<u8>, u64)> =
                words.iter().map(|(word, count)| (word.to_vec(), count)).collect();
            counts.sort_unstable();
            counts
        };
        let size_bytes = |counts: &[(Vec<u8>, u64)]| counts.iter().map(|(word, _)| word.len()).sum::<usize>();
        let (all, bounded) = (count(1 << 20), count(10_000));
        assert!(size_bytes(&all) > 30_000);
        assert!((2_500..=10_000).contains(&size_bytes(&bounded)), "{}", size_bytes(&bounded));
        for kept in [(b"again".to_vec(), 100), (b",".to_vec(), 5_100), ("世界".into(), 5_000)] {
            assert!(all.contains(&kept) && bounded.contains(&kept), "{kept:?}");
        }
        assert_eq!(count(10_000), bounded);
    }
}
