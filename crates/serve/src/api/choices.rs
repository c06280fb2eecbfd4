//! All choices of a call: requests to the engine, and deltas made of its outputs.

use std::{iter, sync::Arc};

use engine::{Output, Request, ScoredToken};
use futures_util::Stream;
use sampler::{Constraint, Options};
use tokenizer::Tokenizer;

use super::{
    choice::{ChoiceState, Delta, Echo, Token},
    producer::produced,
    prompt::Prompt,
};
use crate::{app::App, error::ApiError, worker::Outputs};

/// Log-probabilities in a response: some 100 MB.
const MAX_LOGPROBS: usize = 1 << 21;

/// The choices of a call: samples of each prompt.
#[derive(Debug)]
pub(crate) struct Choices {
    pub(crate) prompts: Vec<Prompt>,
    /// Samples of each prompt.
    pub(crate) n_samples: usize,
    /// Whether each choice starts with its prompt.
    pub(crate) echo: bool,
    /// How many of the most probable tokens are reported with each token; `None` for no log-probabilities.
    pub(crate) n_top: Option<usize>,
}

impl Choices {
    /// One request for each prompt. Without a seed, each has a random one.
    pub(crate) fn requests(
        &self,
        options: &Options,
        seed: Option<u64>,
        constraint: Option<&dyn Constraint>,
    ) -> Vec<Request> {
        let request = |prompt: &Prompt| Request {
            prompt: prompt.ids.clone(),
            options: Options { seed: seed.unwrap_or_else(rand::random), ..options.clone() },
            samples: 0..self.n_samples as u64,
            n_top: self.n_top,
            scores_prompt: self.echo && self.n_top.is_some(),
            is_reproducible: seed.is_some(),
            constraint: constraint.map(Constraint::fork),
            prompt_lookup: 0,
        };
        self.prompts.iter().map(request).collect()
    }

    /// Checks that the log-probabilities of the whole response fit in memory.
    ///
    /// # Errors
    ///
    /// 400 with both numbers.
    pub(crate) fn check_logprobs(&self, max_tokens: usize) -> Result<(), ApiError> {
        let Some(n_top) = self.n_top else { return Ok(()) };
        let n_echoed = if self.echo { self.n_prompt_tokens() } else { 0 };
        let n_tokens = n_echoed.saturating_add(max_tokens.saturating_mul(self.prompts.len()));
        let n_logprobs = n_tokens.saturating_mul(self.n_samples).saturating_mul(n_top + 1);
        if n_logprobs > MAX_LOGPROBS {
            let message = format!(
                "the response may have {n_logprobs} log-probabilities, and at most {MAX_LOGPROBS} are sent; ask for \
                 fewer tokens, samples or `logprobs`"
            );
            return Err(ApiError::invalid(message, Some("logprobs")));
        }
        Ok(())
    }

    /// Tokens of all prompts.
    pub(crate) fn n_prompt_tokens(&self) -> usize {
        self.prompts.iter().map(|prompt| prompt.ids.len()).sum()
    }

    /// Number of choices: the samples of the first prompt, then of the second, and so on.
    pub(crate) fn n_choices(&self) -> usize {
        self.prompts.len() * self.n_samples
    }

    /// Makes deltas of the engine's outputs, until every choice is complete. The stream ends after an error, and
    /// dropping it cancels the requests.
    pub(crate) fn deltas(
        self,
        app: Arc<App>,
        model_idx: usize,
        mut outputs: Outputs,
    ) -> impl Stream<Item = Result<Delta, ApiError>> + Send + 'static {
        produced(async move |deltas| {
            let tokenizer = &app.models[model_idx].model.tokenizer;
            let mut choices = self.states(tokenizer);
            let mut echoes: Vec<Echo> = self.prompts.iter().map(|prompt| self.echo(prompt)).collect();
            let mut n_incomplete = choices.len();
            while n_incomplete > 0 {
                let output = match outputs.recv().await {
                    Some(Ok(output)) => output,
                    Some(Err(error)) => return deltas.send(Err(error)).await,
                    None => return deltas.send(Err(ApiError::internal("the engine has stopped"))).await,
                };
                match output {
                    (prompt_idx, Output::Prompt(scores)) => {
                        echoes[prompt_idx].tokens =
                            Some(tokens(&self.prompts[prompt_idx], scores, tokenizer));
                    }
                    (prompt_idx, Output::Token(sampled)) => {
                        let choice = &mut choices[prompt_idx * self.n_samples + sampled.sample];
                        let delta = choice.push(sampled, &echoes[prompt_idx]);
                        n_incomplete -= usize::from(delta.finish_reason.is_some());
                        deltas.send(Ok(delta)).await;
                    }
                    (_, Output::Failed(error)) => return deltas.send(Err(api_error(&error))).await,
                }
            }
        })
    }

    /// The text that choices start with. The tokens follow when the prompt is scored.
    fn echo(&self, prompt: &Prompt) -> Echo {
        let text = if self.echo { prompt.text.clone() } else { String::new() };
        Echo { text, tokens: self.n_top.map(|_| Vec::new()) }
    }

    fn states<'a>(&self, tokenizer: &'a Tokenizer) -> Vec<ChoiceState<'a>> {
        let prompts = self.prompts.iter().flat_map(|prompt| iter::repeat_n(prompt, self.n_samples));
        prompts
            .enumerate()
            .map(|(choice_idx, prompt)| ChoiceState::new(choice_idx, prompt, tokenizer))
            .collect()
    }
}

/// The tokens of a prompt. `scores` starts with the second one.
fn tokens(prompt: &Prompt, scores: Vec<ScoredToken>, tokenizer: &Tokenizer) -> Vec<Token> {
    let scores = iter::once(None).chain(scores.into_iter().map(Some));
    let tokens = prompt.ids.iter().zip(prompt.offsets(tokenizer)).zip(scores);
    tokens.map(|((&id, text_offset), score)| Token { id, score, text_offset }).collect()
}

/// A failure during generation: of the constraint, which the client chose, or of the model.
fn api_error(error: &engine::Error) -> ApiError {
    match error {
        engine::Error::Sampler(sampler::Error::Constraint(reason)) => {
            ApiError::invalid(reason.to_string(), None)
        }
        error => ApiError::internal(error.to_string()),
    }
}
