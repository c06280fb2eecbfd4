//! Properties of every filter, for any distribution.

use proptest::{prelude::*, test_runner::RngSeed};
use sampler::{Candidate, min_p, softmax, top_k, top_p, typical_p};

fn fixed_seed() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default() }
}

/// Up to 301 logits with few distinct values, so that ties are common, and some of -inf.
fn logits() -> impl Strategy<Value = Vec<f32>> {
    let logit = prop_oneof![
        9 => (-8_i8..8).prop_map(|logit| f32::from(logit) * 0.75),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(-0.0),
    ];
    let logits = prop::collection::vec(logit, 0..300);
    (0.0_f32..4.0, logits).prop_map(|(possible, mut logits)| {
        logits.push(possible);
        logits
    })
}

fn distribution() -> impl Strategy<Value = Vec<Candidate>> {
    logits().prop_map(|logits| softmax(&logits, 1.0))
}

/// Each logit with its id.
fn numbered(logits: &[f32]) -> Vec<(u32, f32)> {
    (0..).zip(logits.iter().copied()).collect()
}

fn k() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..320, Just(usize::MAX)]
}

/// Probabilities, including both limits.
fn p() -> impl Strategy<Value = f32> {
    prop_oneof![8 => 0.001_f32..1.0, 1 => Just(1.0_f32), 1 => Just(f32::MIN_POSITIVE)]
}

fn ids(candidates: &[Candidate]) -> Vec<u32> {
    candidates.iter().map(|candidate| candidate.id).collect()
}

fn is_subset(smaller: &[Candidate], larger: &[Candidate]) -> bool {
    let larger = ids(larger);
    smaller.iter().all(|candidate| larger.contains(&candidate.id))
}

/// Descending probability, then ascending id, by a full sort, which the filters avoid.
fn sorted(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut candidates = candidates.to_vec();
    candidates.sort_by(|a, b| b.prob.total_cmp(&a.prob).then(a.id.cmp(&b.id)));
    candidates
}

/// The ids of the `n` most probable candidates, ascending.
fn best_ids(candidates: &[Candidate], n: usize) -> Vec<u32> {
    let mut best = ids(&sorted(candidates)[..n]);
    best.sort_unstable();
    best
}

/// Each candidate with the distance of its surprisal from the entropy.
fn distances(candidates: &[Candidate]) -> Vec<(f64, Candidate)> {
    let entropy: f64 = candidates.iter().map(|candidate| -candidate.prob * candidate.prob.ln()).sum();
    candidates.iter().map(|candidate| ((candidate.prob.ln() + entropy).abs(), *candidate)).collect()
}

fn assert_is_distribution_within(after: &[Candidate], before: &[Candidate]) -> Result<(), TestCaseError> {
    let total: f64 = after.iter().map(|candidate| candidate.prob).sum();
    prop_assert!((total - 1.0).abs() < 1e-12, "sums to {}", total);
    prop_assert!(after.is_sorted_by(|a, b| a.id < b.id), "ids not in ascending order");
    prop_assert!(is_subset(after, before), "a candidate was added");

    // Ratios of probabilities do not change.
    let earlier = |id| before.iter().find(|earlier| earlier.id == id).expect("a subset").prob;
    let scale = after[0].prob / earlier(after[0].id);
    for candidate in after {
        prop_assert!((candidate.prob - scale * earlier(candidate.id)).abs() < 1e-12);
    }
    Ok(())
}

