//! Sampled tokens follow the distribution that the options describe.

use std::{collections::BTreeMap, convert::Infallible, ops::ControlFlow};

use sampler::{Logits, Options, Sample, generate, top_k};

const LOGITS: [f32; 7] = [1.2, -0.4, 2.0, 0.3, -1.5, 2.0, 0.9];
const N_SAMPLES: u32 = 20_000;

/// Samples many tokens with constant logits.
fn samples(options: &Options, sample_idx: u64) -> Sample {
    let options = Options { max_tokens: N_SAMPLES as usize, ..options.clone() };
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(LOGITS.to_vec());
    generate(&options, sample_idx, &[0], |_| String::new(), next_logits, |_| ControlFlow::Continue(()))
        .expect("the options and logits are valid")
}

fn plain() -> Options {
    Options { temperature: 1.0, top_k: None, seed: 7, ..Options::default() }
}

/// The documented distribution, computed with a full sort.
fn exact(options: &Options) -> BTreeMap<u32, f64> {
    let weight = |logit: f32| (f64::from(logit) / f64::from(options.temperature)).exp();
    let mut best: Vec<(u32, f64)> = (0..).zip(LOGITS.map(weight)).collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1));

    best.truncate(options.top_k.unwrap_or(usize::MAX));
    let total: f64 = best.iter().map(|(_, weight)| weight).sum();
    let mut mass_before = 0.0;
    best.retain(|(_, weight)| {
        let keep = mass_before < f64::from(options.top_p.unwrap_or(1.0)) * total;
        mass_before += weight;
        keep
    });
    let max = best[0].1;
    best.retain(|(_, weight)| *weight >= max * f64::from(options.min_p.unwrap_or(0.0)));

    let total: f64 = best.iter().map(|(_, weight)| weight).sum();
    let entropy: f64 = best.iter().map(|(_, weight)| -weight / total * (weight / total).ln()).sum();
    let distance = |weight: f64| ((weight / total).ln() + entropy).abs();
    best.sort_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    let mut mass = 0.0;
    let last = best.iter().position(|(_, weight)| {
        mass += weight / total;
        mass >= f64::from(options.typical_p.unwrap_or(1.0))
    });
    let border = last.map_or(f64::INFINITY, |last| distance(best[last].1));
    best.retain(|(_, weight)| distance(*weight) <= border);

    let total: f64 = best.iter().map(|(_, weight)| weight).sum();
    best.into_iter().map(|(id, weight)| (id, weight / total)).collect()
}

/// Pearson's χ² of the samples against the distribution; infinite if an impossible token was sampled.
fn chi_square(ids: &[u32], probs: &BTreeMap<u32, f64>) -> f64 {
    if ids.iter().any(|id| !probs.contains_key(id)) {
        return f64::INFINITY;
    }
    let term = |(id, prob): (&u32, &f64)| {
        let n_expected = prob * f64::from(N_SAMPLES);
        let n_sampled = ids.iter().filter(|&sampled| sampled == id).count() as f64;
        (n_sampled - n_expected).powi(2) / n_expected
    };
    probs.iter().map(term).sum()
}

/// A correct sampler exceeds it for one seed in 10,000 at 6 degrees of freedom (seven tokens), and more rarely at
/// fewer.
const CHI_SQUARE_MAX: f64 = 27.86;

#[test]
fn samples_follow_the_exact_distribution() {
    let cases = [
        (plain(), 7),
        (Options { temperature: 0.5, ..plain() }, 7),
        (Options { temperature: 3.0, ..plain() }, 7),
        (Options { top_k: Some(3), ..plain() }, 3),
        (Options { top_p: Some(0.7), ..plain() }, 3),
        (Options { min_p: Some(0.3), ..plain() }, 4),
        (Options { typical_p: Some(0.85), ..plain() }, 4),
        (Options { typical_p: Some(0.4), ..plain() }, 3), // 2 and 5 are equally typical.
        (Options { typical_p: Some(0.1), ..plain() }, 1), // 0, although 2 and 5 are more probable.
        (Options { top_k: Some(6), top_p: Some(0.95), min_p: Some(0.2), temperature: 1.4, ..plain() }, 5),
        (Options { min_p: Some(0.3), typical_p: Some(0.7), temperature: 1.4, ..plain() }, 3),
    ];
    for (options, n_possible) in cases {
        let probs = exact(&options);
        assert_eq!(probs.len(), n_possible, "{options:?}");
        let chi_square = chi_square(&samples(&options, 0).ids, &probs);
        assert!(chi_square < CHI_SQUARE_MAX, "χ² is {chi_square} with {options:?}");
    }
}

#[test]
fn the_test_distinguishes_close_distributions() {
    let ids = samples(&Options { temperature: 1.05, ..plain() }, 0).ids;
    assert!(chi_square(&ids, &exact(&plain())) > CHI_SQUARE_MAX);
    let ids = samples(&plain(), 0).ids;
    assert!(chi_square(&ids, &exact(&Options { top_k: Some(6), ..plain() })).is_infinite());
}

