//! Computes the next-token distribution from logits.
//!
//! A distribution is a list of candidates in ascending order of id, whose probabilities sum to 1. The order is the same
//! after every filter, so the sampled token depends only on the distribution and the random number.

use std::borrow::Cow;

use crate::candidate::normalize;
use crate::{
    Candidate, Error, History, Options, Result, add_logit_bias, min_p, penalize_frequency, penalize_presence,
    penalize_repetition, top_k, top_p, typical_p,
};

/// The distribution of the token after `history`, with every option applied.
///
/// At temperature 0 it has one candidate with probability 1: the token with the largest logit, the lowest id on a tie.
/// The filters do not apply then.
///
/// # Shapes
///
/// - `logits`: V
///
/// # Errors
///
/// [`Error::NoLogits`], [`Error::BadLogit`], [`Error::NoPossibleToken`] and [`Error::UnknownBiasToken`].
/// The options must have passed [`Options::check`].
pub fn next_token_distribution(
    options: &Options,
    history: &History,
    logits: &[f32],
) -> Result<Vec<Candidate>> {
    let logits = adjusted(options, history, logits)?;
    distribution(options, (0..).zip(logits.iter().copied()))
}

/// The distribution over the tokens of these logits, which include bias and penalties. The ids must ascend.
pub(crate) fn distribution(
    options: &Options,
    logits: impl Iterator<Item = (u32, f32)> + Clone,
) -> Result<Vec<Candidate>> {
    let best = arg_max(logits.clone())?;
    if options.temperature == 0.0 {
        return Ok(vec![Candidate { id: best, prob: 1.0 }]);
    }
    let mut candidates = match options.top_k {
        Some(k) => softmax_of(top_k(logits, k), options.temperature),
        None => softmax_of(logits, options.temperature),
    };
    if let Some(p) = options.top_p {
        candidates = top_p(candidates, p);
    }
    if let Some(p) = options.min_p {
        candidates = min_p(candidates, p);
    }
    if let Some(p) = options.typical_p {
        candidates = typical_p(candidates, p);
    }
    Ok(candidates)
}

/// The logits with the bias and all penalties; borrowed if these are off.
fn adjusted<'a>(options: &Options, history: &History, logits: &'a [f32]) -> Result<Cow<'a, [f32]>> {
    let mut logits = Cow::from(logits);
    if !options.logit_bias.is_empty() {
        add_logit_bias(logits.to_mut(), &options.logit_bias)?;
    }
    if options.repetition_penalty != 1.0 {
        penalize_repetition(logits.to_mut(), history.seen(), options.repetition_penalty);
    }
    if options.frequency_penalty != 0.0 {
        penalize_frequency(logits.to_mut(), history.counts(), options.frequency_penalty);
    }
    if options.presence_penalty != 0.0 {
        penalize_presence(logits.to_mut(), history.counts(), options.presence_penalty);
    }
    Ok(logits)
}

/// softmax(logits / temperature). Tokens with a logit of -inf are left out.
///
/// `temperature` must be above 0, and no logit NaN or +inf.
///
/// # Shapes
///
/// - `logits`: V
/// - output: at most V
pub fn softmax(logits: &[f32], temperature: f32) -> Vec<Candidate> {
    softmax_of((0..).zip(logits.iter().copied()), temperature)
}

fn softmax_of<I>(logits: I, temperature: f32) -> Vec<Candidate>
where
    I: IntoIterator<Item = (u32, f32), IntoIter: Clone>,
{
    let logits = logits.into_iter();
    let max = f64::from(logits.clone().map(|(_, logit)| logit).fold(f32::NEG_INFINITY, f32::max));
    // In f64, the difference and the quotient of two f32 cannot overflow.
    let temperature = f64::from(temperature);
    let mut candidates: Vec<_> = logits
        .filter(|&(_, logit)| logit != f32::NEG_INFINITY)
        .map(|(id, logit)| Candidate { id, prob: ((f64::from(logit) - max) / temperature).exp() })
        .collect();
    normalize(&mut candidates);
    candidates
}

