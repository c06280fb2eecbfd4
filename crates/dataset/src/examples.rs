//! Examples for fine-tuning: token sequences with a mark on each token that is trained.

use sha2::{Digest, Sha256};

/// Sequences of tokens, such as conversations. A trained token is a target of the loss; the others are context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examples {
    /// The tokens of all examples, one example after another.
    ids: Vec<u32>,
    /// For each token, whether it is trained.
    trained: Vec<bool>,
    /// The end of each example in `ids`.
    ends: Vec<usize>,
}

/// One example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Example<'a> {
    pub ids: &'a [u32],
    /// As long as `ids`.
    pub trained: &'a [bool],
}

impl Example<'_> {
    /// Number of trained tokens.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().filter(|&&it| it).count()
    }
}

impl Examples {
    /// Appends an example. The first token has no context, so it is not trained.
    ///
    /// # Panics
    ///
    /// If `ids` and `trained` differ in length, or no token after the first is trained.
    pub fn push(&mut self, Example { ids, trained }: Example<'_>) {
        assert_eq!(ids.len(), trained.len(), "each token of an example has a mark");
        assert!(trained.iter().skip(1).any(|&it| it), "an example without trained tokens has no loss");
        self.ids.extend_from_slice(ids);
        self.trained.push(false);
        self.trained.extend_from_slice(&trained[1..]);
        self.ends.push(self.ids.len());
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The example with this index.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn get(&self, idx: usize) -> Example<'_> {
        let start = if idx == 0 { 0 } else { self.ends[idx - 1] };
        let range = start..self.ends[idx];
        Example { ids: &self.ids[range.clone()], trained: &self.trained[range] }
    }

    /// All examples, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Example<'_>> {
        (0..self.len()).map(|idx| self.get(idx))
    }

    /// Number of tokens.
    pub fn n_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of trained tokens.
    pub fn n_trained(&self) -> usize {
        self.trained.iter().filter(|&&it| it).count()
    }

    /// Splits off the last `n` examples.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[must_use]
    pub fn split_off_last(&mut self, n: usize) -> Self {
        let n_kept = self.len().checked_sub(n).expect("no more examples than there are");
        let start = if n_kept == 0 { 0 } else { self.ends[n_kept - 1] };
        let ends = self.ends.split_off(n_kept);
        Self {
            ids: self.ids.split_off(start),
            trained: self.trained.split_off(start),
            ends: ends.into_iter().map(|end| end - start).collect(),
        }
    }

    /// A hexadecimal SHA-256 of the examples: of each, its length, tokens and marks.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for Example { ids, trained } in self.iter() {
            hash.update((ids.len() as u64).to_le_bytes());
            ids.iter().for_each(|id| hash.update(id.to_le_bytes()));
            trained.iter().for_each(|&it| hash.update([u8::from(it)]));
        }
        ::fs::hex(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Examples {
        let mut examples = Examples::default();
        examples.push(Example { ids: &[1, 2, 3], trained: &[true, false, true] });
        examples.push(Example { ids: &[4, 5], trained: &[false, true] });
        examples.push(Example { ids: &[6, 7, 8, 9], trained: &[false, true, true, false] });
        examples
    }

    #[test]
    fn examples_are_kept_in_order() {
        let examples = examples();
        assert_eq!((examples.len(), examples.n_tokens(), examples.n_trained()), (3, 9, 4));
        assert_eq!(examples.get(1), Example { ids: &[4, 5], trained: &[false, true] });
        // The first token has no context.
        assert_eq!(examples.get(0).trained, [false, false, true]);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        let whole = examples();
        for n in 0..=3 {
            let mut first = whole.clone();
            let last = first.split_off_last(n);
            assert_eq!((first.len(), last.len()), (3 - n, n));
            assert!(first.iter().chain(last.iter()).eq(whole.iter()));
        }
    }

    #[test]
    fn the_checksum_depends_on_tokens_marks_and_borders() {
        let examples = examples();
        let mut other_mark = examples.clone();
        other_mark.trained[4] = false;
        let mut other_token = examples.clone();
        other_token.ids[0] = 2;
        let mut other_border = examples.clone();
        other_border.ends[0] = 2;
        let all = [&examples, &other_mark, &other_token, &other_border].map(Examples::sha256);
        for (idx, sum) in all.iter().enumerate() {
            assert_eq!(sum.len(), 64);
            assert!(!all[..idx].contains(sum), "case {idx} equals an earlier one");
        }
    }

    #[test]
    #[should_panic(expected = "an example without trained tokens has no loss")]
    fn an_example_without_trained_tokens_panics() {
        Examples::default().push(Example { ids: &[1, 2], trained: &[true, false] });
    }
}
