//! Learns merges from counted words: the same merges in the same order as the trainer of the `tokenizers` library.
//!
//! Each merge joins the most frequent pair of neighboring tokens in all words. A priority queue holds the pairs with
//! the positions where they occur, so a merge touches only these positions. See section 3.2 of
//! [Neural Machine Translation of Rare Words with Subword Units](https://arxiv.org/abs/1508.07909). All words share
//! one buffer of 4 bytes for each byte of text, and all positions another. This takes about a fifth of the memory of
//! the library's vector for each word and hash set for each pair.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use hashbrown::{HashMap, HashSet};

use super::words::WordCounts;
use crate::byte_alphabet::sorted_bytes;

/// A pair that occurs once is not worth a token.
const MIN_FREQUENCY: i32 = 2;

/// The cell between two words. No token has this id.
const BORDER: u32 = u32::MAX;

/// Two tokens to merge. Ids are in GPT-2's order: first the bytes, then the merges in the order of learning.
type Pair = (u32, u32);

/// Learns at most `n_merges` merges and returns the bytes of both halves, the most frequent pairs first.
///
/// `on_merge` is called before each merge with the number of previous merges.
pub(super) fn learn_merges(
    words: WordCounts,
    n_merges: usize,
    on_merge: &mut dyn FnMut(usize),
) -> Vec<(Vec<u8>, Vec<u8>)> {
    on_merge(0);
    let mut tokens = Tokens::of_bytes();
    let vocab_size = tokens.len() + n_merges;
    let mut corpus = Corpus::new(words, &tokens);
    let mut merges = Vec::new();
    while tokens.len() < vocab_size {
        let Some(candidate) = corpus.pop_most_frequent() else { break };
        on_merge(merges.len());
        let merged = tokens.join(candidate.pair);
        merges.push(candidate.pair);
        corpus.merge(&candidate, merged, &tokens);
    }
    // A pair that was queued twice may be learned twice. The library keeps the later one.
    let mut seen = HashSet::new();
    let mut merges: Vec<Pair> = merges.into_iter().rev().filter(|&pair| seen.insert(pair)).collect();
    merges.reverse();
    let bytes = |id| tokens.bytes[id as usize].clone();
    merges.into_iter().map(|(left, right)| (bytes(left), bytes(right))).collect()
}

/// The bytes of each token.
struct Tokens {
    bytes: Vec<Vec<u8>>,
    ids: HashMap<Vec<u8>, u32>,
}

impl Tokens {
    fn of_bytes() -> Self {
        let bytes: Vec<Vec<u8>> = sorted_bytes().map(|byte| vec![byte]).into();
        let ids = bytes.iter().cloned().zip(0..).collect();
        Self { bytes, ids }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Length of a token in bytes, which is also its length in cells.
    fn size(&self, id: u32) -> usize {
        self.bytes[id as usize].len()
    }

    /// The result of a merge. Two pairs with the same bytes make the same token.
    fn join(&mut self, (left, right): Pair) -> u32 {
        let joined = [self.bytes[left as usize].as_slice(), &self.bytes[right as usize]].concat();
        let next_id = narrow(self.bytes.len());
        *self.ids.entry(joined).or_insert_with_key(|joined| {
            self.bytes.push(joined.clone());
            next_id
        })
    }
}

/// All words as tokens, and the pairs in them.
struct Corpus {
    /// The words, each between two [`BORDER`]s, a cell for each byte. The first and the last cell of a token hold its
    /// id, so that both neighbors can be found; the cells between have no meaning.
    cells: Vec<u32>,
    /// Runs of words with the same count: the first cell and the count, by descending count.
    runs: Vec<(u32, i32)>,
    pairs: HashMap<Pair, PairCount>,
    queue: BinaryHeap<Candidate>,
    /// The positions of all candidates.
    positions: Vec<u32>,
    /// How many of `positions` are unused: they belong to no candidate in the queue.
    n_unused_positions: usize,
    left: Neighbors,
    right: Neighbors,
}

#[derive(Clone, Copy, Default)]
struct PairCount {
    /// Number of occurrences. As in the library, it includes those that the pair's own merge consumed.
    count: i32,
    n_queued: u32,
}

/// A pair that may be merged next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    /// The count of the pair when it was queued or last checked.
    count: i32,
    pair: Pair,
    /// The index of its first position in [`Corpus::positions`]. Positions ascend, and some may be stale.
    start: u32,
    n_positions: u32,
}

