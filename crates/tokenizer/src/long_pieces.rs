//! BPE encoding of long pieces of text, such as a line of base64.
//!
//! It takes 4 bytes of memory for each byte of text and 4 for each pair that may be merged; the library takes 45.
//! Merges are applied in the library's order: lowest rank first, and the leftmost of equal rank.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use hashbrown::HashMap;

use crate::byte_alphabet::CHARS;

/// The merges of a byte-level BPE as a table of ids.
#[derive(Clone)]
pub(crate) struct MergeTable {
    /// The id of each byte.
    bytes: [u32; 256],
    /// The resulting token of each merge, by rank.
    merged: Vec<u32>,
    /// The rank of each pair, an index into `merged`.
    ranks: HashMap<(u32, u32), u32>,
    /// The length of each token, in bytes.
    lengths: Vec<u32>,
}

impl MergeTable {
    /// The table of merges spelled in GPT-2's alphabet. `None` if one of their tokens has no id.
    pub(crate) fn new(merges: &[(String, String)], id_of: impl Fn(&str) -> Option<u32>) -> Option<Self> {
        let mut table =
            Self { bytes: [0; 256], merged: Vec::new(), ranks: HashMap::new(), lengths: Vec::new() };
        for (byte, character) in table.bytes.iter_mut().zip(CHARS.iter()) {
            *byte = id_of(&character.to_string())?;
        }
        for id in table.bytes {
            table.set_length(id, 1);
        }
        for (rank, (left, right)) in (0..).zip(merges) {
            let joined = format!("{left}{right}");
            let id = id_of(&joined)?;
            table.ranks.insert((id_of(left)?, id_of(right)?), rank);
            table.merged.push(id);
            table.set_length(id, u32::try_from(joined.chars().count()).ok()?);
        }
        Some(table)
    }

    fn set_length(&mut self, id: u32, length: u32) {
        let idx = id as usize;
        self.lengths.resize(self.lengths.len().max(idx + 1), 0);
        self.lengths[idx] = length;
    }

    /// The ids of a piece; `None` if its length does not fit 32 bits.
    pub(crate) fn encode(&self, piece: &str) -> Option<Vec<u32>> {
        u32::try_from(piece.len()).ok()?;
        let mut tokens = Tokens::new(self, piece.as_bytes());
        tokens.merge_all();
        Some(tokens.ids())
    }
}

/// A piece as tokens, and the positions of pairs that may be merged.
struct Tokens<'a> {
    table: &'a MergeTable,
    /// A cell for each byte. The first and the last cell of a token hold its id, so that both neighbours can be found.
    cells: Vec<u32>,
    /// A bit for each cell: whether a token starts there.
    starts: Vec<u64>,
    /// By rank, the positions of pairs. Some may be stale.
    positions: Vec<Vec<u32>>,
    /// The ranks with positions; a rank may occur more than once.
    queue: BinaryHeap<Reverse<u32>>,
}

impl<'a> Tokens<'a> {
    fn new(table: &'a MergeTable, bytes: &[u8]) -> Self {
        let mut tokens = Self {
            table,
            cells: bytes.iter().map(|&byte| table.bytes[usize::from(byte)]).collect(),
            starts: vec![u64::MAX; bytes.len().div_ceil(64)],
            positions: vec![Vec::new(); table.merged.len()],
            queue: BinaryHeap::new(),
        };
        for start in 0..tokens.cells.len().saturating_sub(1) {
            tokens.push(start);
        }
        tokens
    }

    fn is_start(&self, cell: usize) -> bool {
        self.starts[cell / 64] >> (cell % 64) & 1 == 1
    }

    fn length(&self, id: u32) -> usize {
        self.table.lengths[id as usize] as usize
    }

    /// The start of the token after the one that starts here.
    fn next(&self, start: usize) -> Option<usize> {
        let next = start + self.length(self.cells[start]);
        (next < self.cells.len()).then_some(next)
    }

    /// The rank of the pair whose left token starts here.
    fn rank(&self, start: usize) -> Option<u32> {
        let next = self.next(start)?;
        self.table.ranks.get(&(self.cells[start], self.cells[next])).copied()
    }

    /// Queues the pair that starts here and returns its rank.
    fn push(&mut self, start: usize) -> Option<u32> {
        let rank = self.rank(start)?;
        let positions = &mut self.positions[rank as usize];
        if positions.is_empty() {
            self.queue.push(Reverse(rank));
        }
        positions.push(u32::try_from(start).expect("the length of the piece fits 32 bits"));
        Some(rank)
    }

