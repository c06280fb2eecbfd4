use super::prefix::len_with_mass;
use crate::{Candidate, candidate::normalize};

/// Nucleus sampling: keeps the smallest set of most probable candidates with a total probability of at least `p`
/// ([Holtzman et al. 2020](https://arxiv.org/abs/1904.09751), section 3.1). `p` is in `(0, 1]`; 1 keeps all.
pub fn top_p(mut candidates: Vec<Candidate>, p: f32) -> Vec<Candidate> {
    if p >= 1.0 {
        return candidates;
    }
    let n_kept = len_with_mass(&mut candidates, p.into(), |candidate| candidate.prob, Candidate::best_first);
    candidates.truncate(n_kept);
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    normalize(&mut candidates);
    candidates
}
