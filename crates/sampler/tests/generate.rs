//! Generation of a sample: calls of the model, streamed text, and stopping.

use std::{collections::BTreeMap, convert::Infallible, ops::ControlFlow};

use proptest::{prelude::*, test_runner::RngSeed};
use sampler::{Error, Options, Sample, StoppedBy, generate};

/// A model that generates the given tokens in order, and panics after the last.
fn scripted(pieces: &[&[u8]], options: &Options) -> (Sample, Vec<String>) {
    let mut n_calls = 0;
    let next_logits = |_: &[u32]| {
        let mut logits = vec![0.0; pieces.len()];
        logits[n_calls] = 9.0;
        n_calls += 1;
        Ok::<_, Infallible>(logits)
    };
    let mut streamed = Vec::new();
    let on_text = |text: &str| {
        streamed.push(text.to_owned());
        ControlFlow::Continue(())
    };
    let mut unfinished = Vec::new();
    let text_of = |id: u32| complete_characters(&mut unfinished, pieces[id as usize]);
    let sample =
        generate(options, 0, &[0], text_of, next_logits, on_text).expect("the options and logits are valid");
    (sample, streamed)
}

/// The complete characters of all bytes so far, which must be valid UTF-8.
fn complete_characters(unfinished: &mut Vec<u8>, bytes: &[u8]) -> String {
    unfinished.extend(bytes);
    let n_complete = str::from_utf8(unfinished).map_or_else(|error| error.valid_up_to(), str::len);
    let complete = unfinished.drain(..n_complete).collect();
    String::from_utf8(complete).expect("valid up to here")
}

fn greedy(n_tokens: usize, stop: &[&str]) -> Options {
    let stop = stop.iter().map(ToString::to_string).collect();
    Options { max_tokens: n_tokens, temperature: 0.0, stop, ..Options::default() }
}

fn stop_string(stop: &str) -> StoppedBy {
    StoppedBy::StopString(stop.to_owned())
}

#[test]
fn the_model_receives_the_prompt_and_then_each_token_once() {
    let mut calls: Vec<Vec<u32>> = Vec::new();
    let next_logits = |ids: &[u32]| {
        calls.push(ids.to_vec());
        let mut logits = vec![0.0; 9];
        logits[ids[ids.len() - 1] as usize + 1] = 1.0;
        Ok::<_, Infallible>(logits)
    };
    let on_text = |_: &str| ControlFlow::Continue(());
    generate(&greedy(3, &[]), 0, &[7, 1, 4], |_| String::new(), next_logits, on_text).unwrap();
    assert_eq!(calls, [vec![7, 1, 4], vec![5], vec![6]]);
}

#[test]
fn a_stop_string_across_tokens_ends_the_sample_and_is_not_in_the_text() {
    let (sample, streamed) = scripted(&[b"aa", b"ab", b"never"], &greedy(3, &["aab"]));
    assert_eq!(sample.text, "a");
    assert_eq!(sample.ids, [0, 1], "ids include the tokens of the stop string");
    assert_eq!(sample.stopped_by, stop_string("aab"));
    assert_eq!(streamed, ["", "a"]);
}

#[test]
fn an_incomplete_stop_string_at_the_end_is_text() {
    let (sample, streamed) = scripted(&[b"x", b"aa"], &greedy(2, &["aab"]));
    assert_eq!((sample.text.as_str(), sample.stopped_by), ("xaa", StoppedBy::MaxTokens));
    assert_eq!(streamed, ["x", "aa"]);
}

#[test]
fn a_stop_token_adds_no_text() {
    let options = Options { stop_tokens: vec![2], ..greedy(9, &["aab"]) };
    let (sample, streamed) = scripted(&[b"x", b"aa", b"b<end>"], &options);
    assert_eq!((sample.text.as_str(), sample.stopped_by), ("xaa", StoppedBy::StopToken));
    assert_eq!(sample.ids, [0, 1, 2]);
    assert_eq!(streamed, ["x", "", "aa"], "the text held back is passed on");
}

