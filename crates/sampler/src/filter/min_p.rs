use crate::{Candidate, candidate::normalize};

/// Keeps the candidates that are at least `p` times as probable as the most probable one
/// ([Nguyen et al. 2024](https://arxiv.org/abs/2407.01082)). `p` is in `[0, 1]`; 0 keeps all.
pub fn min_p(mut candidates: Vec<Candidate>, p: f32) -> Vec<Candidate> {
    if p <= 0.0 {
        return candidates;
    }
    let max = candidates.iter().map(|candidate| candidate.prob).fold(0.0, f64::max);
    let threshold = f64::from(p) * max;
    candidates.retain(|candidate| candidate.prob >= threshold);
    normalize(&mut candidates);
    candidates
}
