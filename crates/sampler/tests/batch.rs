//! Batches: each sample equals the one generated alone, and the model receives only incomplete samples.

use std::{collections::BTreeMap, convert::Infallible, ops::ControlFlow};

use proptest::{prelude::*, test_runner::RngSeed};
use sampler::{Error, Options, Sample, StoppedBy, generate, generate_batch, random_stream, uniform};

const PROMPT: [u32; 3] = [2, 0, 5];
const LETTERS: [&str; 6] = ["a", "b", "ab", "é", "", "c"];

/// A model whose logits depend on the whole context.
fn logits_after(context: &[u32]) -> Vec<f32> {
    let seed = context.iter().fold(7_u64, |seed, &id| seed.wrapping_mul(31).wrapping_add(id.into()));
    let mut rng = random_stream(seed, 0);
    #[expect(clippy::cast_possible_truncation, reason = "logits are f32")]
    let logits = LETTERS.iter().map(|_| (6.0 * uniform(&mut rng)) as f32);
    logits.collect()
}

/// A tokenizer that returns the text of each id with the next id.
fn one_late(buffered: &mut &'static str, id: u32) -> String {
    std::mem::replace(buffered, LETTERS[id as usize]).to_owned()
}

/// Collects streamed pieces, and ends the sample after `max_pieces`.
fn stream(pieces: &mut Vec<String>, max_pieces: usize, text: &str) -> ControlFlow<()> {
    pieces.push(text.to_owned());
    if pieces.len() < max_pieces { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

/// A sample and its streamed pieces.
type Streamed = (Sample, Vec<String>);

fn alone(options: &Options, sample_idx: u64, max_pieces: usize) -> Streamed {
    let (mut context, mut buffered, mut pieces) = (Vec::new(), "", Vec::new());
    let sample = generate(
        options,
        sample_idx,
        &PROMPT,
        |id| one_late(&mut buffered, id),
        |unseen| {
            context.extend(unseen);
            Ok::<_, Infallible>(logits_after(&context))
        },
        |text| stream(&mut pieces, max_pieces, text),
    );
    (sample.expect("the options and logits are valid"), pieces)
}

/// Sample 0 ends after `max_pieces`, sample 1 after one more, and so on. Also returns the sample numbers of each call
/// of the model.
fn together(options: &Options, sample_idxs: &[u64], max_pieces: usize) -> (Vec<Streamed>, Vec<Vec<usize>>) {
    let mut contexts = vec![Vec::new(); sample_idxs.len()];
    let mut buffered = vec![""; sample_idxs.len()];
    let mut pieces = vec![Vec::new(); sample_idxs.len()];
    let mut calls = Vec::new();
    let samples = generate_batch(
        options,
        sample_idxs.iter().copied(),
        &PROMPT,
        |number, id| one_late(&mut buffered[number], id),
        |running, unseen| {
            calls.push(running.to_vec());
            assert_eq!(running.len(), unseen.len());
            let next = |(&number, &unseen): (&usize, &&[u32])| {
                contexts[number].extend(unseen);
                logits_after(&contexts[number])
            };
            Ok::<_, Infallible>(running.iter().zip(unseen).map(next).collect())
        },
        |number, text| stream(&mut pieces[number], max_pieces + number, text),
    );
    let samples = samples.expect("the options and logits are valid");
    (samples.into_iter().zip(pieces).collect(), calls)
}

/// Options whose effect differs between samples: by random numbers, history and stopping.
fn options() -> impl Strategy<Value = Options> {
    let choice = (any::<u64>(), 0_usize..20, prop_oneof![Just(0.0_f32), 0.2_f32..3.0]);
    let penalties = (0.5_f32..2.0, -2.0_f32..2.0, -2.0_f32..2.0);
    let filters = (prop::option::of(1_usize..7), prop::option::of(0.1_f32..1.0));
    let stops = (prop::collection::vec(0_u32..6, 0..2), prop::collection::vec("[abcé]{1,3}", 0..3));
    (choice, penalties, filters, stops).prop_map(|(choice, penalties, filters, stops)| Options {
        seed: choice.0,
        max_tokens: choice.1,
        temperature: choice.2,
        repetition_penalty: penalties.0,
        frequency_penalty: penalties.1,
        presence_penalty: penalties.2,
        top_k: filters.0,
        typical_p: filters.1,
        logit_bias: BTreeMap::from([(4, -1.0)]),
        stop_tokens: stops.0,
        stop: stops.1,
        ..Options::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn a_sample_of_a_batch_equals_the_one_generated_alone(
        options in options(), sample_idxs in prop::collection::vec(any::<u64>(), 0..6), max_pieces in 1_usize..30,
    ) {
        let (samples, calls) = together(&options, &sample_idxs, max_pieces);
        prop_assert_eq!(samples.len(), sample_idxs.len());
        for (number, (sample, &sample_idx)) in samples.iter().zip(&sample_idxs).enumerate() {
            prop_assert_eq!(sample, &alone(&options, sample_idx, max_pieces + number));
        }

        // Complete samples are not passed to the model.
        let n_steps = samples.iter().map(|(sample, _)| sample.ids.len()).max().unwrap_or(0);
        prop_assert_eq!(calls.len(), n_steps);
        for (step, running) in calls.iter().enumerate() {
            let expected: Vec<usize> =
                (0..samples.len()).filter(|&number| samples[number].0.ids.len() > step).collect();
            prop_assert_eq!(running, &expected);
        }
    }
}

#[test]
fn samples_of_a_batch_differ_only_by_their_index() {
    let options = Options { max_tokens: 20, temperature: 1.0, ..Options::default() };
    let (samples, _) = together(&options, &[3, u64::MAX, 3], 100);
    assert_eq!(samples[0], samples[2]);
    assert_ne!(samples[0].0.ids, samples[1].0.ids);
}

/// Greedy sample 0 generates 9 first, sample 1 after one token, and so on; every other token is 1.
fn nine_in_turn(running: &[usize], n_calls: usize) -> Vec<Vec<f32>> {
    let logits = |&number: &usize| {
        let mut logits = vec![0.0; 10];
        logits[if number == n_calls { 9 } else { 1 }] = 1.0;
        logits
    };
    running.iter().map(logits).collect()
}

fn greedy() -> Options {
    Options { max_tokens: 3, temperature: 0.0, stop_tokens: vec![9], ..Options::default() }
}

#[test]
fn complete_samples_leave_the_batch_and_the_others_continue() {
    let mut calls: Vec<(Vec<usize>, Vec<Vec<u32>>)> = Vec::new();
    let mut streamed = Vec::new();
    let samples = generate_batch(
        &greedy(),
        0..5,
        &[4, 2],
        |number, id| format!("{number}:{id} "),
        |running, unseen| {
            calls.push((running.to_vec(), unseen.iter().map(|ids| ids.to_vec()).collect()));
            Ok::<_, Infallible>(nine_in_turn(running, calls.len() - 1))
        },
        |number, text| {
            streamed.push(text.to_owned());
            if number == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        },
    )
    .unwrap();

    let (prompt, one) = (vec![4, 2], vec![1]);
    assert_eq!(calls[0], ((0..5).collect(), vec![prompt; 5]));
    assert_eq!(calls[1], (vec![1, 2, 4], vec![one.clone(); 3]));
    assert_eq!(calls[2], (vec![2, 4], vec![one; 2]));
    assert_eq!(calls.len(), 3);
    assert_eq!(streamed.concat(), "1:1 2:1 3:1 4:1 2:1 4:1 4:1 ");

    let texts: Vec<&str> = samples.iter().map(|sample| sample.text.as_str()).collect();
    assert_eq!(texts, ["", "1:1 ", "2:1 2:1 ", "3:1 ", "4:1 4:1 4:1 "]);
    let reasons: Vec<StoppedBy> = samples.into_iter().map(|sample| sample.stopped_by).collect();
    use StoppedBy::{Interrupted, MaxTokens, StopToken};
    assert_eq!(reasons, [StopToken, StopToken, StopToken, Interrupted, MaxTokens]);
}

/// The result of a batch of two whose model returns these logits.
fn batch_of_two(prompt: &[u32], logits: Result<Vec<Vec<f32>>, &'static str>) -> sampler::Result<Vec<Sample>> {
    let on_text = |_, _: &str| ControlFlow::Continue(());
    generate_batch(&greedy(), 0..2, prompt, |_, _| String::new(), |_, _| logits.clone(), on_text)
}

#[test]
fn an_error_in_one_sample_ends_the_batch() {
    assert!(matches!(batch_of_two(&[], Ok(vec![vec![0.0]; 2])), Err(Error::EmptyPrompt)));
    let one_bad = Ok(vec![vec![0.0], vec![f32::NAN]]);
    assert!(matches!(batch_of_two(&[0], one_bad), Err(Error::BadLogit { id: 0, .. })));
    assert!(matches!(batch_of_two(&[0], Err("out of memory")), Err(Error::Model(_))));
    assert_eq!(batch_of_two(&[0], Ok(vec![vec![0.0]; 2])).unwrap().len(), 2);
}

#[test]
#[should_panic(expected = "the model returned logits for 1 samples instead of 2")]
fn the_wrong_number_of_logits_panics_with_both_numbers() {
    let _ = batch_of_two(&[0], Ok(vec![vec![0.0]]));
}

#[test]
fn an_empty_batch_does_not_call_the_model() {
    let on_text = |_, _: &str| ControlFlow::Continue(());
    let next_logits = |_: &[usize], _: &[&[u32]]| Err::<Vec<Vec<f32>>, _>("called");
    let samples = generate_batch(&greedy(), [], &[0], |_, _| String::new(), next_logits, on_text);
    assert_eq!(samples.unwrap(), []);
}