impl Ord for Candidate {
    /// The most frequent pair is the greatest; ties go to the smallest ids, then to the first queued.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |candidate: &Self| (candidate.count, Reverse((candidate.pair, candidate.start)));
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The tokens on one side of the merged pair, with their counts.
#[derive(Default)]
struct Neighbors {
    /// By id.
    seen: Vec<Neighbor>,
    /// The ids that were seen.
    ids: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Neighbor {
    count: i32,
    n_positions: u32,
    /// The index in [`Corpus::positions`] for its next position.
    next: u32,
}

impl Neighbors {
    fn add(&mut self, id: u32, count: i32) {
        let neighbor = &mut self.seen[id as usize];
        if neighbor.n_positions == 0 {
            self.ids.push(id);
        }
        neighbor.count += count;
        neighbor.n_positions += 1;
    }

    fn clear(&mut self, n_tokens: usize) {
        for id in self.ids.drain(..) {
            self.seen[id as usize] = Neighbor::default();
        }
        self.seen.resize(n_tokens, Neighbor::default());
    }
}

impl Corpus {
    fn new(words: WordCounts, tokens: &Tokens) -> Self {
        let (cells, runs) = cells_of(words, tokens);
        let mut corpus = Self {
            cells,
            runs,
            pairs: HashMap::new(),
            queue: BinaryHeap::new(),
            positions: Vec::new(),
            n_unused_positions: 0,
            left: Neighbors::default(),
            right: Neighbors::default(),
        };
        corpus.queue_byte_pairs(tokens.len());
        corpus
    }

    /// Counts all pairs and lists their positions.
    fn queue_byte_pairs(&mut self, n_bytes: usize) {
        let slot = |cells: &[u32]| match *cells {
            [left, right] if left != BORDER && right != BORDER => {
                Some(left as usize * n_bytes + right as usize)
            }
            _ => None,
        };
        let mut found = vec![Neighbor::default(); n_bytes * n_bytes];
        let run_ends = self.runs.iter().skip(1).map(|&(start, _)| start as usize).chain([self.cells.len()]);
        for (&(start, count), end) in self.runs.iter().zip(run_ends) {
            for pair in self.cells[start as usize..end].windows(2).filter_map(slot) {
                found[pair].count += count;
                found[pair].n_positions += 1;
            }
        }
        let mut start = 0;
        for (pair, pair_idx) in found.iter_mut().zip(0_u32..) {
            pair.next = start;
            start += pair.n_positions;
            if pair.n_positions > 0 {
                let pair_of_ids = (pair_idx / narrow(n_bytes), pair_idx % narrow(n_bytes));
                self.pairs.insert(pair_of_ids, PairCount { count: pair.count, n_queued: 0 });
                self.queue_pair(pair_of_ids, pair.next, pair.n_positions);
            }
        }
        self.positions = vec![0; start as usize];
        for (position, pair) in self.cells.windows(2).map(slot).enumerate() {
            if let Some(pair) = pair {
                self.positions[found[pair].next as usize] = narrow(position);
                found[pair].next += 1;
            }
        }
    }

    /// Pops the most frequent pair, or `None` if all are below [`MIN_FREQUENCY`].
    fn pop_most_frequent(&mut self) -> Option<Candidate> {
        loop {
            let mut top = self.queue.peek_mut()?;
            let count = self.pairs[&top.pair].count;
            if top.count != count {
                top.count = count;
                continue;
            }
            if count < MIN_FREQUENCY {
                return None;
            }
            self.n_unused_positions += top.n_positions as usize;
            return Some(PeekMut::pop(top));
        }
    }

    /// Replaces a pair by `merged` and queues the new pairs.
    fn merge(&mut self, candidate: &Candidate, merged: u32, tokens: &Tokens) {
        let (first, second) = candidate.pair;
        self.left.clear(tokens.len());
        self.right.clear(tokens.len());
        let mut positions = self.positions_of(candidate, tokens);
        self.replace(&mut positions, candidate.pair, merged, tokens);

        for &id in &self.left.ids {
            let count = self.left.seen[id as usize].count;
            self.pairs.entry((id, first)).or_default().count -= count;
            self.pairs.entry((id, merged)).or_default().count += count;
        }
        for &id in &self.right.ids {
            let count = self.right.seen[id as usize].count;
            self.pairs.entry((second, id)).or_default().count -= count;
            self.pairs.entry((merged, id)).or_default().count += count;
        }
        self.queue_new_pairs(&positions, first, merged, tokens);
    }

