use std::collections::{BTreeMap, BTreeSet};

/// The tokens before the next one, as far as the penalties look at them: which there were, not in what order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    seen: BTreeSet<u32>,
    counts: BTreeMap<u32, u32>,
}

impl History {
    /// A text of which nothing is generated yet.
    pub fn new(prompt: &[u32]) -> Self {
        Self { seen: prompt.iter().copied().collect(), counts: BTreeMap::new() }
    }

    /// Adds a token that was generated.
    pub fn push(&mut self, id: u32) {
        self.seen.insert(id);
        *self.counts.entry(id).or_default() += 1;
    }

    /// Every token of the prompt and of what was generated.
    pub fn seen(&self) -> &BTreeSet<u32> {
        &self.seen
    }

    /// How often each token was generated, without those never generated. The prompt does not count.
    pub fn counts(&self) -> &BTreeMap<u32, u32> {
        &self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_is_seen_and_not_counted() {
        let mut history = History::new(&[7, 3, 7]);
        assert!(history.counts().is_empty());
        for id in [3, 5, 3] {
            history.push(id);
        }
        assert_eq!(history.seen(), &BTreeSet::from([3, 5, 7]));
        assert_eq!(history.counts(), &BTreeMap::from([(3, 2), (5, 1)]));
    }
}
