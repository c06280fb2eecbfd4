//! Generation: samples, pieces and interrupts.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::{env, path::Path};

use engine::{Error, Generation, MAX_BATCH_SIZE, Model, Models, Piece, Request, encode_prompt};
use sampler::{Options, Sample, StoppedBy};

fn model() -> Model {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let folder = Path::new(&root).join("tests/fixtures/story");
    Models::default().open(&folder).unwrap().load(&kernels::testing::test_device()).unwrap()
}

/// Samples differ, and end after different numbers of tokens.
fn options() -> Options {
    Options { max_tokens: 40, temperature: 1.0, stop: vec!["\n".to_owned()], ..Options::default() }
}

fn begin<'a>(model: &'a Model, options: Options, samples: std::ops::Range<u64>) -> Generation<'a> {
    let prompt = encode_prompt(&model.tokenizer, "the cat").unwrap();
    let request = Request { samples, ..Request::new(prompt, options) };
    Generation::begin(&model.gpt, &model.tokenizer, request).unwrap()
}

/// All pieces and samples.
fn samples(mut generation: Generation<'_>) -> (Vec<Piece>, Vec<Sample>) {
    let pieces = generation.by_ref().collect::<Result<_, _>>().unwrap();
    (pieces, generation.into_samples())
}

#[test]
fn samples_of_a_batch_equal_single_samples() {
    let model = model();
    let n = MAX_BATCH_SIZE + 3; // More than one batch.
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
        assert_eq!(own().count(), sample.ids.len(), "one piece per token");
        let ends: Vec<_> = own().filter_map(|piece| piece.stopped_by.as_ref()).collect();
        assert_eq!(ends, [&sample.stopped_by]);
    }
}

#[test]
fn logprobs_do_not_change_samples() {
    let model = model();
    let (_, plain) = samples(begin(&model, options(), 3..5));
    let (_, scored) = samples(begin(&model, Options { logprobs: true, ..options() }, 3..5));
    for (plain, scored) in plain.into_iter().zip(scored) {
        assert_eq!(scored.logprobs.len(), scored.ids.len());
        assert_eq!(Sample { logprobs: Vec::new(), ..scored }, plain);
    }
}

#[test]
fn an_interrupt_ends_all_samples_and_starts_no_others() {
    let model = model();
    let mut generation = begin(&model, Options { stop: Vec::new(), ..options() }, 0..20);
    let first = generation.next().unwrap().unwrap();
    generation.interrupt();
    let rest: Vec<Piece> = generation.by_ref().map(Result::unwrap).collect();
    assert_eq!((first.sample, rest.len()), (0, MAX_BATCH_SIZE - 1), "the other samples of the same step");
    let samples = generation.into_samples();
    assert_eq!(samples.len(), MAX_BATCH_SIZE, "no other samples were started");
    for sample in samples {
        assert_eq!((sample.ids.len(), sample.stopped_by), (1, StoppedBy::Interrupted));
    }
}

#[test]
fn max_tokens_0_completes_samples_without_tokens() {
    let model = model();
    let (pieces, samples) = samples(begin(&model, Options { max_tokens: 0, ..options() }, 0..10));
    let numbers: Vec<usize> = pieces.iter().map(|piece| piece.sample).collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert!(samples.iter().all(|sample| sample.ids.is_empty() && sample.stopped_by == StoppedBy::MaxTokens));
}

#[test]
fn generation_ends_after_an_error() {
    let model = model();
    let biased = Options { logit_bias: [(22, 1.0)].into(), ..options() };
    let mut generation = begin(&model, biased, 0..2);
    let error = generation.next().unwrap().unwrap_err();
    assert!(matches!(error, Error::Sampler(sampler::Error::UnknownBiasToken { id: 22, .. })), "{error}");
    assert!(generation.next().is_none());
    let empty = Generation::begin(&model.gpt, &model.tokenizer, Request::new(Vec::new(), options()));
    assert!(matches!(empty, Err(Error::Sampler(sampler::Error::EmptyPrompt))));
}