    /// The positions where a candidate may occur.
    fn positions_of(&self, candidate: &Candidate, tokens: &Tokens) -> Vec<u32> {
        let start = candidate.start as usize;
        let listed = &self.positions[start..start + candidate.n_positions as usize];
        if self.pairs[&candidate.pair].n_queued == 1 {
            return listed.to_vec();
        }
        // The library lists words, not positions. This makes a difference for a pair that is queued again because two
        // merges make the same token: its words may have positions that another candidate lists.
        let mut positions = Vec::new();
        let mut searched = 0;
        for &listed in listed {
            let listed = listed as usize;
            if listed < searched {
                continue;
            }
            let border = self.cells[..listed].iter().rposition(|&cell| cell == BORDER);
            let mut position = border.expect("a border is before each word") + 1;
            while self.cells[position] != BORDER {
                let next = position + tokens.size(self.cells[position]);
                if (self.cells[position], self.cells[next]) == candidate.pair {
                    positions.push(narrow(position));
                }
                position = next;
            }
            searched = position;
        }
        positions
    }

    /// Writes `merged` over `pair` and counts the neighbors. Removes the positions without the pair.
    fn replace(&mut self, positions: &mut Vec<u32>, pair: Pair, merged: u32, tokens: &Tokens) {
        let (first_size, size) = (tokens.size(pair.0), tokens.size(merged));
        let mut runs = self.runs.as_slice();
        positions.retain(|&start| {
            let position = start as usize;
            // After a later merge, the first or the last cell of a token holds another id.
            let found = (self.cells[position], self.cells[position + first_size - 1]) == (pair.0, pair.0)
                && self.cells[position + first_size] == pair.1;
            if !found {
                return false;
            }
            if runs.get(1).is_some_and(|&(next_run, _)| next_run <= start) {
                runs = &runs[runs.partition_point(|&(run, _)| run <= start) - 1..];
            }
            let count = runs[0].1;
            let (before, after) = (self.cells[position - 1], self.cells[position + size]);
            if before != BORDER {
                self.left.add(before, count);
            }
            if after != BORDER {
                self.right.add(after, count);
            }
            self.cells[position] = merged;
            self.cells[position + size - 1] = merged;
            true
        });
    }

    /// Queues the pairs of `merged` and its neighbors with their positions. `first` is the left half of `merged`.
    fn queue_new_pairs(&mut self, merges: &[u32], first: u32, merged: u32, tokens: &Tokens) {
        // If `merged` was a token before, `merged` next to itself is found from both sides. Make both lists adjacent.
        let find_own = |side: &Neighbors| side.ids.iter().position(|&id| id == merged);
        let (own_left, own_right) = (find_own(&self.left), find_own(&self.right));
        if let (Some(own_left), Some(own_right)) = (own_left, own_right) {
            let last = self.left.ids.len() - 1;
            self.left.ids.swap(own_left, last);
            self.right.ids.swap(0, own_right);
        }
        self.list_positions(merges, first, tokens.size(merged), tokens);

        let list = |side: &Neighbors, id: u32| {
            let Neighbor { n_positions, next, .. } = side.seen[id as usize];
            (next - n_positions, n_positions)
        };
        let left = self.left.ids.iter().map(|&id| ((id, merged), list(&self.left, id)));
        let right = self.right.ids.iter().map(|&id| ((merged, id), list(&self.right, id)));
        let mut lists: Vec<(Pair, (u32, u32))> = left.chain(right).collect();
        if own_left.is_some() && own_right.is_some() {
            let (_, (_, n_right)) = lists.remove(self.left.ids.len());
            let (_, (start, n_positions)) = &mut lists[self.left.ids.len() - 1];
            *n_positions += n_right;
            let end = *start + *n_positions;
            self.positions[*start as usize..end as usize].sort_unstable();
        }
        for (pair, (start, n_positions)) in lists {
            self.queue_pair(pair, start, n_positions);
        }
    }

