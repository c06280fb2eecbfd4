//! What every filter promises, for any distribution.

use proptest::{prelude::*, test_runner::RngSeed};
use sampler::{Candidate, min_p, softmax, top_k, top_p, typical_p};

fn fixed_seed() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default() }
}

/// Up to 300 candidates. Few distinct logits, so that ties are common, and now and then an impossible token.
fn distribution() -> impl Strategy<Value = Vec<Candidate>> {
    let logit = prop_oneof![
        9 => (-8_i8..8).prop_map(|logit| f32::from(logit) * 0.75),
        1 => Just(f32::NEG_INFINITY),
    ];
    let logits = prop::collection::vec(logit, 0..300);
    (0.0_f32..4.0, logits).prop_map(|(possible, mut logits)| {
        logits.push(possible);
        softmax(&logits, 1.0)
    })
}

fn k() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..320, Just(usize::MAX)]
}

/// A share, with both ends.
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

/// The most probable first, the lower id among equals: by a full sort, unlike the filters.
fn sorted(candidates: &[Candidate]) -> Vec<Candidate> {
    let mut candidates = candidates.to_vec();
    candidates.sort_by(|a, b| b.prob.total_cmp(&a.prob).then(a.id.cmp(&b.id)));
    candidates
}

/// The ids of the first `n` candidates of a full sort, in ascending order.
fn best_ids(candidates: &[Candidate], n: usize) -> Vec<u32> {
    let mut best = ids(&sorted(candidates)[..n]);
    best.sort_unstable();
    best
}

/// Every possible candidate with the distance of its surprisal from the entropy.
fn distances(candidates: &[Candidate]) -> Vec<(f64, Candidate)> {
    let entropy: f64 = candidates.iter().map(|candidate| -candidate.prob * candidate.prob.ln()).sum();
    candidates.iter().map(|candidate| ((candidate.prob.ln() + entropy).abs(), *candidate)).collect()
}

fn assert_is_distribution_within(after: &[Candidate], before: &[Candidate]) -> Result<(), TestCaseError> {
    let total: f64 = after.iter().map(|candidate| candidate.prob).sum();
    prop_assert!((total - 1.0).abs() < 1e-12, "adds up to {}", total);
    prop_assert!(after.is_sorted_by(|a, b| a.id < b.id), "ids not in ascending order");
    prop_assert!(is_subset(after, before), "a candidate came from nowhere");

    // Those that stay keep their proportions.
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
    fn each_filter_keeps_a_distribution(before in distribution(), k in k(), p in p()) {
        let filtered = [top_k(before.clone(), k), top_p(before.clone(), p), min_p(before.clone(), p)];
        for after in &filtered {
            assert_is_distribution_within(after, &before)?;
            prop_assert_eq!(sorted(after)[0].id, sorted(&before)[0].id, "the most probable token was lost");
        }
        assert_is_distribution_within(&typical_p(before.clone(), p), &before)?;
    }

    #[test]
    fn top_k_keeps_the_k_best(before in distribution(), k in k()) {
        let kept = top_k(before.clone(), k);
        prop_assert_eq!(ids(&kept), best_ids(&before, k.min(before.len())));
    }

    #[test]
    fn top_p_keeps_the_smallest_set_of_the_best_with_that_mass(before in distribution(), p in p()) {
        let kept = top_p(before.clone(), p);
        prop_assert_eq!(ids(&kept), best_ids(&before, kept.len()));
        // The slack is for sums of 300 terms that round to either side of `p`.
        let mass = |n: usize| sorted(&before)[..n].iter().map(|candidate| candidate.prob).sum::<f64>();
        prop_assert!(mass(kept.len()) >= f64::from(p) - 1e-12, "too few");
        prop_assert!(p == 1.0 || mass(kept.len() - 1) < f64::from(p) + 1e-12, "too many");
    }

    #[test]
    fn min_p_keeps_exactly_those_near_the_best(before in distribution(), p in p()) {
        let kept = ids(&min_p(before.clone(), p));
        let threshold = sorted(&before)[0].prob * f64::from(p);
        for candidate in &before {
            prop_assert_eq!(kept.contains(&candidate.id), candidate.prob >= threshold);
        }
    }

    #[test]
    fn typical_p_keeps_the_smallest_set_of_the_most_typical_with_that_mass(before in distribution(), p in p()) {
        let kept = ids(&typical_p(before.clone(), p));
        let (inside, outside): (Vec<_>, Vec<_>) =
            distances(&before).into_iter().partition(|(_, candidate)| kept.contains(&candidate.id));
        let border = inside.iter().map(|(distance, _)| *distance).fold(0.0, f64::max);
        prop_assert!(outside.iter().all(|(distance, _)| *distance > border - 1e-12), "a more typical one was lost");
        // Equal ones stay or go together, so the last group may be larger than was needed.
        let mass = |kept: &[(f64, Candidate)]| kept.iter().map(|(_, candidate)| candidate.prob).sum::<f64>();
        prop_assert!(mass(&inside) >= f64::from(p) - 1e-12, "too few");
        let before_last: Vec<_> =
            inside.iter().copied().filter(|(distance, _)| *distance < border - 1e-12).collect();
        prop_assert!(p == 1.0 || mass(&before_last) < f64::from(p) + 1e-12, "too many");
        for (_, candidate) in &outside {
            prop_assert!(inside.iter().all(|(_, kept)| kept.prob != candidate.prob), "equals were parted");
        }
    }

    #[test]
    fn a_looser_filter_keeps_all_that_a_stricter_one_keeps(
        before in distribution(), k in (k(), k()), p in (p(), p()),
    ) {
        let (k, p) = ((k.0.min(k.1), k.0.max(k.1)), (p.0.min(p.1), p.0.max(p.1)));
        prop_assert!(is_subset(&top_k(before.clone(), k.0), &top_k(before.clone(), k.1)));
        prop_assert!(is_subset(&top_p(before.clone(), p.0), &top_p(before.clone(), p.1)));
        prop_assert!(is_subset(&min_p(before.clone(), p.1), &min_p(before.clone(), p.0)));
        prop_assert!(is_subset(&typical_p(before.clone(), p.0), &typical_p(before.clone(), p.1)));
    }

    #[test]
    fn a_filter_that_keeps_all_changes_no_bit(before in distribution()) {
        prop_assert_eq!(&top_k(before.clone(), before.len()), &before);
        prop_assert_eq!(&top_k(before.clone(), usize::MAX), &before);
        prop_assert_eq!(&top_p(before.clone(), 1.0), &before);
        prop_assert_eq!(&min_p(before.clone(), 0.0), &before);
        prop_assert_eq!(&typical_p(before.clone(), 1.0), &before);
    }
}

