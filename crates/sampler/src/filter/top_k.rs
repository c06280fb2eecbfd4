use crate::{Candidate, distribution::normalize};

/// Keeps the `k` most probable candidates ([Fan et al. 2018](https://arxiv.org/abs/1805.04833), section
/// 5.1). `k` must be at least 1; one that is larger than the distribution keeps it as it is.
///
/// Takes time linear in the number of candidates: they are parted at the `k`-th, never sorted.
pub fn top_k(mut candidates: Vec<Candidate>, k: usize) -> Vec<Candidate> {
    if k >= candidates.len() {
        return candidates;
    }
    candidates.select_nth_unstable_by(k - 1, Candidate::best_first);
    candidates.truncate(k);
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    normalize(&mut candidates);
    candidates
}
