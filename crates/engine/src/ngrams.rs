//! Earlier occurrences of the last tokens of a text.

use std::{collections::HashMap, iter, ops::RangeInclusive};

/// Lengths of n-grams in tokens.
const LENGTHS: RangeInclusive<usize> = 2..=MAX_LENGTH;
const MAX_LENGTH: usize = 4;

/// The tokens of an n-gram. Shorter ones than [`MAX_LENGTH`] end with [`NO_TOKEN`].
type Ngram = [u32; MAX_LENGTH];

/// Token ids are below 2³¹.
const NO_TOKEN: u32 = u32::MAX;

/// The last occurrence of each n-gram of a growing text. Adding a token and finding a continuation take constant time.
#[derive(Debug, Default)]
pub(crate) struct NgramIndex {
    /// The position after the last occurrence. The n-grams at the end of the text are added with the next token.
    ends: HashMap<Ngram, usize>,
    /// Number of tokens of the text so far.
    len: usize,
}

impl NgramIndex {
    /// Adds the tokens that a text has gained.
    pub(crate) fn extend_to(&mut self, text: &[u32]) {
        for end in self.len..text.len() {
            self.ends.extend(last_ngrams(&text[..end]).map(|ngram| (ngram, end)));
        }
        self.len = text.len();
    }

    /// `n` tokens that may follow the text: those after the last earlier occurrence of the longest known n-gram at its
    /// end. Where the text ends, they continue with themselves, so a loop is repeated. Without an occurrence, none.
    pub(crate) fn continuation(&self, text: &[u32], n: usize) -> Vec<u32> {
        let Some(&start) = last_ngrams(text).find_map(|ngram| self.ends.get(&ngram)) else {
            return Vec::new();
        };
        text[start..].iter().copied().cycle().take(n).collect()
    }
}

/// The n-grams at the end of a text, the longest first.
fn last_ngrams(text: &[u32]) -> impl Iterator<Item = Ngram> {
    LENGTHS.rev().filter_map(|length| {
        let last = &text[text.len().checked_sub(length)?..];
        let mut tokens = last.iter().copied().chain(iter::repeat(NO_TOKEN));
        Some(std::array::from_fn(|_| tokens.next().unwrap_or(NO_TOKEN)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The continuation of a text that grows token by token, which must not differ from that of a text given whole.
    fn continuation(text: &[u32], n: usize) -> Vec<u32> {
        let (mut whole, mut growing) = (NgramIndex::default(), NgramIndex::default());
        whole.extend_to(text);
        for len in 0..=text.len() {
            growing.extend_to(&text[..len]);
        }
        assert_eq!(growing.ends, whole.ends);
        whole.continuation(text, n)
    }

    #[test]
    fn the_tokens_after_an_earlier_occurrence_follow() {
        assert_eq!(continuation(&[1, 2, 3, 4, 5, 9, 1, 2], 3), [3, 4, 5]);
        assert!(continuation(&[1, 2, 3, 4, 5, 9, 1, 2], 0).is_empty());
        for unknown in [&[][..], &[1], &[1, 1], &[1, 2, 1], &[1, 2, 3, 4, 5, 2, 4]] {
            assert!(continuation(unknown, 3).is_empty(), "{unknown:?}");
        }
    }

    #[test]
    fn the_longest_ngram_counts_and_then_the_last_occurrence() {
        // After 7 8 comes 2 at last, but after 6 7 8 comes 1, and after 5 6 7 8 comes 0.
        let text = [5, 6, 7, 8, 0, 4, 6, 7, 8, 1, 3, 7, 8, 2];
        for (last, expected) in [(&[7, 8][..], 2), (&[6, 7, 8], 1), (&[5, 6, 7, 8], 0), (&[9, 5, 6, 7, 8], 0)]
        {
            assert_eq!(continuation(&[&text, last].concat(), 1), [expected], "{last:?}");
        }
        assert_eq!(continuation(&[1, 2, 3, 1, 2, 4, 1, 2], 1), [4]);
    }

    #[test]
    fn a_loop_is_repeated() {
        assert_eq!(continuation(&[0, 7, 7, 7], 4), [7, 7, 7, 7]);
        assert_eq!(continuation(&[3, 1, 2, 3, 1, 2], 7), [3, 1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_short_ngram_is_not_the_start_of_a_longer_one() {
        assert_eq!(
            last_ngrams(&[1, 2, 3]).collect::<Vec<_>>(),
            [[1, 2, 3, NO_TOKEN], [2, 3, NO_TOKEN, NO_TOKEN]]
        );
        assert_eq!(continuation(&[1, 2, 3, 9, 1, 2, 4, 2, 3], 1), [9]);
    }

    #[test]
    fn the_index_has_at_most_three_entries_per_token() {
        let text: Vec<u32> = (0..10_000).collect();
        let mut index = NgramIndex::default();
        index.extend_to(&text);
        assert_eq!(index.ends.len(), 3 * text.len() - 9);
        index.extend_to(&text);
        assert_eq!(index.len, text.len());
    }
}