    fn merge_all(&mut self) {
        while let Some(Reverse(rank)) = self.queue.pop() {
            let mut positions = std::mem::take(&mut self.positions[rank as usize]);
            positions.sort_unstable();
            let mut done = 0;
            for &position in &positions {
                done += 1;
                // If two merges make the same token, a pair of a lower rank may appear.
                if self.merge(rank, position as usize).is_some_and(|lowest| lowest < rank) {
                    break;
                }
            }
            positions.drain(..done);
            if !positions.is_empty() {
                positions.append(&mut self.positions[rank as usize]);
                self.positions[rank as usize] = positions;
                self.queue.push(Reverse(rank));
            }
        }
    }

    /// Merges the pair that starts here, if it still makes the token of this rank. Returns the lowest rank of the new
    /// pairs.
    fn merge(&mut self, rank: u32, start: usize) -> Option<u32> {
        let merged = self.table.merged[rank as usize];
        let is_there = self.is_start(start)
            && self.rank(start).is_some_and(|found| self.table.merged[found as usize] == merged);
        if !is_there {
            return None;
        }
        let next = self.next(start)?;
        self.starts[next / 64] &= !(1 << (next % 64));
        let last = start + self.length(merged) - 1;
        self.cells[start] = merged;
        self.cells[last] = merged;
        let before = start.checked_sub(1).map(|last| start - self.length(self.cells[last]));
        let left = before.and_then(|before| self.push(before));
        let right = self.push(start);
        left.into_iter().chain(right).min()
    }

    fn ids(&self) -> Vec<u32> {
        let starts = std::iter::successors((!self.cells.is_empty()).then_some(0), |&start| self.next(start));
        starts.map(|start| self.cells[start]).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::Model;

    use super::*;
    use crate::Tokenizer;
    use crate::byte_alphabet::spell;

    fn library(tokenizer: &Tokenizer, piece: &str) -> Vec<u32> {
        let tokens = tokenizer.pipeline().get_model().tokenize(&spell(piece)).unwrap();
        tokens.into_iter().map(|token| token.id).collect()
    }

    fn table(tokenizer: &Tokenizer) -> MergeTable {
        let model = tokenizer.pipeline().get_model();
        MergeTable::new(&tokenizer.merges(), |token| model.token_to_id(token)).unwrap()
    }

    /// A tokenizer trained on a few letters, so that many merges overlap and some make the same token.
    fn dense() -> Tokenizer {
        let text = "aaab abab aabb abba bbaa aaaa abcabc cabcab aabaab aaabaaab bbbb bbab abbb ".repeat(9);
        Tokenizer::train_bpe([Ok(text)], 330, &mut |_| ()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        #[test]
        fn ids_match_the_library(dense_text in "[abc]{0,80}", any_text in "\\PC{0,40}") {
            static DENSE: std::sync::LazyLock<(Tokenizer, MergeTable)> = std::sync::LazyLock::new(|| {
                let tokenizer = dense();
                let table = table(&tokenizer);
                (tokenizer, table)
            });
            static GPT2: std::sync::LazyLock<MergeTable> = std::sync::LazyLock::new(|| table(&Tokenizer::gpt2()));
            prop_assert_eq!(DENSE.1.encode(&dense_text).unwrap(), library(&DENSE.0, &dense_text));
            prop_assert_eq!(GPT2.encode(&dense_text).unwrap(), library(&Tokenizer::gpt2(), &dense_text));
            prop_assert_eq!(GPT2.encode(&any_text).unwrap(), library(&Tokenizer::gpt2(), &any_text));
        }
    }

    /// Merges that make the same token, and a later merge that enables an earlier one.
    #[test]
    fn a_token_of_two_merges_is_merged_in_the_order_of_the_library() {
        let pairs = [("a", "b"), ("ab", "c"), ("abc", "d"), ("b", "c"), ("a", "bc"), ("d", "d")];
        let merges: Vec<(String, String)> =
            pairs.iter().map(|&(left, right)| (left.to_owned(), right.to_owned())).collect();
        for order in 0..24 {
            let mut merges = merges.clone();
            merges.swap(0, order % 6);
            merges.swap(1, order / 4);
            let model = crate::pipeline::byte_level_model(merges.clone()).unwrap();
            let table = MergeTable::new(&merges, |token| model.token_to_id(token)).unwrap();
            for text in ["abcd", "abcabcd", "aabccdd", "bcabcd", "dddabcddd", "abcdabcdabcd"] {
                let tokens = model.tokenize(&spell(text)).unwrap();
                let expected: Vec<u32> = tokens.into_iter().map(|token| token.id).collect();
                assert_eq!(table.encode(text).unwrap(), expected, "{text} by {merges:?}");
            }
        }
    }
}
