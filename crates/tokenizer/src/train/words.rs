//! Counts of the words of a corpus, in bounded memory.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use hashbrown::{HashMap, HashTable};
use xxhash_rust::xxh3::xxh3_64;

/// Distinct words with their counts.
///
/// All words share one buffer: a word takes its bytes and about 24 more, less than half of a `String` in a `HashMap`.
#[derive(Debug, Default)]
pub(super) struct WordCounts {
    bytes: Vec<u8>,
    words: Vec<Word>,
    /// Indices into `words`, by the hash of the word.
    index: HashTable<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Word {
    /// End in `bytes`. The word starts where the one before it ends.
    end: usize,
    count: u64,
}

impl WordCounts {
    /// Number of distinct words.
    pub(super) fn len(&self) -> usize {
        self.words.len()
    }

    /// Bytes of all distinct words.
    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The words and their counts, in any order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        (0..self.len()).map(|word_idx| (self.word(word_idx), self.words[word_idx].count))
    }

    /// The words and their counts, by descending count.
    pub(super) fn most_frequent_first(&self) -> impl Iterator<Item = (&[u8], u64)> {
        let mut order: Vec<(Reverse<u64>, u32)> =
            self.words.iter().map(|word| Reverse(word.count)).zip(0..).collect();
        order.sort_unstable();
        order.into_iter().map(|(Reverse(count), word_idx)| (self.word(word_idx as usize), count))
    }

    /// Adds the counts of a part of the corpus.
    pub(super) fn add(&mut self, counts: HashMap<&str, u64>) {
        for (word, count) in counts {
            match self.position(word.as_bytes()) {
                Some(word_idx) => self.words[word_idx].count += count,
                None => self.insert(word.as_bytes(), count),
            }
        }
    }

    /// Drops the words with a count of at most `count`.
    pub(super) fn drop_up_to(&mut self, count: u64) {
        self.retain(|_, word| word.count > count);
    }

