//! Continuous batching: requests that come and go give the same texts as alone.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and their values are small"
)]

use std::{collections::BTreeMap, error};

use engine::{Output, Request, RequestId, SampledToken, Scheduler, ScoredToken, score_texts};
use kernels::testing::{test_device, test_tolerance};
use model::{Gpt, GptConfig, SlotType};
use sampler::{Constraint, Options, StoppedBy};
use tokenizer::Tokenizer;

const N_SLOTS: usize = 3;

fn tokenizer() -> Tokenizer {
    Tokenizer::from_chars("abcdefghijklm".chars()).unwrap()
}

fn gpt(block_size: usize) -> Gpt {
    GptConfig { block_size, ..GptConfig::debug_modern() }.init(7, &test_device()).unwrap()
}

fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|idx| (idx * idx * (seed + 3) + seed + idx / 5) % 13).collect()
}

/// A request with its own seed and length.
fn request(seed: u32, len: usize) -> Request {
    let options = Options {
        max_tokens: 3 + seed as usize % 5,
        temperature: 1.3,
        seed: seed.into(),
        ..Options::default()
    };
    Request { is_reproducible: true, n_top: Some(2), ..Request::new(prompt(seed, len), options) }
}

/// The tokens of each sample, and the scores of the prompts.
#[derive(Default)]
struct Results {
    tokens: BTreeMap<(RequestId, usize), Vec<SampledToken>>,
    prompts: BTreeMap<RequestId, Vec<ScoredToken>>,
}

impl Results {
    fn step(&mut self, scheduler: &mut Scheduler<'_>) {
        for (request, output) in scheduler.step().unwrap() {
            match output {
                Output::Prompt(scores) => assert!(self.prompts.insert(request, scores).is_none()),
                Output::Token(token) => self.tokens.entry((request, token.sample)).or_default().push(token),
                Output::Failed(error) => panic!("{error}"),
            }
        }
        assert!(scheduler.load().n_running <= N_SLOTS);
    }

    fn sample(&self, id: RequestId, sample: usize) -> &[SampledToken] {
        &self.tokens[&(id, sample)]
    }
}

fn run_all(scheduler: &mut Scheduler<'_>) -> Results {
    let mut results = Results::default();
    while !scheduler.is_idle() {
        results.step(scheduler);
    }
    results
}

/// The tokens of a request that runs alone.
fn alone(gpt: &Gpt, tokenizer: &Tokenizer, request: Request) -> Vec<Vec<SampledToken>> {
    let mut scheduler = Scheduler::new(gpt, tokenizer, N_SLOTS);
    scheduler.submit(request).unwrap();
    run_all(&mut scheduler).tokens.into_values().collect()
}

