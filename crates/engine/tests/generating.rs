//! Generation: samples, pieces and interrupts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{env, path::Path};

use engine::{Error, Generation, Model, Models, Piece, SIDE_BY_SIDE, encode_prompt};
use sampler::{Options, Sample, StoppedBy};

fn model() -> Model {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let folder = Path::new(&root).join("tests/fixtures/story");
    Models::default().open(&folder).unwrap().load(&kernels::testing::test_device()).unwrap()
}

/// Hot enough that samples differ, and with an end that comes at different times.
fn options() -> Options {
    Options { max_tokens: 40, temperature: 1.0, stop: vec!["\n".to_owned()], ..Options::default() }
}

fn begin<'a>(model: &'a Model, options: Options, samples: std::ops::Range<u64>) -> Generation<'a> {
    let prompt = encode_prompt(&model.tokenizer, "the cat").unwrap();
    Generation::begin(&model.gpt, &model.tokenizer, options, &prompt, samples).unwrap()
}

/// The samples, after all pieces.
fn samples(mut generation: Generation<'_>) -> (Vec<Piece>, Vec<Sample>) {
    let pieces = generation.by_ref().collect::<Result<_, _>>().unwrap();
    (pieces, generation.into_samples())
}

#[test]
fn several_samples_of_a_prompt_equal_single_ones() {
    let model = model();
    let n = SIDE_BY_SIDE + 3; // More than are computed together.
    let (pieces, together) = samples(begin(&model, options(), 0..n as u64));
    assert_eq!(together.len(), n);
    for (number, sample) in together.iter().enumerate() {
        let number = number as u64;
        let (_, alone) = samples(begin(&model, options(), number..number + 1));
        assert_eq!(alone, std::slice::from_ref(sample), "sample {number}");
    }
    assert!(together.iter().any(|sample| sample.text != together[0].text), "{together:?}");

    for (number, sample) in together.iter().enumerate() {
        let own = || pieces.iter().filter(|piece| piece.sample == number);
        assert_eq!(own().map(|piece| piece.text.as_str()).collect::<String>(), sample.text);
        assert_eq!(own().count(), sample.ids.len(), "a piece for each token");
        let ends: Vec<_> = own().filter_map(|piece| piece.stopped_by.as_ref()).collect();
        assert_eq!(ends, [&sample.stopped_by]);
    }
}

#[test]
fn samples_do_not_depend_on_their_log_probabilities_being_kept() {
    let model = model();
    let (_, plain) = samples(begin(&model, options(), 3..5));
    let (_, scored) = samples(begin(&model, Options { logprobs: true, ..options() }, 3..5));
    for (plain, scored) in plain.into_iter().zip(scored) {
        assert_eq!(scored.logprobs.len(), scored.ids.len());
        assert_eq!(Sample { logprobs: Vec::new(), ..scored }, plain);
    }
}

#[test]
fn an_interrupt_ends_all_samples_after_the_tokens_that_they_have() {
    let model = model();
    let mut generation = begin(&model, Options { stop: Vec::new(), ..options() }, 0..20);
    let first = generation.next().unwrap().unwrap();
    generation.interrupt();
    let rest: Vec<Piece> = generation.by_ref().map(Result::unwrap).collect();
    assert_eq!((first.sample, rest.len()), (0, SIDE_BY_SIDE - 1), "the others of the same step");
    let samples = generation.into_samples();
    assert_eq!(samples.len(), SIDE_BY_SIDE, "no others have begun");
    for sample in samples {
        assert_eq!((sample.ids.len(), sample.stopped_by), (1, StoppedBy::Interrupted));
    }
}

#[test]
fn samples_of_no_tokens_are_complete_at_once() {
    let model = model();
    let (pieces, samples) = samples(begin(&model, Options { max_tokens: 0, ..options() }, 0..10));
    let numbers: Vec<usize> = pieces.iter().map(|piece| piece.sample).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert!(samples.iter().all(|sample| sample.ids.is_empty() && sample.stopped_by == StoppedBy::MaxTokens));
}

#[test]
fn what_can_not_be_generated_is_an_error_and_the_end() {
    let model = model();
    let biased = Options { logit_bias: [(22, 1.0)].into(), ..options() };
    let mut generation = begin(&model, biased, 0..2);
    let error = generation.next().unwrap().unwrap_err();
    assert!(matches!(error, Error::Sampler(sampler::Error::UnknownBiasToken { id: 22, .. })), "{error}");
    assert!(generation.next().is_none());
    let empty = Generation::begin(&model.gpt, &model.tokenizer, options(), &[], 0..1);
    assert!(matches!(empty, Err(Error::Sampler(sampler::Error::EmptyPrompt))));
}
