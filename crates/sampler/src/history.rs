use std::collections::{BTreeMap, BTreeSet};

/// The tokens that penalties apply to, without their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    seen: BTreeSet<u32>,
    counts: BTreeMap<u32, u32>,
}

impl History {
    /// The history before the first generated token.
    pub fn new(prompt: &[u32]) -> Self {
        Self { seen: prompt.iter().copied().collect(), counts: BTreeMap::new() }
    }

    /// Adds a generated token.
    pub fn push(&mut self, id: u32) {
        self.seen.insert(id);
        *self.counts.entry(id).or_default() += 1;
    }

    /// Every token of the prompt and of the generated text.
    pub fn seen(&self) -> &BTreeSet<u32> {
        &self.seen
    }

    /// Number of occurrences of each generated token. The prompt does not count.
    pub fn counts(&self) -> &BTreeMap<u32, u32> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_tokens_are_seen_but_not_counted() {
        let mut history = History::new(&[7, 3, 7]);
        assert!(history.counts().is_empty());
        for id in [3, 5, 3] {
            history.push(id);
        }
        assert_eq!(history.seen(), &BTreeSet::from([3, 5, 7]));
        assert_eq!(history.counts(), &BTreeMap::from([(3, 2), (5, 1)]));
    }
}