/// The id of the largest logit, the lowest id on a tie.
fn arg_max(logits: impl Iterator<Item = (u32, f32)>) -> Result<u32> {
    let mut best: Option<(u32, f32)> = None;
    let mut n_logits = 0;
    for (id, logit) in logits {
        if logit.is_nan() || logit == f32::INFINITY {
            return Err(Error::BadLogit { id, logit });
        }
        if best.is_none_or(|(_, best)| logit > best) {
            best = Some((id, logit));
        }
        n_logits += 1;
    }
    match best {
        None => Err(Error::NoLogits),
        Some((_, f32::NEG_INFINITY)) => Err(Error::NoPossibleToken { vocab_size: n_logits }),
        Some((id, _)) => Ok(id),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const PLAIN: Options = Options {
        max_tokens: 1,
        temperature: 1.0,
        top_k: None,
        top_p: None,
        min_p: None,
        typical_p: None,
        repetition_penalty: 1.0,
        frequency_penalty: 0.0,
        presence_penalty: 0.0,
        logit_bias: BTreeMap::new(),
        logprobs: false,
        stop: Vec::new(),
        stop_tokens: Vec::new(),
        seed: 0,
    };

    fn ids_and_probs(options: &Options, logits: &[f32]) -> (Vec<u32>, Vec<f64>) {
        let mut history = History::new(&[3]);
        history.push(2);
        let candidates = next_token_distribution(options, &history, logits).unwrap();
        candidates.into_iter().map(|candidate| (candidate.id, candidate.prob)).unzip()
    }

    /// Logits of four tokens with probabilities 4/8, 2/8, 1/8 and 1/8.
    fn eighths() -> Vec<f32> {
        [4.0_f32, 2.0, 1.0, 1.0].map(f32::ln).to_vec()
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        let close = got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6); // Logits are f32.
        assert!(close, "{got:?} is not {expected:?}");
    }

    #[test]
    fn temperature_is_an_exponent_of_the_probabilities() {
        let (_, probs) = ids_and_probs(&PLAIN, &eighths());
        assert_close(&probs, &[0.5, 0.25, 0.125, 0.125]);
        let (_, probs) = ids_and_probs(&Options { temperature: 0.5, ..PLAIN }, &eighths());
        assert_close(&probs, &[16.0 / 22.0, 4.0 / 22.0, 1.0 / 22.0, 1.0 / 22.0]);
    }

    #[test]
    fn temperature_comes_before_top_p() {
        let cold = Options { temperature: 0.5, top_p: Some(0.7), ..PLAIN };
        assert_eq!(ids_and_probs(&cold, &eighths()).0, [0]);
        let warm = Options { temperature: 1.0, ..cold };
        assert_eq!(ids_and_probs(&warm, &eighths()).0, [0, 1]);
    }

    #[test]
    fn penalties_come_before_the_filters() {
        let penalized = Options { repetition_penalty: 2.0, top_k: Some(1), ..PLAIN };
        let logits = [0.0, 1.5, 0.0, 2.0]; // Token 3 is in the prompt.
        assert_eq!(ids_and_probs(&penalized, &logits).0, [1]);
        assert_eq!(ids_and_probs(&Options { repetition_penalty: 1.0, ..penalized }, &logits).0, [3]);
    }

    #[test]
    fn the_bias_comes_before_the_penalties() {
        let logit_bias = BTreeMap::from([(3, 4.0)]);
        let biased = Options { repetition_penalty: 2.0, top_k: Some(1), logit_bias, ..PLAIN };
        // Token 3 is in the prompt: (-1 + 4) / 2 is 1.5; in the other order, -1 * 2 + 4 is 2.
        assert_eq!(ids_and_probs(&biased, &[0.0, 1.75, 0.0, -1.0]).0, [1]);
        assert_eq!(ids_and_probs(&biased, &[0.0, 1.25, 0.0, -1.0]).0, [3]);
    }

    #[test]
    fn the_repetition_penalty_comes_before_the_frequency_and_presence_penalties() {
        for (frequency_penalty, presence_penalty) in [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5)] {
            let penalized = Options {
                repetition_penalty: 2.0,
                frequency_penalty,
                presence_penalty,
                top_k: Some(1),
                ..PLAIN
            };
            // Token 2 was generated: 4 / 2 - 1 is 1; in the other order, (4 - 1) / 2 is 1.5.
            assert_eq!(ids_and_probs(&penalized, &[0.0, 1.25, 4.0, 0.0]).0, [1]);
            assert_eq!(ids_and_probs(&penalized, &[0.0, 0.75, 4.0, 0.0]).0, [2]);
        }
    }

    #[test]
    fn typical_p_comes_after_min_p() {
        // Among all four, token 1 is the most typical: its surprisal of 2 bits is closest to the entropy of 1.75 bits.
        // Min-p keeps tokens 0 and 1, with surprisals of 0.58 and 1.58 bits and an entropy of 0.92 bits.
        let alone = Options { typical_p: Some(0.2), ..PLAIN };
        assert_eq!(ids_and_probs(&alone, &eighths()).0, [1]);
        assert_eq!(ids_and_probs(&Options { min_p: Some(0.5), ..alone }, &eighths()).0, [0]);
    }

    #[test]
    fn greedy_decoding_breaks_ties_by_the_lowest_id() {
        let greedy = Options { temperature: 0.0, ..PLAIN };
        assert_eq!(ids_and_probs(&greedy, &[1.0, 7.0, 7.0, 2.0]), (vec![1], vec![1.0]));
    }

    #[test]
    fn a_logit_of_minus_infinity_is_left_out() {
        let (ids, probs) = ids_and_probs(&PLAIN, &[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, 1.0]);
        assert_eq!((ids, probs), (vec![1, 3], vec![0.5, 0.5]));
    }

    #[test]
    fn extreme_temperatures_and_logits_stay_finite() {
        let logits = [f32::MAX, f32::MIN, 0.0];
        let coldest = Options { temperature: f32::from_bits(1), ..PLAIN };
        assert_eq!(ids_and_probs(&coldest, &logits).1, [1.0, 0.0, 0.0]);
        let (_, probs) = ids_and_probs(&Options { temperature: f32::MAX, ..PLAIN }, &[5.0, -5.0, 0.0]);
        assert_close(&probs, &[1.0 / 3.0; 3]);
    }

    #[test]
    fn errors_name_the_token_of_a_bad_logit() {
        let message = |logits: &[f32], temperature| {
            let options = Options { temperature, ..PLAIN };
            next_token_distribution(&options, &History::new(&[]), logits).unwrap_err().to_string()
        };
        for temperature in [0.0, 1.0] {
            assert!(message(&[0.0, f32::NAN], temperature).starts_with("token 1 has the logit NaN"));
            assert!(message(&[f32::INFINITY, 0.0], temperature).starts_with("token 0 has the logit inf"));
            assert!(message(&[f32::NEG_INFINITY; 3], temperature).starts_with("all 3 logits are -inf"));
            assert!(message(&[], temperature).starts_with("the model returned no logits"));
        }
    }
}
