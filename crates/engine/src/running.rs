//! A sample with a slot: the rest of its prompt, and its next tokens.

use rayon::prelude::*;
use sampler::{Logits, Sequence, top_logprobs};
use tokenizer::DecodeStream;

use crate::{
    Output, RequestId, SampledToken, ScoredToken,
    cache::{CachedContext, PIECE, Reuse},
    prompt_lookup::PromptLookup,
};

/// Number of logits that are worth a task of their own.
pub(crate) const MIN_LOGITS: usize = 1 << 14;

/// A sample that has a slot, or gets one.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    pub(crate) request: RequestId,
    pub(crate) sample: usize,
    pub(crate) sequence: Sequence,
    pub(crate) stream: DecodeStream<'a>,
    pub(crate) n_top: Option<usize>,
    pub(crate) scores_prompt: bool,
    /// Tokens of the prompt that are processed at a time. All samples of a request have the same, for the same rounding.
    pub(crate) max_piece: usize,
    pub(crate) reuse: Reuse,
    pub(crate) lookup: Option<PromptLookup>,
}

/// A sample with a slot.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    pub(crate) task: Task<'a>,
    pub(crate) cached: CachedContext,
    /// Whether the prompt is processed from its start in whole pieces.
    pub(crate) is_exact: bool,
    /// Prompt tokens that are not processed yet. The last piece of the prompt makes it 0.
    pub(crate) n_prompt_left: usize,
    pub(crate) prompt_scores: Vec<ScoredToken>,
    /// Number of tokens at the end of the context that are only proposed. They are processed and checked in one step.
    pub(crate) n_proposed: usize,
}

impl Task<'_> {
    /// Whether nothing is left to do but to score the prompt.
    pub(crate) fn is_complete(&self) -> bool {
        self.sequence.stopped_by().is_some() && !self.scores_prompt
    }

    /// The only result of a sample with `max_tokens` 0.
    pub(crate) fn without_token(&self) -> SampledToken {
        SampledToken {
            sample: self.sample,
            id: None,
            score: None,
            text: String::new(),
            stopped_by: self.sequence.stopped_by().cloned(),
        }
    }

    /// Samples a token.
    fn sample(&mut self, logits: &Logits) -> Output {
        if self.is_complete() {
            return Output::Token(self.without_token());
        }
        let text = match self.sequence.step(logits, |id| self.stream.push(id)) {
            Ok(text) => text,
            Err(error) => return Output::Failed(error.into()),
        };
        let id = self.sequence.unseen()[0];
        Output::Token(SampledToken {
            sample: self.sample,
            id: Some(id),
            score: self.n_top.map(|n_top| score(logits, id, n_top)),
            text,
            stopped_by: self.sequence.stopped_by().cloned(),
        })
    }
}

impl<'a> Running<'a> {
    /// Starts with a prompt whose first tokens are in the KV cache.
    pub(crate) fn new(task: Task<'a>, mut cached: CachedContext) -> Self {
        let n_reused = cached.context.ids().len();
        cached.context.push(&task.sequence.unseen()[n_reused..]);
        Self {
            is_exact: n_reused == cached.n_exact && task.reuse != Reuse::Nothing,
            n_prompt_left: cached.context.n_pending(),
            prompt_scores: Vec::new(),
            n_proposed: 0,
            task,
            cached,
        }
    }

    /// Another sample after the same, processed prompt.
    pub(crate) fn fork(&self, task: Task<'a>) -> Self {
        let cached = self.cached.prefix(self.cached.context.ids().len());
        Self {
            task,
            cached,
            is_exact: self.is_exact,
            n_prompt_left: 0,
            prompt_scores: Vec::new(),
            n_proposed: 0,
        }
    }

    /// Records that a piece is processed, with its first `n_prompt` tokens from the prompt. `rows` are its logits. Returns the scores of the prompt when they are complete.
    pub(crate) fn end_piece(&mut self, n_prompt: usize, rows: &[Logits]) -> Option<(RequestId, Output)> {
        if n_prompt == 0 {
            return None;
        }
        self.n_prompt_left -= n_prompt;
        if self.task.scores_prompt {
            let n_top = self.task.n_top.unwrap_or_default();
            let next = &self.cached.context.ids()[self.prompt_scores.len() + 1..];
            let scores = rows.par_iter().zip(next).with_min_len(min_rows(rows));
            self.prompt_scores.par_extend(scores.map(|(logits, &id)| score(logits, id, n_top)));
        }
        if self.n_prompt_left > 0 {
            return None;
        }
        if self.is_exact {
            self.cached.n_exact = self.cached.context.n_cached() / PIECE * PIECE;
        }
        let scores = std::mem::take(&mut self.prompt_scores);
        let scored = std::mem::take(&mut self.task.scores_prompt);
        scored.then_some((self.task.request, Output::Prompt(scores)))
    }

    /// Whether the next step samples a token from the logits of the last one.
    pub(crate) fn is_decoding(&self) -> bool {
        self.n_prompt_left == 0 && self.cached.context.n_pending() == 1 + self.n_proposed
    }

    /// Appends up to `n` proposed tokens to the context of a sample that decodes. Returns their number.
    pub(crate) fn propose(&mut self, n: usize) -> usize {
        let context = &mut self.cached.context;
        if let Some(lookup) = &mut self.task.lookup {
            let proposed = lookup.propose(context.ids(), n.min(context.n_until_slide()));
            let proposed = self.task.sequence.useful_part(&proposed);
            context.push(proposed);
            self.n_proposed = proposed.len();
        }
        self.n_proposed
    }

    /// Samples a token from each row of logits until one differs from the proposed token. The rest of the proposal is
    /// dropped.
    pub(crate) fn sample(&mut self, rows: &[Logits]) -> Vec<(RequestId, Output)> {
        let Self { task, cached: CachedContext { context, .. }, .. } = self;
        let n_proposed = std::mem::take(&mut self.n_proposed);
        let mut len = context.ids().len() - n_proposed;
        let mut outputs = Vec::with_capacity(rows.len());
        for logits in rows {
            let output = task.sample(logits);
            let next = match &output {
                Output::Token(SampledToken { id, stopped_by: None, .. }) => *id,
                _ => None,
            };
            outputs.push((task.request, output));
            if next.is_some() && context.ids().get(len) == next.as_ref() {
                len += 1;
                continue;
            }
            context.truncate(len);
            context.push(next.as_slice());
            break;
        }
        if let Some(lookup) = &mut task.lookup {
            lookup.record(n_proposed, outputs.len() - 1);
        }
        outputs
    }
}

/// The number of rows whose logits are worth a task of their own.
fn min_rows(rows: &[Logits]) -> usize {
    match rows.first() {
        Some(Logits::All(logits)) => (MIN_LOGITS / logits.len()).max(1),
        _ => 1,
    }
}

/// The log-probabilities of a token and of the most probable ones. The logits must be [`Logits::All`].
fn score(logits: &Logits, id: u32, n_top: usize) -> ScoredToken {
    let Logits::All(logits) = logits else { panic!("scores need every logit") };
    let (logprob, top) = top_logprobs(logits, id, n_top);
    ScoredToken { id, logprob, top }
}
