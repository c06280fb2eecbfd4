//! Prompt lookup: the same texts in fewer steps of the model.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and their values are small"
)]

use std::{collections::BTreeMap, error};

use engine::{Generation, Output, Request, SampledToken, Scheduler, Totals};
use kernels::testing::{test_device, test_tolerance};
use model::{Gpt, GptConfig};
use sampler::{Constraint, Options, StoppedBy};
use tokenizer::Tokenizer;

const N_SLOTS: usize = 3;

fn tokenizer() -> Tokenizer {
    Tokenizer::from_chars("abcdefghijklm".chars()).unwrap()
}

fn gpt(block_size: usize) -> Gpt {
    GptConfig { block_size, ..GptConfig::debug_modern() }.init(7, &test_device()).unwrap()
}

/// Text that repeats itself after 11 tokens.
fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|idx| (idx % 11) * 5 % 13).collect()
}

fn greedy(max_tokens: usize) -> Options {
    Options { max_tokens, temperature: 0.0, ..Options::default() }
}

/// Logits of an untrained model are nearly equal, so only a low temperature prefers some tokens.
fn sampled(max_tokens: usize) -> Options {
    Options { max_tokens, temperature: 0.05, seed: 3, top_k: None, ..Options::default() }
}

/// The tokens of all samples, the number of steps, and the totals.
struct Run {
    tokens: BTreeMap<(usize, usize), Vec<SampledToken>>,
    n_steps: usize,
    totals: Totals,
}

fn run(gpt: &Gpt, requests: &[Request]) -> Run {
    let tokenizer = tokenizer();
    let mut scheduler = Scheduler::new(gpt, &tokenizer, N_SLOTS);
    let submit = |request: &Request| scheduler.submit(request.clone()).unwrap();
    let ids: Vec<_> = requests.iter().map(submit).collect();
    let mut run = Run { tokens: BTreeMap::new(), n_steps: 0, totals: Totals::default() };
    while !scheduler.is_idle() {
        run.n_steps += 1;
        for (id, output) in scheduler.step().unwrap() {
            let number = ids.iter().position(|own| *own == id).unwrap();
            match output {
                Output::Prompt(_) => {}
                Output::Token(token) => run.tokens.entry((number, token.sample)).or_default().push(token),
                Output::Failed(error) => panic!("{error}"),
            }
        }
        let load = scheduler.load();
        assert!(load.n_cached <= N_SLOTS * gpt.config().block_size);
    }
    Run { totals: scheduler.load().totals, ..run }
}

/// Fails unless prompt lookup leaves all tokens of some requests as they are. Returns both runs.
fn check(gpt: &Gpt, requests: &[Request]) -> [Run; 2] {
    let [plain, lookup] = [0, 8].map(|prompt_lookup| {
        let with = |request: &Request| Request { prompt_lookup, ..request.clone() };
        run(gpt, &requests.iter().map(with).collect::<Vec<_>>())
    });
    assert_eq!((plain.totals.n_proposed_tokens, plain.totals.n_accepted_tokens), (0, 0));
    assert_eq!(lookup.totals.n_sampled_tokens, plain.totals.n_sampled_tokens);
    let keys = |run: &Run| run.tokens.keys().copied().collect::<Vec<_>>();
    assert_eq!(keys(&lookup), keys(&plain));
    for (key, expected) in &plain.tokens {
        let is = &lookup.tokens[key];
        assert_eq!(is.len(), expected.len(), "{key:?} of {requests:?}");
        for (is, expected) in is.iter().zip(expected) {
            assert_eq!(
                (is.id, &is.text, &is.stopped_by),
                (expected.id, &expected.text, &expected.stopped_by),
                "{key:?} of {requests:?}"
            );
            // Segments of several rows round differently.
            let logprobs = [is, expected].map(|token| token.score.as_ref().map(|score| score.logprob));
            if let [Some(is), Some(expected)] = logprobs {
                assert!((is - expected).abs() <= test_tolerance(1e-4), "{is} and {expected}");
            }
        }
    }
    [plain, lookup]
}

#[test]
fn greedy_text_that_repeats_itself_takes_fewer_steps() {
    let [plain, lookup] = check(&gpt(400), &[Request::new(prompt(30), greedy(120))]);
    assert_eq!(plain.n_steps, 120);
    assert!(lookup.n_steps < 40, "{} steps for 120 tokens", lookup.n_steps);
    assert_eq!(lookup.totals.n_accepted_tokens as usize, 120 - lookup.n_steps);
    assert!(lookup.totals.n_proposed_tokens >= lookup.totals.n_accepted_tokens);
}

