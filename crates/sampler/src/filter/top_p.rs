use crate::{Candidate, distribution::normalize};

/// How many candidates are put in order at first. Enough in most cases: a trained model spreads 95% of
/// the mass over a few dozen tokens.
const FIRST_SORTED: usize = 64;

/// Keeps the smallest set of most probable candidates with a mass of at least `p`, also called nucleus
/// sampling ([Holtzman et al. 2020](https://arxiv.org/abs/1904.09751), section 3.1). `p` is in `(0, 1]`;
/// 1 keeps the distribution as it is.
pub fn top_p(mut candidates: Vec<Candidate>, p: f32) -> Vec<Candidate> {
    if p >= 1.0 {
        return candidates;
    }
    let n_kept = nucleus_len(&mut candidates, p.into());
    candidates.truncate(n_kept);
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    normalize(&mut candidates);
    candidates
}

/// Brings the most probable candidates to the front, in order, until their mass is `p`, and counts them.
///
/// Sorts a prefix that grows fourfold, not the whole vocabulary.
fn nucleus_len(candidates: &mut [Candidate], p: f64) -> usize {
    let mut mass = 0.0;
    let mut n_sorted = 0;
    while n_sorted < candidates.len() {
        let end = (4 * n_sorted).max(FIRST_SORTED).min(candidates.len());
        sort_best(&mut candidates[n_sorted..], end - n_sorted);
        for (idx, candidate) in candidates.iter().enumerate().take(end).skip(n_sorted) {
            mass += candidate.prob;
            if mass >= p {
                return idx + 1;
            }
        }
        n_sorted = end;
    }
    n_sorted
}

/// Brings the `n` most probable candidates to the front, in order.
fn sort_best(candidates: &mut [Candidate], n: usize) {
    if n < candidates.len() {
        candidates.select_nth_unstable_by(n, Candidate::best_first);
    }
    candidates[..n].sort_unstable_by(Candidate::best_first);
}