proptest! {
    #![proptest_config(fixed_seed())]

    #[test]
    fn each_filter_returns_a_distribution(before in distribution(), p in p()) {
        let filtered = [top_p(before.clone(), p), min_p(before.clone(), p)];
        for after in &filtered {
            assert_is_distribution_within(after, &before)?;
            prop_assert_eq!(sorted(after)[0].id, sorted(&before)[0].id, "the most probable token was lost");
        }
        assert_is_distribution_within(&typical_p(before.clone(), p), &before)?;
    }

    #[test]
    fn top_k_keeps_the_k_largest(before in logits(), k in k()) {
        let kept = top_k(numbered(&before), k);
        let mut expected = numbered(&before);
        expected.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
        expected.truncate(k);
        expected.sort_by_key(|(id, _)| *id);
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn top_k_of_a_superset_of_the_k_largest_equals_top_k_of_all(
        before in logits(), k in (k(), k()), others in any::<u64>(),
    ) {
        let (k, more) = (k.0.min(k.1), k.0.max(k.1));
        let largest = top_k(numbered(&before), more);
        let is_among = |(id, logit): &(u32, f32)| largest.contains(&(*id, *logit)) || others >> (id % 64) & 1 == 1;
        let some: Vec<_> = numbered(&before).into_iter().filter(is_among).collect();
        prop_assert_eq!(top_k(some, k), top_k(numbered(&before), k));
    }

    #[test]
    fn top_p_keeps_the_smallest_set_of_most_probable_candidates(before in distribution(), p in p()) {
        let kept = top_p(before.clone(), p);
        prop_assert_eq!(ids(&kept), best_ids(&before, kept.len()));
        // The tolerance covers rounding in sums of 300 terms.
        let mass = |n: usize| sorted(&before)[..n].iter().map(|candidate| candidate.prob).sum::<f64>();
        prop_assert!(mass(kept.len()) >= f64::from(p) - 1e-12, "too few");
        prop_assert!(p == 1.0 || mass(kept.len() - 1) < f64::from(p) + 1e-12, "too many");
    }

    #[test]
    fn min_p_keeps_candidates_above_the_threshold(before in distribution(), p in p()) {
        let kept = ids(&min_p(before.clone(), p));
        let threshold = sorted(&before)[0].prob * f64::from(p);
        for candidate in &before {
            prop_assert_eq!(kept.contains(&candidate.id), candidate.prob >= threshold);
        }
    }

    #[test]
    fn typical_p_keeps_the_smallest_set_of_most_typical_candidates(before in distribution(), p in p()) {
        let kept = ids(&typical_p(before.clone(), p));
        let (inside, outside): (Vec<_>, Vec<_>) =
            distances(&before).into_iter().partition(|(_, candidate)| kept.contains(&candidate.id));
        let border = inside.iter().map(|(distance, _)| *distance).fold(0.0, f64::max);
        prop_assert!(outside.iter().all(|(distance, _)| *distance > border - 1e-12), "a more typical candidate was dropped");
        // Equally typical candidates are kept or dropped together, so the last group may be larger than needed.
        let mass = |kept: &[(f64, Candidate)]| kept.iter().map(|(_, candidate)| candidate.prob).sum::<f64>();
        prop_assert!(mass(&inside) >= f64::from(p) - 1e-12, "too few");
        let before_last: Vec<_> =
            inside.iter().copied().filter(|(distance, _)| *distance < border - 1e-12).collect();
        prop_assert!(p == 1.0 || mass(&before_last) < f64::from(p) + 1e-12, "too many");
        for (_, candidate) in &outside {
            prop_assert!(inside.iter().all(|(_, kept)| kept.prob != candidate.prob), "equal candidates were separated");
        }
    }

    #[test]
    fn a_looser_filter_keeps_a_superset_of_a_stricter_one(
        before in distribution(), p in (p(), p()),
    ) {
        let p = (p.0.min(p.1), p.0.max(p.1));
        prop_assert!(is_subset(&top_p(before.clone(), p.0), &top_p(before.clone(), p.1)));
        prop_assert!(is_subset(&min_p(before.clone(), p.1), &min_p(before.clone(), p.0)));
        prop_assert!(is_subset(&typical_p(before.clone(), p.0), &typical_p(before.clone(), p.1)));
    }

    #[test]
    fn a_disabled_filter_changes_no_bit(logits in logits()) {
        prop_assert_eq!(top_k(numbered(&logits), logits.len()), numbered(&logits));
        prop_assert_eq!(top_k(numbered(&logits), usize::MAX), numbered(&logits));
        let before = softmax(&logits, 1.0);
        prop_assert_eq!(&top_p(before.clone(), 1.0), &before);
        prop_assert_eq!(&min_p(before.clone(), 0.0), &before);
        prop_assert_eq!(&typical_p(before.clone(), 1.0), &before);
    }
}

#[test]
fn ties_at_the_threshold_keep_the_lower_ids_or_all() {
    let logits = [0.0, -0.0, 0.0, -0.0, -0.0, 0.0];
    assert_eq!(top_k(numbered(&logits), 3), [(0, 0.0), (1, 0.0), (2, 0.0)]);
    let even = softmax(&logits, 1.0);
    assert_eq!(ids(&top_p(even.clone(), 0.6)), [0, 1, 2, 3]);
    assert_eq!(ids(&min_p(even.clone(), 1.0)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ids(&typical_p(even, 0.1)), [0, 1, 2, 3, 4, 5]);
}

/// Expected values: `TemperatureLogitsWarper` and `TypicalLogitsWarper` of transformers 5.23.0.
#[test]
fn typical_p_matches_transformers() {
    let check = |temperature: f32, p: f32, expected: &[(u32, f64)]| {
        let kept = typical_p(softmax(&[1.2, -0.4, 2.0, 0.3, -1.5, 2.0, 0.9], temperature), p);
        assert_eq!(kept.len(), expected.len(), "temperature {temperature}, typical-p {p}: {kept:?}");
        for (candidate, &(id, prob)) in kept.iter().zip(expected) {
            assert_eq!(candidate.id, id);
            assert!((candidate.prob - prob).abs() < 1e-6, "{candidate:?}, not {prob}"); // The reference has six digits.
        }
    };
    check(1.0, 0.4, &[(0, 0.18345), (2, 0.408275), (5, 0.408275)]);
    check(0.5, 0.85, &[(0, 0.091692), (2, 0.454154), (5, 0.454154)]);
    check(2.0, 0.2, &[(0, 0.53743), (6, 0.46257)]);
    check(2.0, 0.85, &[(0, 0.182416), (2, 0.272132), (3, 0.116313), (5, 0.272132), (6, 0.157007)]);
}

#[test]
fn typical_p_drops_a_token_that_is_too_probable() {
    let logits = [0.4_f32, 0.15, 0.15, 0.15, 0.15].map(f32::ln);
    let kept = typical_p(softmax(&logits, 1.0), 0.5);
    assert_eq!(ids(&kept), [1, 2, 3, 4]);
    assert!(kept.iter().all(|candidate| candidate.prob == 0.25), "{kept:?}");
}

#[test]
fn typical_p_skips_a_probability_rounded_to_zero() {
    let kept = typical_p(softmax(&[0.0, -100.0, 0.0], 0.01), 0.9);
    assert_eq!(ids(&kept), [0, 2]);
}

/// Top-p keeps far more candidates than it sorts first.
#[test]
fn top_p_handles_a_flat_distribution() {
    let flat = softmax(&vec![0.0; 50_257], 1.0);
    assert_eq!(top_p(flat.clone(), 0.5).len(), 25_129); // The first integer above 50,257 / 2.
    assert_eq!(top_p(flat, 0.001).len(), 51);
}