#[test]
fn each_option_gives_the_same_text_as_without() {
    let gpt = gpt(400);
    for base in [greedy(60), sampled(60)] {
        let options = [
            base.clone(),
            Options { logprobs: true, ..base.clone() },
            Options { top_k: Some(2), ..base.clone() },
            Options { top_p: Some(0.7), ..base.clone() },
            Options { min_p: Some(0.3), ..base.clone() },
            Options { typical_p: Some(0.7), ..base.clone() },
            Options { repetition_penalty: 1.2, ..base.clone() },
            Options { frequency_penalty: 0.02, presence_penalty: 0.01, ..base.clone() },
            Options { logit_bias: [(2, 0.3), (9, 0.3)].into(), ..base.clone() },
            Options { stop: vec!["ab".to_owned(), "fk".to_owned(), "gg".to_owned()], ..base.clone() },
            Options { stop_tokens: vec![3, 8], ..base.clone() },
        ];
        for options in options {
            for n_top in [None, Some(2)] {
                let request = Request { n_top, samples: 0..2, ..Request::new(prompt(25), options.clone()) };
                check(&gpt, &[request]);
            }
        }
        for max_tokens in 0..12 {
            check(&gpt, &[Request::new(prompt(25), Options { max_tokens, ..base.clone() })]);
        }
    }
}

#[test]
fn a_text_that_slides_out_of_the_block_stays_the_same() {
    for block_size in [16, 33, 64] {
        let gpt = gpt(block_size);
        for options in [greedy(150), sampled(150)] {
            check(&gpt, &[Request::new(prompt(20), options)]);
        }
        let [plain, lookup] = check(&gpt, &[forced(&prompt(22), &prompt(150), greedy(500))]);
        assert_eq!(plain.n_steps, 150);
        // In a block of 16, every second token slides the window, which leaves no room for a proposal.
        let (n_steps, is_smallest) = (lookup.n_steps, block_size == 16);
        assert_eq!(n_steps == 150, is_smallest, "{n_steps} steps in a block of {block_size}");
        assert!(is_smallest || n_steps < 120, "{n_steps} steps in a block of {block_size}");
    }
}

#[test]
fn many_samples_share_the_rows_of_a_step() {
    let gpt = gpt(120);
    let request = |seed, len, max_tokens| Request {
        n_top: (seed % 2 == 0).then_some(1),
        samples: 0..1 + seed % 3,
        scores_prompt: seed == 4,
        ..Request::new(prompt(len), Options { seed, ..sampled(max_tokens) })
    };
    let requests = [(0, 30, 40), (1, 5, 70), (2, 100, 60), (3, 12, 20), (4, 30, 50), (5, 31, 30), (6, 2, 90)];
    let requests = requests.map(|(seed, len, max_tokens)| request(seed, len, max_tokens));
    let [plain, lookup] = check(&gpt, &requests);
    assert!(lookup.totals.n_accepted_tokens > 0 && lookup.n_steps < plain.n_steps);

    // More samples than rows leave none for proposals.
    let tokenizer = tokenizer();
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, 70);
    let many = Request { samples: 0..70, prompt_lookup: 8, ..Request::new(prompt(30), greedy(9)) };
    scheduler.submit(many).unwrap();
    while !scheduler.is_idle() {
        scheduler.step().unwrap();
    }
    let totals = scheduler.load().totals;
    assert_eq!((totals.n_sampled_tokens, totals.n_proposed_tokens), (70 * 9, 0));
}

#[test]
fn a_generation_has_a_piece_for_each_token() {
    let (gpt, tokenizer) = (gpt(200), tokenizer());
    let generation = |prompt_lookup| {
        let request = Request { prompt_lookup, samples: 0..20, ..Request::new(prompt(30), sampled(40)) };
        let mut generation = Generation::begin(&gpt, &tokenizer, request).unwrap();
        let pieces: Vec<_> = generation.by_ref().map(Result::unwrap).collect();
        (pieces.len(), generation.into_samples())
    };
    let (plain, lookup) = (generation(0), generation(3));
    assert_eq!(lookup, plain);
    assert_eq!(lookup.0, 20 * 40);
}

/// Permits `ids` in their order, so that the text is known whatever the model computes.
#[derive(Debug, Clone)]
struct Only {
    ids: Vec<u32>,
    n_accepted: usize,
}

