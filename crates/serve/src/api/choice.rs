//! Choices: the samples of a call as clients count them.

use engine::{SampledToken, ScoredToken};
use sampler::StoppedBy;
use serde::Serialize;
use tokenizer::{DecodeStream, Tokenizer};

use super::prompt::Prompt;

/// OpenAI's `finish_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FinishReason {
    /// At an EOS token, at a stop string, or because the constraint is complete.
    Stop,
    /// At `max_tokens`, or at the time limit.
    Length,
}

impl From<&StoppedBy> for FinishReason {
    fn from(stopped_by: &StoppedBy) -> Self {
        match stopped_by {
            StoppedBy::StopString(_) | StoppedBy::StopToken | StoppedBy::Constraint => Self::Stop,
            StoppedBy::MaxTokens | StoppedBy::Interrupted => Self::Length,
        }
    }
}

/// A token with its log-probability and its position.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) id: u32,
    /// `None` for the first token of a prompt.
    pub(crate) score: Option<ScoredToken>,
    /// In characters from the start of the prompt's text.
    pub(crate) text_offset: usize,
}

/// The continuation of a choice by one sampled token. The first one starts with the prompt if it is echoed.
#[derive(Debug)]
pub(crate) struct Delta {
    pub(crate) choice_idx: usize,
    pub(crate) is_first: bool,
    pub(crate) text: String,
    /// If the call asks for log-probabilities.
    pub(crate) tokens: Option<Vec<Token>>,
    /// Number of sampled tokens, 0 or 1.
    pub(crate) n_sampled: usize,
    /// If this is the end of the choice.
    pub(crate) finish_reason: Option<FinishReason>,
}

impl Delta {
    /// Whether it has neither text nor tokens, such as while a character is incomplete.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.tokens.as_ref().is_none_or(Vec::is_empty)
    }
}

/// The state of a choice.
#[derive(Debug)]
pub(crate) struct ChoiceState<'a> {
    choice_idx: usize,
    is_first: bool,
    /// Decodes the sampled tokens for their positions.
    stream: DecodeStream<'a>,
    text_offset: usize,
}

impl<'a> ChoiceState<'a> {
    pub(crate) fn new(choice_idx: usize, prompt: &Prompt, tokenizer: &'a Tokenizer) -> Self {
        let stream = tokenizer.decode_stream_after(&prompt.ids);
        Self { choice_idx, is_first: true, stream, text_offset: prompt.n_chars() }
    }

    /// Continues with a sampled token. The first one follows the text and tokens of `echo`.
    pub(crate) fn push(&mut self, sampled: SampledToken, echo: &Echo) -> Delta {
        let SampledToken { id, score, text, stopped_by, .. } = sampled;
        let is_first = std::mem::replace(&mut self.is_first, false);
        let Echo { text: mut all_text, mut tokens } =
            if is_first { echo.clone() } else { echo.without_prompt() };
        all_text += &text;
        if let (Some(score), Some(tokens)) = (score, &mut tokens) {
            let (id, text_offset) = (score.id, self.text_offset);
            self.text_offset += self.stream.push(id).chars().count();
            tokens.push(Token { id, score: Some(score), text_offset });
        }
        Delta {
            choice_idx: self.choice_idx,
            is_first,
            text: all_text,
            tokens,
            n_sampled: id.iter().count(),
            finish_reason: stopped_by.as_ref().map(FinishReason::from),
        }
    }
}

/// The part of a prompt that its choices start with.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    /// Empty without `echo`.
    pub(crate) text: String,
    /// If the call asks for log-probabilities; empty without `echo`.
    pub(crate) tokens: Option<Vec<Token>>,
}

impl Echo {
    fn without_prompt(&self) -> Self {
        Self { text: String::new(), tokens: self.tokens.as_ref().map(|_| Vec::new()) }
    }
}
