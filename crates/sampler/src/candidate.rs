//! A token that may come next.

use std::cmp::Ordering;

/// A token that may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its share of the distribution, in `[0, 1]`.
    pub prob: f64,
}

impl Candidate {
    /// The more probable first; among equals, the lower id.
    pub(crate) fn best_first(&self, other: &Self) -> Ordering {
        other.prob.total_cmp(&self.prob).then(self.id.cmp(&other.id))
    }
}

/// Scales what a filter left so that it adds up to 1 again.
pub(crate) fn normalize(candidates: &mut [Candidate]) {
    let total: f64 = candidates.iter().map(|candidate| candidate.prob).sum();
    for candidate in candidates {
        candidate.prob /= total;
    }
}