#[test]
fn ties_at_the_border_go_to_the_lower_ids_or_are_all_kept() {
    let even = softmax(&[1.0; 6], 1.0);
    assert_eq!(ids(&top_k(even.clone(), 3)), [0, 1, 2]);
    assert_eq!(ids(&top_p(even.clone(), 0.6)), [0, 1, 2, 3]);
    assert_eq!(ids(&min_p(even.clone(), 1.0)), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ids(&typical_p(even, 0.1)), [0, 1, 2, 3, 4, 5]);
}

/// The expected ids and probabilities are of `TemperatureLogitsWarper` and `TypicalLogitsWarper` of transformers 5.23.0.
#[test]
fn typical_p_keeps_what_transformers_keeps() {
    let check = |temperature: f32, p: f32, expected: &[(u32, f64)]| {
        let kept = typical_p(softmax(&[1.2, -0.4, 2.0, 0.3, -1.5, 2.0, 0.9], temperature), p);
        assert_eq!(kept.len(), expected.len(), "temperature {temperature}, typical-p {p}: {kept:?}");
        for (candidate, &(id, prob)) in kept.iter().zip(expected) {
            assert_eq!(candidate.id, id);
            assert!((candidate.prob - prob).abs() < 1e-6, "{candidate:?}, not {prob}"); // Six digits.
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
fn typical_p_passes_over_a_token_whose_probability_is_rounded_to_zero() {
    let kept = typical_p(softmax(&[0.0, -100.0, 0.0], 0.01), 0.9);
    assert_eq!(ids(&kept), [0, 2]);
}

/// Far more than top-p sorts at first.
#[test]
fn top_p_reaches_into_a_flat_distribution() {
    let flat = softmax(&vec![0.0; 50_257], 1.0);
    assert_eq!(top_p(flat.clone(), 0.5).len(), 25_129); // The first whole number above one half of all.
    assert_eq!(top_p(flat, 0.001).len(), 51);
}