    /// Drops the rarest words until at most `max_bytes` are left.
    ///
    /// Among equally rare words, the smallest hashes stay. The result does not depend on the order of the words.
    /// After repeated calls, these words are a sample of the whole corpus, not of its end.
    pub(super) fn keep_most_frequent(&mut self, max_bytes: usize) {
        let mut bytes_of_count = BTreeMap::<u64, usize>::new();
        for (word, count) in self.iter() {
            *bytes_of_count.entry(count).or_default() += word.len();
        }
        let mut budget = max_bytes;
        let rarest_kept =
            bytes_of_count.into_iter().rev().find(|&(_, bytes)| match budget.checked_sub(bytes) {
                Some(left) => {
                    budget = left;
                    false
                }
                None => true,
            });
        let Some((rarest_kept, _)) = rarest_kept else { return };

        let mut ties: Vec<(u64, usize)> = (0..self.len())
            .filter(|&word_idx| self.words[word_idx].count == rarest_kept)
            .map(|word_idx| (xxh3_64(self.word(word_idx)), word_idx))
            .collect();
        ties.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| self.word(a.1).cmp(self.word(b.1))));
        let n_kept = ties
            .iter()
            .take_while(|&&(_, word_idx)| {
                let left = budget.checked_sub(self.word(word_idx).len());
                budget = left.unwrap_or(budget);
                left.is_some()
            })
            .count();
        let mut kept: Vec<usize> = ties[..n_kept].iter().map(|&(_, word_idx)| word_idx).collect();
        kept.sort_unstable();
        let mut kept = kept.into_iter().peekable();
        self.retain(|word_idx, word| {
            word.count > rarest_kept || kept.next_if(|&next_kept| next_kept == word_idx).is_some()
        });
    }

    fn word(&self, word_idx: usize) -> &[u8] {
        let start = if word_idx == 0 { 0 } else { self.words[word_idx - 1].end };
        &self.bytes[start..self.words[word_idx].end]
    }

    fn position(&self, word: &[u8]) -> Option<usize> {
        let found = self.index.find(xxh3_64(word), |&word_idx| self.word(word_idx as usize) == word)?;
        Some(*found as usize)
    }

    fn insert(&mut self, word: &[u8], count: u64) {
        self.bytes.extend_from_slice(word);
        self.words.push(Word { end: self.bytes.len(), count });
        self.index_word(self.len() - 1);
    }

    /// Adds a word to the index.
    fn index_word(&mut self, word_idx: usize) {
        let hash = xxh3_64(self.word(word_idx));
        let narrow_idx = u32::try_from(word_idx).expect("a corpus in memory has fewer than 2^32 words");
        let mut index = std::mem::take(&mut self.index);
        index.insert_unique(hash, narrow_idx, |&other| xxh3_64(self.word(other as usize)));
        self.index = index;
    }

    /// Keeps the words for which `is_kept` is true; it is called in the order of indices.
    fn retain(&mut self, mut is_kept: impl FnMut(usize, Word) -> bool) {
        let (mut n_kept, mut start, mut kept_end) = (0, 0, 0);
        for word_idx in 0..self.len() {
            let word = self.words[word_idx];
            if is_kept(word_idx, word) {
                self.bytes.copy_within(start..word.end, kept_end);
                kept_end += word.end - start;
                self.words[n_kept] = Word { end: kept_end, count: word.count };
                n_kept += 1;
            }
            start = word.end;
        }
        self.words.truncate(n_kept);
        self.bytes.truncate(kept_end);
        self.index.clear();
        (0..n_kept).for_each(|word_idx| self.index_word(word_idx));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(counts: &[(&str, u64)]) -> WordCounts {
        let mut words = WordCounts::default();
        words.add(counts.iter().copied().collect());
        words
    }

    fn sorted(words: &WordCounts) -> Vec<(&str, u64)> {
        let mut sorted: Vec<_> =
            words.iter().map(|(word, count)| (str::from_utf8(word).unwrap(), count)).collect();
        sorted.sort_unstable();
        sorted
    }

    #[test]
    fn counts_of_a_word_add_up() {
        let mut words = counted(&[("to", 2), ("be", 3)]);
        words.add([("be", 4), ("or", 1)].into_iter().collect());
        assert_eq!(sorted(&words), [("be", 7), ("or", 1), ("to", 2)]);
        assert_eq!((words.len(), words.size_bytes()), (3, 6));
    }

    #[test]
    fn the_rarest_words_are_dropped_first() {
        let counts = [("rare", 2), ("frequent", 9), ("middling", 5), ("once", 1)];
        let mut words = counted(&counts);
        words.keep_most_frequent(24);
        assert_eq!(words.len(), 4);
        words.keep_most_frequent(20);
        assert_eq!(sorted(&words), [("frequent", 9), ("middling", 5), ("rare", 2)]);
        words.keep_most_frequent(15);
        assert_eq!(sorted(&words), [("frequent", 9)]);
        // Dropped words start at zero, and kept words are still found.
        words.add([("rare", 3), ("frequent", 1)].into_iter().collect());
        assert_eq!(sorted(&words), [("frequent", 10), ("rare", 3)]);
        words.drop_up_to(3);
        assert_eq!(sorted(&words), [("frequent", 10)]);
        words.keep_most_frequent(0);
        assert_eq!((words.len(), words.size_bytes()), (0, 0));
    }

    #[test]
    fn equally_rare_words_are_sampled_from_the_whole_corpus() {
        let names: Vec<String> = (0..4000).map(|idx| format!("word{idx:04}")).collect();
        // In two orders, with an overflow after every 500 or 250 words.
        let kept = |order: &mut dyn Iterator<Item = &String>, chunk_size: usize| {
            let mut words = WordCounts::default();
            let order: Vec<&String> = order.collect();
            for part in order.chunks(chunk_size) {
                words.add(part.iter().map(|name| (name.as_str(), 1)).collect());
                words.keep_most_frequent(8 * 1000);
            }
            sorted(&words).into_iter().map(|(word, _)| word.to_owned()).collect::<Vec<_>>()
        };
        let forwards = kept(&mut names.iter(), 500);
        assert_eq!(forwards.len(), 1000);
        assert_eq!(kept(&mut names.iter().rev(), 250), forwards);
        let n_early = forwards.iter().filter(|name| name.as_str() < "word2000").count();
        assert!((400..600).contains(&n_early), "{n_early} of 1000 are from the first half");
    }
}