#[test]
fn consecutive_tokens_are_independent() {
    let ids = samples(&plain(), 0).ids;
    let probs = exact(&plain());
    let n_twice = ids.windows(2).filter(|pair| pair[0] == pair[1]).count() as f64;
    let prob: f64 = probs.values().map(|prob| prob * prob).sum();
    let n_pairs = f64::from(N_SAMPLES - 1);
    let std = (n_pairs * prob * (1.0 - prob)).sqrt();
    assert!((n_twice - n_pairs * prob).abs() < 4.0 * std, "{n_twice} of {n_pairs}, at {prob}");
}

#[test]
fn seed_and_sample_index_determine_the_ids() {
    let options = plain();
    assert_eq!(samples(&options, 3).ids, samples(&options, 3).ids);
    assert_ne!(samples(&options, 3).ids, samples(&options, 4).ids);
    assert_ne!(samples(&options, 3).ids, samples(&Options { seed: 8, ..options }, 3).ids);
}

/// A change here changes the text of every user's seed.
#[test]
fn ids_of_a_seed_are_pinned() {
    let ids = &samples(&plain(), 0).ids[..16];
    assert_eq!(ids, [5, 2, 0, 2, 2, 2, 2, 2, 5, 6, 5, 5, 2, 2, 6, 5]);
}

#[test]
fn disabled_steps_change_nothing() {
    let all = Options {
        top_k: Some(7),
        top_p: Some(1.0),
        min_p: Some(0.0),
        typical_p: Some(1.0),
        repetition_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        logit_bias: BTreeMap::from([(2, 0.0)]),
        ..plain()
    };
    assert_eq!(samples(&all, 0), samples(&plain(), 0));
    assert_eq!(samples(&Options { top_k: Some(1000), ..plain() }, 0), samples(&plain(), 0));
    assert_ne!(
        samples(&Options { logit_bias: BTreeMap::from([(2, 0.5)]), ..plain() }, 0),
        samples(&plain(), 0)
    );
}

#[test]
fn greedy_decoding_ignores_seed_and_filters() {
    let greedy = Options { temperature: 0.0, ..plain() };
    for seed in 0..5 {
        let filters = Options { seed, top_p: Some(0.1), typical_p: Some(0.1), ..greedy.clone() };
        let ids = samples(&filters, seed).ids;
        assert!(ids.iter().all(|&id| id == 2), "2 and 5 are tied, and 2 is the lower id");
    }
    assert!(samples(&plain(), 0).ids.iter().any(|&id| id != 2));
}

#[test]
fn logprobs_are_computed_before_all_options() {
    let options = Options {
        temperature: 0.5,
        top_k: Some(3),
        repetition_penalty: 1.3,
        presence_penalty: 0.5,
        logit_bias: BTreeMap::from([(0, 2.0)]),
        logprobs: true,
        ..plain()
    };
    let sample = samples(&options, 0);
    let total: f64 = LOGITS.iter().map(|&logit| f64::from(logit).exp()).sum();
    for (&id, &logprob) in sample.ids.iter().zip(&sample.logprobs) {
        let expected = f64::from(LOGITS[id as usize]) - total.ln();
        assert!((f64::from(logprob) - expected).abs() < 1e-6, "token {id}: {logprob}, not {expected}");
    }
    assert_eq!(sample.logprobs.len(), sample.ids.len());
    assert_eq!(samples(&Options { logprobs: false, ..options }, 0).logprobs, []);
}

/// Samples from a model that returns only its `n_best` largest logits.
fn samples_of_best(options: &Options, n_best: usize) -> Sample {
    let options = Options { max_tokens: 1000, ..options.clone() };
    let best = Logits::Best(top_k((0..).zip(LOGITS), n_best));
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(best.clone());
    generate(&options, 0, &[0], |_| String::new(), next_logits, |_| ControlFlow::Continue(()))
        .expect("the options and logits are valid")
}

#[test]
fn the_best_logits_suffice_if_the_others_do_not_matter() {
    let filtered =
        Options { top_k: Some(5), top_p: Some(0.9), min_p: Some(0.1), temperature: 1.4, ..plain() };
    let cases = [
        (Options { temperature: 0.0, ..plain() }, 1),
        (Options { top_k: Some(1), ..plain() }, 1), // 2 and 5 are tied.
        (Options { top_k: Some(4), typical_p: Some(0.7), ..plain() }, 4),
        (filtered, 5),
    ];
    for (options, n_best) in cases {
        assert_eq!(options.n_best(), Some(n_best));
        let expected = &samples(&options, 0).ids[..1000];
        assert_eq!(samples_of_best(&options, n_best).ids, expected, "{options:?}");
        assert_eq!(samples_of_best(&options, n_best + 1).ids, expected, "one more logit: {options:?}");
    }
}

#[test]
fn n_best_is_none_if_every_logit_matters() {
    let few = Options { top_k: Some(3), ..plain() };
    assert_eq!(few.n_best(), Some(3));
    let every = [
        plain(),
        Options { logprobs: true, ..few.clone() },
        Options { repetition_penalty: 1.1, ..few.clone() },
        Options { frequency_penalty: 0.1, ..few.clone() },
        Options { presence_penalty: -0.1, ..few.clone() },
        Options { logit_bias: BTreeMap::from([(0, 0.0)]), ..few },
    ];
    for options in every {
        assert_eq!(options.n_best(), None, "{options:?}");
    }
}

#[test]
#[should_panic(expected = "these options need every logit")]
fn the_best_logits_panic_if_options_need_every_logit() {
    samples_of_best(&plain(), 3);
}
