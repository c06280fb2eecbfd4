//! Requests to a scheduler, and their results.

use std::ops::Range;

use sampler::{Constraint, Options, StoppedBy};

use crate::Error;

/// Largest [`Request::prompt_lookup`]. On a CPU, 16 rows take as long as two or three steps, so longer guesses, which are
/// rarely right to the end, would not pay off.
pub const MAX_PROMPT_LOOKUP: usize = kernels::INVARIANT_SEGMENT - 1;

/// A prompt to continue with one or several samples.
#[derive(Debug, Clone)]
pub struct Request {
    /// At least one id below V.
    pub prompt: Vec<u32>,
    pub options: Options,
    /// Sample indices. Each determines, with the seed, the random numbers of one sample.
    pub samples: Range<u64>,
    /// Number of the most probable tokens to report with each token. `None` reports no log-probabilities.
    pub n_top: Option<usize>,
    /// Whether to report the log-probabilities of the prompt's tokens too.
    pub scores_prompt: bool,
    /// Whether the text must not depend on earlier requests, bit for bit. Then the KV cache of another text is reused
    /// only where it has the very values that the prompt alone would give.
    pub is_reproducible: bool,
    /// Maximum number of tokens to guess in a step: those that followed the last tokens earlier in the text (prompt
    /// lookup). One step of the model checks them all, so text that repeats itself is generated faster. The text stays the
    /// same, unless two tokens are so close that the rounding of a step with more rows decides. 0 is off, and more than
    /// [`MAX_PROMPT_LOOKUP`] count as that many.
    pub prompt_lookup: usize,
    /// Restricts the generated text. Each sample has a fork of it.
    pub constraint: Option<Box<dyn Constraint>>,
}

impl Request {
    /// A request for one sample.
    pub fn new(prompt: Vec<u32>, options: Options) -> Self {
        Self {
            prompt,
            options,
            samples: 0..1,
            n_top: None,
            scores_prompt: false,
            is_reproducible: false,
            prompt_lookup: 0,
            constraint: None,
        }
    }
}

/// The number of a request, unique within its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// One result of a step. With [`Request::prompt_lookup`], a sample can have several in one step.
#[derive(Debug)]
pub enum Output {
    /// The scores of the prompt's tokens from the second on, once and before any token, if the request asks for them.
    Prompt(Vec<ScoredToken>),
    /// A token of a sample.
    Token(SampledToken),
    /// The request has failed; nothing follows.
    Failed(Error),
}

/// A token with its log-probability, by the softmax of the model's logits before any option applies.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredToken {
    pub id: u32,
    /// In nats.
    pub logprob: f32,
    /// The most probable tokens with their log-probabilities, the most probable first.
    pub top: Vec<(u32, f32)>,
}

/// A token that was sampled, and the text that it makes final.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledToken {
    /// Index of the sample within its request, from 0.
    pub sample: usize,
    /// `None` if the sample is complete without a token, with `max_tokens` 0.
    pub id: Option<u32>,
    /// With [`Request::n_top`].
    pub score: Option<ScoredToken>,
    /// Empty while a character is incomplete or the text may be the start of a stop string.
    pub text: String,
    /// The reason if this is the last token of the sample.
    pub stopped_by: Option<StoppedBy>,
}