    /// Appends the positions of all new pairs, grouped by pair.
    fn list_positions(&mut self, merges: &[u32], first: u32, size: usize, tokens: &Tokens) {
        let all = [&self.left, &self.right]
            .into_iter()
            .flat_map(|side| side.ids.iter().map(|&id| side.seen[id as usize].n_positions as usize));
        let n_new = all.sum();
        self.reclaim_positions(n_new);
        let mut start = narrow(self.positions.len());
        for side in [&mut self.left, &mut self.right] {
            for &id in &side.ids {
                side.seen[id as usize].next = start;
                start += side.seen[id as usize].n_positions;
            }
        }
        self.positions.resize(start as usize, 0);

        let mut list = |side: &mut Neighbors, id: u32, position: usize| {
            let next = &mut side.seen[id as usize].next;
            self.positions[*next as usize] = narrow(position);
            *next += 1;
        };
        for (merge_idx, &start) in merges.iter().enumerate() {
            let (start, end) = (start as usize, start as usize + size);
            let before = self.cells[start - 1];
            if before != BORDER {
                list(&mut self.left, before, start - tokens.size(before));
            }
            // The next token at the time of this merge: before its own merge, it was still the first half.
            let is_merged_next = merges.get(merge_idx + 1).is_some_and(|&next| next as usize == end);
            let after = if is_merged_next { first } else { self.cells[end] };
            if after != BORDER {
                list(&mut self.right, after, start);
            }
        }
    }

    /// Queues a pair with a positive count.
    fn queue_pair(&mut self, pair: Pair, start: u32, n_positions: u32) {
        let state = self.pairs.get_mut(&pair).expect("a pair is counted before it is queued");
        if state.count > 0 {
            state.n_queued += 1;
            self.queue.push(Candidate { count: state.count, pair, start, n_positions });
        } else {
            self.n_unused_positions += n_positions as usize;
        }
    }

    /// Removes the unused positions if the list would have to grow and at least a quarter is unused.
    fn reclaim_positions(&mut self, n_new: usize) {
        let n_positions = self.positions.len();
        if n_positions + n_new <= self.positions.capacity() || self.n_unused_positions < n_positions / 4 {
            return;
        }
        let mut queue = std::mem::take(&mut self.queue).into_vec();
        queue.sort_unstable_by_key(|candidate| candidate.start);
        let mut end = 0;
        for candidate in &mut queue {
            let start = candidate.start as usize;
            self.positions.copy_within(start..start + candidate.n_positions as usize, end);
            candidate.start = narrow(end);
            end += candidate.n_positions as usize;
        }
        self.positions.truncate(end);
        self.n_unused_positions = 0;
        self.queue = queue.into();
    }
}

/// The cells of all words, the most frequent first, and the runs of equal counts.
fn cells_of(words: WordCounts, tokens: &Tokens) -> (Vec<u32>, Vec<(u32, i32)>) {
    let scale = scale_of_counts(&words);
    let id_of_byte: [u32; 256] = std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("the array has 256 elements");
        tokens.ids[[byte].as_slice()]
    });
    let mut cells = Vec::with_capacity(words.size_bytes() + words.len() + 1);
    let mut runs: Vec<(u32, i32)> = Vec::new();
    cells.push(BORDER);
    for (word, count) in words.most_frequent_first() {
        let count = i32::try_from(count / scale).expect("scaled to fit");
        if count == 0 {
            break;
        }
        if runs.last().is_none_or(|&(_, last)| last != count) {
            runs.push((narrow(cells.len()), count));
        }
        cells.extend(word.iter().map(|&byte| id_of_byte[usize::from(byte)]));
        cells.push(BORDER);
    }
    (cells, runs)
}

/// The divisor of all counts, so that the number of all bytes fits the counts of pairs.
fn scale_of_counts(words: &WordCounts) -> u64 {
    let n_bytes: u64 = words.iter().map(|(word, count)| word.len() as u64 * count).sum();
    n_bytes / u64::from(i32::MAX.unsigned_abs()) + 1
}

