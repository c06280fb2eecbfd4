use super::prefix::len_with_mass;
use crate::{Candidate, candidate::normalize};

/// Locally typical sampling: keeps the smallest set of most typical candidates with a total probability of at least `p`
/// ([Meister et al. 2022](https://arxiv.org/abs/2202.00666), section 4). `p` is in `(0, 1]`; 1 keeps all.
///
/// A token is more typical the closer its surprisal −ln p is to the mean surprisal, the entropy of the distribution. So
/// the most probable token may be dropped if its probability is high.
///
/// Tokens exactly as typical as the last one kept are kept too, as in transformers, so the result does not depend on
/// the order of ids.
pub fn typical_p(candidates: Vec<Candidate>, p: f32) -> Vec<Candidate> {
    if p >= 1.0 {
        return candidates;
    }
    let mut ranked = by_distance_from_entropy(candidates);
    let n_kept = len_with_mass(
        &mut ranked,
        p.into(),
        |(_, candidate)| candidate.prob,
        |(a, _), (b, _)| a.total_cmp(b),
    );
    let border = ranked[..n_kept].last().map_or(0.0, |(distance, _)| *distance);
    ranked.retain(|(distance, _)| *distance <= border);

    let mut candidates: Vec<Candidate> = ranked.into_iter().map(|(_, candidate)| candidate).collect();
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    normalize(&mut candidates);
    candidates
}

/// Each candidate with |−ln p − H|, where H is the entropy of the distribution.
fn by_distance_from_entropy(candidates: Vec<Candidate>) -> Vec<(f64, Candidate)> {
    let mut ranked: Vec<(f64, Candidate)> =
        candidates.into_iter().map(|candidate| (-candidate.prob.ln(), candidate)).collect();
    // x ln x tends to 0 with x, so a probability rounded to 0 adds nothing to the entropy.
    let possible = ranked.iter().filter(|(_, candidate)| candidate.prob > 0.0);
    let entropy: f64 = possible.map(|(surprisal, candidate)| candidate.prob * surprisal).sum();
    for (surprisal, _) in &mut ranked {
        *surprisal = (*surprisal - entropy).abs();
    }
    ranked
}