impl Constraint for Only {
    fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        let allowed = self.ids[self.n_accepted] as usize;
        let forbidden = logits.iter_mut().enumerate().filter(|(id, _)| *id != allowed);
        forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
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

/// A request whose text is `ids`.
fn forced(prompt: &[u32], ids: &[u32], options: Options) -> Request {
    let constraint = Only { ids: ids.to_vec(), n_accepted: 0 };
    Request { constraint: Some(Box::new(constraint)), ..Request::new(prompt.to_vec(), options) }
}

#[test]
fn a_constraint_is_asked_for_each_sampled_token_only() {
    let gpt = gpt(200);
    let loops: Vec<u32> = prompt(100);
    let [plain, lookup] = check(&gpt, &[forced(&prompt(22), &loops, greedy(500))]);
    assert_eq!(plain.n_steps, 100);
    assert!(lookup.n_steps < 15, "{} steps for 100 tokens", lookup.n_steps);
    assert_eq!(lookup.tokens[&(0, 0)].last().unwrap().stopped_by, Some(StoppedBy::Constraint));
    // A text that leaves the loop again and again.
    let other: Vec<u32> = (0..100).map(|idx| if idx % 7 == 6 { 12 } else { loops[idx] }).collect();
    let [_, lookup] = check(&gpt, &[forced(&prompt(22), &other, sampled(500))]);
    assert!(lookup.totals.n_accepted_tokens > 10);
    assert!(lookup.totals.n_proposed_tokens > lookup.totals.n_accepted_tokens, "some were rejected");
}

#[test]
fn nothing_is_proposed_beyond_a_stop_token_or_the_last_token() {
    let gpt = gpt(200);
    let text = [0, 1, 2, 3, 4, 5, 6, 7, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7, 9];
    let (prompt, rest) = text.split_at(13);
    let to_stop_token = Options { stop_tokens: vec![9], ..greedy(50) };
    for (options, reason) in [(to_stop_token, StoppedBy::StopToken), (greedy(6), StoppedBy::MaxTokens)] {
        // 3 comes from the prompt's logits; then 4 5 6 7 are proposed, and with five tokens left no more than four.
        let [_, lookup] = check(&gpt, &[forced(prompt, &[rest, &[8; 20]].concat(), options)]);
        assert_eq!(lookup.tokens[&(0, 0)].last().unwrap().stopped_by, Some(reason));
        assert_eq!((lookup.totals.n_proposed_tokens, lookup.totals.n_accepted_tokens), (4, 4));
        assert_eq!(lookup.n_steps, 2);
    }
    // A stop string is only found when its text is sampled, and then nothing follows.
    let to_stop_string = Options { stop: vec!["fg".to_owned()], ..greedy(50) };
    let [_, lookup] = check(&gpt, &[forced(prompt, &[rest, &[8; 20]].concat(), to_stop_string)]);
    let tokens = &lookup.tokens[&(0, 0)];
    assert_eq!(tokens.last().unwrap().stopped_by, Some(StoppedBy::StopString("fg".to_owned())));
    assert_eq!((lookup.n_steps, tokens.len()), (2, 4));
}

#[test]
fn caches_of_ended_and_cancelled_samples_hold_accepted_tokens_only() {
    let (gpt, tokenizer) = (gpt(300), tokenizer());
    let mut scheduler = Scheduler::new(&gpt, &tokenizer, 1);
    let mut text = prompt(30);
    for turn in 0..6 {
        let options = if turn % 2 == 0 { greedy(20) } else { sampled(20) };
        let request = Request { prompt_lookup: 8, ..Request::new(text.clone(), options) };
        let expected = &run(&gpt, &[Request { prompt_lookup: 0, ..request.clone() }]).tokens[&(0, 0)];
        let expected: Vec<u32> = expected.iter().filter_map(|token| token.id).collect();
        let id = scheduler.submit(request).unwrap();
        let mut answer = Vec::new();
        // Some answers are cut off between two steps.
        while !scheduler.is_idle() {
            for (_, output) in scheduler.step().unwrap() {
                let Output::Token(token) = output else { panic!("{output:?}") };
                answer.extend(token.id);
            }
            if turn >= 3 && answer.len() > 10 {
                scheduler.cancel(id);
            }
            assert_eq!(scheduler.load().n_cached, text.len() + answer.len() - 1, "turn {turn}");
        }
        assert_eq!(answer, expected[..answer.len()], "turn {turn}");
        assert!(answer.len() > 10);
        text.extend(answer);
        text.extend(&prompt(30)[turn..turn + 4]);
    }
    assert!(scheduler.load().totals.n_accepted_tokens > 0 && scheduler.load().totals.n_reused_tokens > 100);
}