#[test]
fn requests_in_company_give_the_same_tokens_and_scores_as_alone() {
    let (gpt, tokenizer) = (gpt(600), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    let mut results = Results::default();
    let mut submitted = Vec::new();
    // Short prompts, one longer than a piece, one that slides out of the block, and one that equals an earlier one.
    for (seed, len) in [(0, 5), (1, 300), (2, 1), (1, 300), (3, 40), (4, 598), (6, 30), (7, 64), (8, 520)] {
        let request = request(seed, len);
        submitted.push((scheduler.submit(request.clone()).unwrap(), request));
        results.step(&mut scheduler);
    }
    while !scheduler.is_idle() {
        results.step(&mut scheduler);
    }
    assert!(scheduler.load().totals.n_reused_tokens >= 256, "the repeated prompt was not reused");
    for (id, request) in submitted {
        let (is, expected) = (results.sample(id, 0), &alone(&gpt, &tokenizer, request)[0]);
        assert_eq!(is.len(), expected.len());
        for (is, expected) in is.iter().zip(expected) {
            assert_eq!(
                (is.id, &is.text, &is.stopped_by),
                (expected.id, &expected.text, &expected.stopped_by)
            );
            let scores = [&is.score, &expected.score].map(|score| score.as_ref().unwrap().logprob);
            let tolerance = if is_exact() { 0.0 } else { 1e-4 };
            assert!((scores[0] - scores[1]).abs() <= tolerance, "{scores:?}");
        }
    }
}

/// Whether the other sequences of a step change no bit, which holds on the CPU.
fn is_exact() -> bool {
    std::env::var("KINDLING_TEST_DEVICE").map_or(true, |device| device == "cpu")
}

#[test]
fn a_long_prompt_does_not_stop_other_samples() {
    let (gpt, tokenizer) = (gpt(2000), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    let mut results = Results::default();
    let options = Options { max_tokens: 20, ..Options::default() };
    let short = scheduler.submit(Request::new(prompt(1, 4), options.clone())).unwrap();
    results.step(&mut scheduler);
    let long = scheduler.submit(Request::new(prompt(2, 1900), options)).unwrap();
    let mut n_steps = 0;
    while !results.tokens.contains_key(&(long, 0)) {
        n_steps += 1;
        results.step(&mut scheduler);
        assert_eq!(results.sample(short, 0).len(), 1 + n_steps, "a token in each step");
    }
    assert_eq!(n_steps, 1900_usize.div_ceil(256));
}

#[test]
fn samples_of_a_request_share_its_prompt() {
    let (gpt, tokenizer) = (gpt(600), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    let samples = 0..N_SLOTS as u64 + 2;
    let many = Request { samples: samples.clone(), ..request(4, 70) };
    let id = scheduler.submit(many.clone()).unwrap();
    assert_eq!(scheduler.load().n_waiting, N_SLOTS + 2);
    let mut results = Results::default();
    results.step(&mut scheduler);
    assert_eq!(scheduler.load().totals.n_prompt_tokens, 70, "the prompt was processed once");
    assert_eq!(results.tokens.len(), N_SLOTS, "all slots sampled from it in the same step");
    while !scheduler.is_idle() {
        results.step(&mut scheduler);
    }
    for number in samples {
        let one = Request { samples: number..number + 1, ..many.clone() };
        let ids = |tokens: &[SampledToken]| tokens.iter().map(|token| token.id).collect::<Vec<_>>();
        assert_eq!(
            ids(results.sample(id, number as usize)),
            ids(&alone(&gpt, &tokenizer, one)[0]),
            "sample {number}"
        );
    }
}

#[test]
fn a_conversation_processes_only_its_new_tokens() {
    let (gpt, tokenizer) = (gpt(600), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, 1);
    let greedy = Options { max_tokens: 9, temperature: 0.0, ..Options::default() };
    let mut text = prompt(3, 50);
    let mut n_before = 0;
    for turn in 0..4 {
        let id = scheduler.submit(Request::new(text.clone(), greedy.clone())).unwrap();
        let results = run_all(&mut scheduler);
        let answer: Vec<u32> = results.sample(id, 0).iter().filter_map(|token| token.id).collect();
        let whole = &alone(&gpt, &tokenizer, Request::new(text.clone(), greedy.clone()))[0];
        assert_eq!(answer, whole.iter().filter_map(|token| token.id).collect::<Vec<_>>());
        let n_processed = scheduler.load().totals.n_prompt_tokens - n_before;
        // The last token of an answer was not processed yet.
        assert_eq!(n_processed, if turn == 0 { 50 } else { 1 + 6 }, "turn {turn}");
        n_before += n_processed;
        text.extend(answer);
        text.extend(prompt(turn, 6));
    }
}

#[test]
fn a_reproducible_request_reuses_whole_pieces_only() {
    let (gpt, tokenizer) = (gpt(600), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    for (len, n_reused) in [(300, 0), (300, 256), (255, 0), (257, 256), (520, 256), (513, 512)] {
        let before = scheduler.load().totals.n_reused_tokens;
        let one = Request { prompt: prompt(5, len), ..request(1, 1) };
        scheduler.submit(one).unwrap();
        run_all(&mut scheduler);
        assert_eq!(scheduler.load().totals.n_reused_tokens - before, n_reused, "{len} tokens");
    }
}

#[test]
fn scores_of_a_prompt_equal_those_of_a_scored_text() {
    let (gpt, tokenizer) = (gpt(600), tokenizer());
    for (len, max_tokens) in [(1, 1), (2, 0), (300, 1), (530, 4)] {
        let options = Options { max_tokens, temperature: 0.0, ..Options::default() };
        let ids = prompt(9, len);
        let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
        // The same text before it must not be reused.
        scheduler.submit(Request::new(ids.clone(), options.clone())).unwrap();
        let scored = Request {
            scores_prompt: true,
            n_top: Some(3),
            samples: 0..2,
            ..Request::new(ids.clone(), options)
        };
        let id = scheduler.submit(scored).unwrap();
        let results = run_all(&mut scheduler);
        let scores = &results.prompts[&id];
        let expected = score_texts(&gpt, &tokenizer, vec![ids.clone()], 300).remove(0);
        assert_eq!(scores.len(), len - 1);
        for (score, (id, expected)) in scores.iter().zip(ids[1..].iter().zip(&expected.logprobs[1..])) {
            assert_eq!(score.id, *id);
            assert!((score.logprob - expected.unwrap()).abs() < test_tolerance(1e-4));
            assert_eq!(score.top.len(), 3);
            assert!(score.top.is_sorted_by(|(_, a), (_, b)| a >= b) && score.top[0].1 >= score.logprob);
            if let Some((_, logprob)) = score.top.iter().find(|(id, _)| *id == score.id) {
                assert_eq!(*logprob, score.logprob, "the same value in both places");
            }
        }
        for sample in 0..2 {
            let tokens = results.sample(id, sample);
            assert_eq!(tokens.iter().filter_map(|token| token.id).count(), max_tokens);
            assert_eq!(tokens.last().unwrap().stopped_by, Some(StoppedBy::MaxTokens));
        }
    }
}

#[test]
fn samples_after_a_scored_prompt_do_not_depend_on_the_number_of_slots() {
    // A vocabulary for which scored pieces are shorter than others.
    let tokenizer = Tokenizer::gpt2();
    let config =
        GptConfig { vocab_size: tokenizer.vocab_size(), block_size: 400, ..GptConfig::debug_modern() };
    let gpt = config.init(7, &test_device()).unwrap();
    let options = Options { max_tokens: 4, temperature: 1.0, ..Options::default() };
    let scored = Request {
        scores_prompt: true,
        n_top: Some(1),
        is_reproducible: true,
        samples: 0..3,
        ..Request::new(prompt(2, 300), options)
    };
    let [narrow, wide] = [1, 3].map(|n_slots| {
        let mut scheduler = Scheduler::new(&gpt, &tokenizer, n_slots);
        scheduler.submit(scored.clone()).unwrap();
        run_all(&mut scheduler).tokens
    });
    let ids = |tokens: &BTreeMap<_, Vec<SampledToken>>| -> Vec<_> {
        tokens.values().flatten().map(|token| (token.id, token.text.clone())).collect()
    };
    assert_eq!(ids(&narrow), ids(&wide));
    if is_exact() {
        assert_eq!(narrow, wide, "the scores too");
    }
}

#[test]
fn a_prompt_can_be_scored_without_the_most_probable_tokens() {
    let (gpt, tokenizer) = (gpt(64), tokenizer());
    let options = Options { max_tokens: 1, temperature: 0.0, ..Options::default() };
    let scored = Request { scores_prompt: true, ..Request::new(prompt(1, 9), options) };
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, 1);
    let id = scheduler.submit(scored).unwrap();
    assert!(
        scheduler.step().is_ok_and(|outputs| matches!(outputs[0], (first, Output::Prompt(_)) if first == id))
    );
}

#[test]
fn cancelled_requests_free_their_slots_and_affect_no_other() {
    let (gpt, tokenizer) = (gpt(2000), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    let kept = request(0, 30);
    let kept_id = scheduler.submit(kept.clone()).unwrap();
    let running = scheduler.submit(request(1, 20)).unwrap();
    let in_prefill = scheduler.submit(request(2, 1500)).unwrap();
    let queued = scheduler.submit(Request { samples: 0..4, ..request(3, 10) }).unwrap();
    let mut results = Results::default();
    results.step(&mut scheduler);
    assert_eq!((scheduler.load().n_running, scheduler.load().n_waiting), (3, 4));
    for id in [running, in_prefill, queued] {
        scheduler.cancel(id);
    }
    assert_eq!((scheduler.load().n_running, scheduler.load().n_waiting), (1, 0));
    while !scheduler.is_idle() {
        results.step(&mut scheduler);
    }
    assert_eq!(results.sample(running, 0).len(), 1);
    assert!(results.tokens.keys().all(|(id, _)| ![in_prefill, queued].contains(id)));
    assert_eq!(results.sample(kept_id, 0), alone(&gpt, &tokenizer, kept)[0]);
}

#[test]
fn memory_does_not_grow_beyond_the_slots() {
    let (gpt, tokenizer) = (gpt(100), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    for seed in 0..20 {
        scheduler.submit(Request::new(prompt(seed, 60), request(seed, 1).options)).unwrap();
        run_all(&mut scheduler);
        assert!(scheduler.load().n_cached <= N_SLOTS * 100);
        assert!(
            scheduler.load().cache_bytes
                <= model::estimate_slots(gpt.config(), N_SLOTS, 100, model::SlotType::F32)
        );
    }
}

#[test]
fn f16_keys_and_values_take_half_the_memory_and_keep_greedy_texts() {
    let (gpt, tokenizer) = (gpt(100), tokenizer());
    if !kernels::supports_slot_type(SlotType::F16, &test_device()) {
        return;
    }
    let read = |gpt: &Gpt| {
        let mut scheduler = Scheduler::new(gpt, &tokenizer, 1);
        let options = Options { max_tokens: 30, temperature: 0.0, ..Options::default() };
        let request = Request { n_top: Some(0), ..Request::new(prompt(2, 60), options) };
        let id = scheduler.submit(request).unwrap();
        let results = run_all(&mut scheduler);
        let tokens = results.sample(id, 0).iter();
        let read = |token: &SampledToken| (token.id, token.score.as_ref().unwrap().logprob);
        let (ids, logprobs): (Vec<_>, Vec<_>) = tokens.map(read).unzip();
        (ids, logprobs, scheduler.load().cache_bytes)
    };
    let (ids, logprobs, size) = read(&gpt);
    let (rounded_ids, rounded_logprobs, half) = read(&gpt.with_slot_type(SlotType::F16));
    assert_eq!(size, 2 * half);
    assert_eq!(ids, rounded_ids);
    assert_ne!(logprobs, rounded_logprobs, "nothing was rounded");
}

#[test]
fn a_failing_request_ends_alone() {
    let (gpt, tokenizer) = (gpt(64), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
    let bad = Options { logit_bias: [(99, 1.0)].into(), ..Options::default() };
    let bad = scheduler.submit(Request { samples: 0..2, ..Request::new(vec![1], bad) }).unwrap();
    let good = scheduler.submit(request(2, 9)).unwrap();
    let mut n_failed = 0;
    let mut n_good = 0;
    while !scheduler.is_idle() {
        for (id, output) in scheduler.step().unwrap() {
            match output {
                Output::Failed(error) => {
                    assert_eq!(id, bad);
                    assert!(error.to_string().contains("99"), "{error}");
                    n_failed += 1;
                }
                _ => n_good += usize::from(id == good),
            }
        }
    }
    assert_eq!((n_failed, n_good), (1, 3 + 2));
    let empty = scheduler.submit(Request::new(Vec::new(), Options::default()));
    assert!(empty.is_err() && scheduler.is_idle());
}

/// Permits `ids` in their order.
#[derive(Debug, Clone)]
struct Only {
    ids: Vec<u32>,
    n_accepted: usize,
}

impl Constraint for Only {
    fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        let allowed = self.ids[self.n_accepted] as usize;
        for (id, logit) in logits.iter_mut().enumerate().filter(|(id, _)| *id != allowed) {
            assert!(logit.is_finite(), "the logit of token {id}");
            *logit = f32::NEG_INFINITY;
        }
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        assert_eq!(id, self.ids[self.n_accepted]);
        self.n_accepted += 1;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.n_accepted == self.ids.len()
    }

    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

#[test]
fn a_constraint_decides_the_tokens_and_ends_each_sample() {
    let (gpt, tokenizer) = (gpt(64), tokenizer());
    for temperature in [0.0, 1.0] {
        let options = Options { max_tokens: 50, temperature, ..Options::default() };
        let constraint = Only { ids: vec![5, 0, 12], n_accepted: 0 };
        let constrained = Request {
            samples: 0..2,
            constraint: Some(Box::new(constraint)),
            ..Request::new(prompt(1, 4), options)
        };
        let mut scheduler = Scheduler::new(&gpt, &tokenizer, N_SLOTS);
        let id = scheduler.submit(constrained).unwrap();
        let results = run_all(&mut scheduler);
        for sample in 0..2 {
            let text: String = results.sample(id, sample).iter().map(|token| token.text.as_str()).collect();
            assert_eq!(text, "fam");
            assert_eq!(results.sample(id, sample)[2].stopped_by, Some(StoppedBy::Constraint));
        }
    }
}
