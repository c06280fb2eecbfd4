//! A possible next token with its probability.

use std::cmp::Ordering;

/// A possible next token with its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub id: u32,
    /// In `[0, 1]`.
    pub prob: f64,
}

impl Candidate {
    /// Descending probability, then ascending id.
    pub(crate) fn best_first(&self, other: &Self) -> Ordering {
        other.prob.total_cmp(&self.prob).then(self.id.cmp(&other.id))
    }
}

/// Scales the probabilities so that they sum to 1.
pub(crate) fn normalize(candidates: &mut [Candidate]) {
    let total: f64 = candidates.iter().map(|candidate| candidate.prob).sum();
    for candidate in candidates {
        candidate.prob /= total;
    }
}