fn narrow(number: usize) -> u32 {
    u32::try_from(number).expect("the bytes of distinct words are bounded far below 2^32")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::models::bpe::{BPE, BpeTrainer};

    use super::*;
    use crate::byte_alphabet::{CHARS, spell};

    fn counted(counts: &[(String, u64)]) -> WordCounts {
        let mut words = WordCounts::default();
        counts.iter().for_each(|(word, count)| words.add([(word.as_str(), *count)].into_iter().collect()));
        words
    }

    fn ours(counts: &[(String, u64)], n_merges: usize) -> Vec<(String, String)> {
        let merges = learn_merges(counted(counts), n_merges, &mut |_| {});
        merges.into_iter().map(|(left, right)| (spell(left), spell(right))).collect()
    }

    /// The merges by the trainer of the `tokenizers` library.
    fn reference(counts: &[(String, u64)], n_merges: usize) -> Vec<(String, String)> {
        let trainer = BpeTrainer::builder()
            .show_progress(false)
            .min_frequency(2)
            .initial_alphabet(CHARS.iter().copied().collect())
            .vocab_size(CHARS.len() + n_merges)
            .build();
        let words = counts.iter().map(|(word, count)| (spell(word).into(), *count)).collect();
        let mut model = BPE::default();
        trainer.do_train(&words, &mut model).unwrap();
        // The library exposes the merges only in its JSON.
        serde_json::from_value(serde_json::to_value(&model).unwrap()["merges"].take()).unwrap()
    }

    fn check(counts: &[(&str, u64)], n_merges: usize, expected: &[(&str, &str)]) {
        let counts: Vec<(String, u64)> =
            counts.iter().map(|&(word, count)| (word.to_owned(), count)).collect();
        let merges = ours(&counts, n_merges);
        let merges: Vec<(&str, &str)> =
            merges.iter().map(|(left, right)| (left.as_str(), right.as_str())).collect();
        assert_eq!(merges, expected, "{counts:?}");
    }

    #[test]
    fn the_most_frequent_pair_is_merged_first() {
        // The example of the paper, without its end of word.
        let paper = [("low", 5), ("lower", 2), ("newest", 6), ("widest", 3)];
        let merges = [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")];
        check(&paper, 2, &merges[..2]);
        check(&paper, 4, &merges);
    }

    #[test]
    fn a_run_of_one_byte_is_merged_from_the_left() {
        check(&[("aaaaa", 2)], 9, &[("a", "a"), ("aa", "a"), ("aa", "aaa")]);
    }

    #[test]
    fn a_pair_that_occurs_once_is_not_merged() {
        check(&[("ab", 1), ("cd", 2)], 9, &[("c", "d")]);
        check(&[], 9, &[]);
    }

    #[test]
    fn counts_beyond_an_i32_are_scaled() {
        // Counts are divided by 3, which drops the rare word.
        check(&[("ab", 3_000_000_000), ("cd", 30), ("ef", 2)], 9, &[("a", "b"), ("c", "d")]);
        check(&[("ab", 1_000_000_000), ("cd", 30), ("ef", 2)], 9, &[("a", "b"), ("c", "d"), ("e", "f")]);
    }

    #[test]
    fn progress_is_reported_for_every_merge() {
        let mut reports = Vec::new();
        let counts = [("abcd".to_owned(), 3)];
        learn_merges(counted(&counts), 9, &mut |n_merges| reports.push(n_merges));
        assert_eq!(reports, [0, 0, 1, 2]);
    }

    #[test]
    fn a_pair_that_is_queued_again_is_merged_in_whole_words() {
        let tokens = Tokens::of_bytes();
        let words = [("xabcab", 3), ("ab", 2), ("abab", 1)].map(|(word, count)| (word.to_owned(), count));
        let mut corpus = Corpus::new(counted(&words), &tokens);
        // The cells: | x a b c a b | a b | a b a b |
        let pair = (tokens.ids[b"a".as_slice()], tokens.ids[b"b".as_slice()]);
        corpus.positions = vec![5, 11];
        let candidate = Candidate { count: 10, pair, start: 0, n_positions: 2 };
        assert_eq!(corpus.positions_of(&candidate, &tokens), [5, 11]);
        corpus.pairs.get_mut(&pair).unwrap().n_queued += 1;
        assert_eq!(corpus.positions_of(&candidate, &tokens), [2, 5, 11, 13]);
    }

    /// Words of few letters, so that pairs overlap and different merges make the same token.
    fn dense_words() -> impl Strategy<Value = Vec<(String, u64)>> {
        let word = prop_oneof![
            "[ab]{1,12}",
            "(ab?){5,30}",
            "[abc]{1,30}",
            "[a-f]{1,9}",
            "[aé你]{1,9}",
            "[ACGT]{40,90}"
        ];
        prop::collection::hash_map(word, 1..9_u64, 1..60).prop_map(|words| words.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn merges_match_the_library(counts in dense_words(), n_merges in 0..300_usize) {
            prop_assert_eq!(ours(&counts, n_merges), reference(&counts, n_merges));
        }
    }
}