#[test]
fn any_stop_token_ends_the_sample_and_no_other_token_does() {
    let ids_with = |stop_tokens: &[u32]| {
        let options = Options { stop_tokens: stop_tokens.to_vec(), ..greedy(4, &[]) };
        let (sample, _) = scripted(&[b"a", b"b", b"c", b"d"], &options);
        (sample.ids.len(), sample.text, sample.stopped_by)
    };
    assert_eq!(ids_with(&[3, 1, 2]), (2, "a".to_owned(), StoppedBy::StopToken));
    assert_eq!(ids_with(&[9, 2]), (3, "ab".to_owned(), StoppedBy::StopToken));
    assert_eq!(ids_with(&[]), (4, "abcd".to_owned(), StoppedBy::MaxTokens));
}

#[test]
fn a_stop_string_is_found_at_the_last_token() {
    let (sample, _) = scripted(&[b"x", b"!"], &greedy(2, &["!"]));
    assert_eq!((sample.text.as_str(), sample.stopped_by), ("x", stop_string("!")));
}

#[test]
fn incomplete_characters_are_not_passed_on() {
    let euro = "€".as_bytes();
    let (sample, streamed) = scripted(&[&euro[..1], &euro[1..2], &euro[2..], &euro[..2]], &greedy(4, &[]));
    assert_eq!(streamed, ["", "", "€", ""]);
    assert_eq!((sample.text.as_str(), sample.ids.len()), ("€", 4));
}

