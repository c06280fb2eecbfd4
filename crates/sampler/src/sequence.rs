//! One sample while it is generated.

use std::ops::ControlFlow;

use rand_chacha::ChaCha8Rng;

use crate::{
    History, Logits, Options, Result, Sample, StoppedBy, distribution::distribution, draw, logprob,
    next_token_distribution, random_stream, stop::StopStrings, uniform,
};

/// A sample and all that decides how it goes on, so that samples of one batch know nothing of each other.
pub(crate) struct Sequence<'a> {
    options: &'a Options,
    prompt: &'a [u32],
    rng: ChaCha8Rng,
    history: History,
    stop_strings: StopStrings<'a>,
    sample: Sample,
}

impl<'a> Sequence<'a> {
    /// Begins the sample that draws with the random numbers of `sample_idx`.
    pub(crate) fn new(options: &'a Options, sample_idx: u64, prompt: &'a [u32]) -> Self {
        Self {
            options,
            prompt,
            rng: random_stream(options.seed, sample_idx),
            history: History::new(prompt),
            stop_strings: StopStrings::new(&options.stop),
            sample: Sample {
                text: String::new(),
                ids: Vec::new(),
                logprobs: Vec::new(),
                stopped_by: StoppedBy::MaxTokens,
            },
        }
    }

    /// The ids that the model has not been told: the prompt, then the last one drawn.
    pub(crate) fn unseen(&self) -> &[u32] {
        self.sample.ids.last().map_or(self.prompt, std::slice::from_ref)
    }

    /// Draws the next token and passes on the text that has become certain. Breaks when the sample is complete.
    pub(crate) fn step(
        &mut self,
        logits: &Logits,
        text_of: impl FnOnce(u32) -> String,
        on_text: impl FnOnce(&str) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let id = self.draw(logits)?;
        let (mut text, mut stopped_by) = if self.options.stop_tokens.contains(&id) {
            (String::new(), Some(StoppedBy::StopToken))
        } else {
            let (text, stop) = self.stop_strings.push(&text_of(id));
            (text, stop.map(|stop| StoppedBy::StopString(stop.to_owned())))
        };
        if self.sample.ids.len() == self.options.max_tokens {
            stopped_by.get_or_insert(StoppedBy::MaxTokens);
        }
        if stopped_by.is_some() {
            text += &self.stop_strings.finish();
        }
        self.sample.text += &text;
        if on_text(&text).is_break() {
            stopped_by.get_or_insert(StoppedBy::Interrupted);
        }
        let Some(stopped_by) = stopped_by else { return Ok(ControlFlow::Continue(())) };
        self.sample.stopped_by = stopped_by;
        Ok(ControlFlow::Break(()))
    }

    /// What was generated.
    pub(crate) fn into_sample(self) -> Sample {
        self.sample
    }

    fn draw(&mut self, logits: &Logits) -> Result<u32> {
        let candidates = match logits {
            Logits::All(logits) => next_token_distribution(self.options, &self.history, logits)?,
            Logits::Best(best) => {
                assert!(self.options.n_best().is_some(), "these options look at every logit");
                distribution(self.options, best.iter().copied())?
            }
        };
        let id = draw(&candidates, uniform(&mut self.rng));
        self.history.push(id);
        self.sample.ids.push(id);
        if let (true, Logits::All(logits)) = (self.options.logprobs, logits) {
            self.sample.logprobs.push(logprob(logits, id));
        }
        Ok(id)
    }
}
