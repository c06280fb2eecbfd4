use std::{error, ops::ControlFlow};

use serde::{Deserialize, Serialize};

use crate::{
    Error, History, Options, Result, draw, logprob, next_token_distribution, random_stream,
    stop::StopStrings, uniform,
};

/// What was generated after a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The text, without the prompt and without the stop string or stop token.
    pub text: String,
    /// Every token drawn, including those that completed a stop string and the stop token.
    pub ids: Vec<u32>,
    /// For each token of `ids`, the natural logarithm of its probability given all before it, as the
    /// model has it: of the softmax of the raw logits, before bias, penalties, temperature and filters.
    pub logprobs: Vec<f32>,
    /// Why there is no more.
    pub stopped_by: StoppedBy,
}

/// Why generation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoppedBy {
    /// [`Options::max_tokens`] were drawn.
    MaxTokens,
    /// The text came to this one of [`Options::stop`].
    StopString(String),
    /// The model drew one of [`Options::stop_tokens`], the last of [`Sample::ids`].
    EndOfText,
    /// The caller asked for it.
    Interrupted,
}

/// Generates text after a prompt, one token at a time.
///
/// - `sample_idx` chooses the random numbers, with the seed: samples 0, 1, 2, … of one prompt differ, and
///   none depends on how many are drawn.
/// - `prompt` must fit the model, or `next_logits` has to crop it.
/// - `text_of` is told each id once, in order, and gives the characters that are complete with it. It
///   keeps the bytes of an unfinished character to itself, so an id may add no text, or more than one
///   character. A character still unfinished at the end is left out. It is not told a stop token.
/// - `next_logits` receives the ids that the model has not seen, first the whole prompt and then one id
///   at a time, and gives the logits of the next token, one for each token of the vocabulary.
/// - `on_text` is called after each token, with the text that has become certain; that may be empty, for
///   instance while a stop string may be beginning. All it receives, joined, is [`Sample::text`]. With
///   [`ControlFlow::Break`] it ends the sample there.
///
/// # Errors
///
/// An option out of range, an empty prompt, logits that no token can be drawn from, a bias for a token
/// without a logit, and [`Error::Model`] if `next_logits` fails.
pub fn generate<E>(
    options: &Options,
    sample_idx: u64,
    prompt: &[u32],
    mut text_of: impl FnMut(u32) -> String,
    mut next_logits: impl FnMut(&[u32]) -> Result<Vec<f32>, E>,
    mut on_text: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<Sample>
where
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    options.check()?;
    if prompt.is_empty() {
        return Err(Error::EmptyPrompt);
    }
    let mut rng = random_stream(options.seed, sample_idx);
    let mut stop_strings = StopStrings::new(&options.stop);
    let mut history = History::new(prompt);
    let mut sample = Sample {
        text: String::new(),
        ids: Vec::new(),
        logprobs: Vec::new(),
        stopped_by: StoppedBy::MaxTokens,
    };

    while sample.ids.len() < options.max_tokens {
        let unseen = sample.ids.last().map_or(prompt, std::slice::from_ref);
        let logits = next_logits(unseen).map_err(|source| Error::Model(source.into()))?;
        let candidates = next_token_distribution(options, &history, &logits)?;
        let id = draw(&candidates, uniform(&mut rng));
        history.push(id);
        sample.ids.push(id);
        sample.logprobs.push(logprob(&logits, id));

        let (mut text, mut stopped_by) = if options.stop_tokens.contains(&id) {
            (String::new(), Some(StoppedBy::EndOfText))
        } else {
            let (text, stop) = stop_strings.push(&text_of(id));
            (text, stop.map(|stop| StoppedBy::StopString(stop.to_owned())))
        };
        if sample.ids.len() == options.max_tokens {
            stopped_by.get_or_insert(StoppedBy::MaxTokens);
        }
        if stopped_by.is_some() {
            text += &stop_strings.finish();
        }
        sample.text += &text;
        if on_text(&text).is_break() {
            stopped_by = Some(StoppedBy::Interrupted);
        }
        if let Some(stopped_by) = stopped_by {
            sample.stopped_by = stopped_by;
            break;
        }
    }
    Ok(sample)
}