#[test]
fn the_caller_can_end_a_sample() {
    let mut streamed = String::new();
    let on_text = |text: &str| {
        streamed.push_str(text);
        if streamed.len() < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(vec![1.0]);
    let sample = generate(&greedy(9, &[]), 0, &[0], |_| "x".to_owned(), next_logits, on_text).unwrap();
    assert_eq!((sample.text.as_str(), sample.stopped_by), ("xxx", StoppedBy::Interrupted));
    assert_eq!((sample.ids.len(), streamed.as_str()), (3, "xxx"));
}

#[test]
fn a_complete_sample_is_not_interrupted() {
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(vec![1.0]);
    let on_text = |_: &str| ControlFlow::Break(());
    let sample = generate(&greedy(1, &[]), 0, &[0], |_| "x".to_owned(), next_logits, on_text).unwrap();
    assert_eq!((sample.text.as_str(), sample.stopped_by), ("x", StoppedBy::MaxTokens));
}

#[test]
fn the_caller_can_end_a_sample_while_text_is_held_back() {
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(vec![1.0]);
    let on_text = |_: &str| ControlFlow::Break(());
    let sample = generate(&greedy(9, &["xy"]), 0, &[0], |_| "x".to_owned(), next_logits, on_text).unwrap();
    assert_eq!((sample.text.as_str(), sample.ids.len()), ("x", 1), "the text that was held back");
    assert_eq!(sample.stopped_by, StoppedBy::Interrupted);
}

#[test]
fn max_tokens_0_does_not_call_the_model() {
    let next_logits = |_: &[u32]| Err::<Vec<f32>, _>("called");
    let on_text = |_: &str| ControlFlow::Continue(());
    let sample = generate(&greedy(0, &[]), 0, &[0], |_| String::new(), next_logits, on_text).unwrap();
    assert_eq!((sample.text.as_str(), sample.ids.len()), ("", 0));
    assert_eq!(sample.stopped_by, StoppedBy::MaxTokens);
}

/// The ids that a model with logits 3, 2.5 and 2 generates after the prompt 0.
fn generated_ids(options: Options) -> sampler::Result<Vec<u32>> {
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(vec![3.0, 2.5, 2.0]);
    let on_text = |_: &str| ControlFlow::Continue(());
    generate(&options, 0, &[0], |_| String::new(), next_logits, on_text).map(|sample| sample.ids)
}

#[test]
fn repetition_penalty_applies_to_the_prompt_and_the_text() {
    let ids = |repetition_penalty| generated_ids(Options { repetition_penalty, ..greedy(3, &[]) }).unwrap();
    assert_eq!(ids(1.0), [0, 0, 0]);
    assert_eq!(ids(2.0), [1, 2, 0]); // 0 is in the prompt, 1 is generated next, then every token has occurred.
}

#[test]
fn presence_penalty_applies_once_and_to_the_text_only() {
    let ids = |presence_penalty| generated_ids(Options { presence_penalty, ..greedy(5, &[]) }).unwrap();
    // The logits are 3, 2.5, 2; then 2.25, 2.5, 2; then always 2.25, 1.75, 2.
    assert_eq!(ids(0.75), [0, 1, 0, 0, 0]);
    assert_eq!(ids(0.0), [0; 5]);
}

#[test]
fn frequency_penalty_accumulates_and_applies_to_the_text_only() {
    let ids = |frequency_penalty| generated_ids(Options { frequency_penalty, ..greedy(5, &[]) }).unwrap();
    // The logits are 3, 2.5, 2; then 2.25, 2.5, 2; then 2.25, 1.75, 2; 1.5, 1.75, 2; 1.5, 1.75, 1.25.
    assert_eq!(ids(0.75), [0, 1, 0, 2, 1]);
    assert_eq!(ids(0.0), [0; 5]);
}

#[test]
fn logit_bias_forces_and_forbids_tokens() {
    let ids = |bias: &[(u32, f32)]| {
        generated_ids(Options { logit_bias: BTreeMap::from_iter(bias.iter().copied()), ..greedy(2, &[]) })
    };
    assert_eq!(ids(&[(2, 1.5)]).unwrap(), [2, 2]);
    assert_eq!(ids(&[(0, -100.0), (2, 0.25)]).unwrap(), [1, 1]);
    assert!(matches!(ids(&[(3, 1.0)]), Err(Error::UnknownBiasToken { id: 3, vocab_size: 3 })));
}

/// The error with these logits.
fn error_of(prompt: &[u32], logits: Result<Vec<f32>, &'static str>) -> Error {
    let on_text = |_: &str| ControlFlow::Continue(());
    generate(&Options::default(), 0, prompt, |_| String::new(), |_| logits.clone(), on_text)
        .expect_err("the logits or the prompt are invalid")
}

#[test]
fn invalid_prompts_and_logits_are_errors() {
    assert!(matches!(error_of(&[], Ok(vec![0.0])), Error::EmptyPrompt));
    assert!(matches!(error_of(&[0], Ok(vec![])), Error::NoLogits));
    assert!(matches!(error_of(&[0], Ok(vec![0.0, f32::NAN])), Error::BadLogit { id: 1, .. }));
    let nothing = error_of(&[0], Ok(vec![f32::NEG_INFINITY; 2]));
    assert!(matches!(nothing, Error::NoPossibleToken { vocab_size: 2 }));

    let failed = error_of(&[0], Err("out of memory"));
    assert_eq!(std::error::Error::source(&failed).unwrap().to_string(), "out of memory");
}

#[test]
fn options_are_checked() {
    let options = Options { top_p: Some(1.5), ..Options::default() };
    let next_logits = |_: &[u32]| Ok::<_, Infallible>(vec![1.0]);
    let on_text = |_: &str| ControlFlow::Continue(());
    let error = generate(&options, 0, &[0], |_| String::new(), next_logits, on_text).unwrap_err();
    assert!(matches!(error, Error::TopP(p) if p == 1.5));
}

/// The text before the stop string that ends first; the longest of several that end there.
fn cut<'a>(text: &'a str, stops: &[&str]) -> &'a str {
    let complete =
        |end: &usize| text.is_char_boundary(*end) && stops.iter().any(|s| text[..*end].ends_with(s));
    let Some(end) = (0..=text.len()).find(complete) else { return text };
    let longest = stops.iter().filter(|stop| text[..end].ends_with(*stop)).map(|stop| stop.len()).max();
    &text[..end - longest.expect("one ends here")]
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(0), failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Few letters, two of them multibyte, so that stop strings and their prefixes are common.
    #[test]
    fn streamed_text_does_not_depend_on_token_boundaries(
        text in "[abé€]{1,24}",
        stops in prop::collection::vec("[abé€]{1,4}", 0..4),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let mut borders: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        borders.extend([0, text.len()]);
        borders.sort_unstable();
        borders.dedup();
        let tokens: Vec<&[u8]> = borders.windows(2).map(|b| &text.as_bytes()[b[0]..b[1]]).collect();
        let stops: Vec<&str> = stops.iter().map(String::as_str).collect();

        let (sample, streamed) = scripted(&tokens, &greedy(tokens.len(), &stops));
        prop_assert_eq!(&sample.text, cut(&text, &stops));
        prop_assert_eq!(streamed.concat(), sample.text);
        prop_assert_eq!(streamed.len(), sample.ids.len());
    }
}
