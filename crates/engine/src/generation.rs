//! Generation of samples after a prompt, as an iterator of text.

use std::{collections::VecDeque, fmt};

use model::Gpt;
use sampler::{Sample, StoppedBy};
use tokenizer::Tokenizer;

use crate::{Output, Request, RequestId, Result, SampledToken, Scheduler};

/// Maximum number of samples that are generated together. Each further sample follows when another ends.
pub const MAX_BATCH_SIZE: usize = 16;

/// The text that one token adds to a sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Index of the sample, from 0.
    pub sample: usize,
    /// Empty while a character is incomplete or the text may be the start of a stop string.
    pub text: String,
    /// The reason if this is the last piece of the sample.
    pub stopped_by: Option<StoppedBy>,
}

/// Generates the samples of one request: an iterator of [`Piece`]s.
///
/// The concatenated pieces of a sample are its text. Up to [`MAX_BATCH_SIZE`] samples are generated together, and each
/// has a piece for every token, in ascending order of samples. With equal logits, a sample does not depend on the
/// number of others. The iterator ends after an error.
pub struct Generation<'a> {
    scheduler: Scheduler<'a>,
    request: RequestId,
    /// The started samples, each marked as interrupted until it is complete.
    samples: Vec<Sample>,
    ready: VecDeque<Result<Piece>>,
}

impl<'a> Generation<'a> {
    /// Starts the samples of a request.
    ///
    /// # Errors
    ///
    /// If an option is out of range or the prompt is empty.
    pub fn begin(gpt: &Gpt, tokenizer: &'a Tokenizer, mut request: Request) -> Result<Self> {
        if request.options.logprobs {
            request.n_top.get_or_insert(0);
        }
        let n_samples = usize::try_from(request.samples.end.saturating_sub(request.samples.start));
        let n_slots = n_samples.unwrap_or(MAX_BATCH_SIZE).clamp(1, MAX_BATCH_SIZE);
        let mut scheduler = Scheduler::new(gpt, tokenizer, n_slots);
        let request = scheduler.submit(request)?;
        Ok(Self { scheduler, request, samples: Vec::new(), ready: VecDeque::new() })
    }

    /// Ends every sample after its current token and starts no others. The iterator still returns the pieces of sampled
    /// tokens, and text that was held back as a possible stop string.
    pub fn interrupt(&mut self) {
        for (_, output) in self.scheduler.interrupt(self.request) {
            if let Output::Token(token) = output
                && !token.text.is_empty()
            {
                let piece = self.record(token);
                self.ready.push_back(Ok(piece));
            }
        }
    }

    /// All started samples, complete or not.
    pub fn into_samples(self) -> Vec<Sample> {
        self.samples
    }

    /// Adds a token to its sample.
    fn record(&mut self, token: SampledToken) -> Piece {
        let SampledToken { sample, id, score, text, stopped_by } = token;
        if sample == self.samples.len() {
            self.samples.push(Sample {
                text: String::new(),
                ids: Vec::new(),
                logprobs: Vec::new(),
                stopped_by: StoppedBy::Interrupted,
            });
        }
        let recorded = &mut self.samples[sample];
        recorded.text += &text;
        recorded.ids.extend(id);
        recorded.logprobs.extend(score.map(|score| score.logprob));
        if let Some(reason) = &stopped_by {
            recorded.stopped_by = reason.clone();
        }
        Piece { sample, text, stopped_by }
    }

    /// Runs a step of the model.
    fn advance(&mut self) -> Result<()> {
        for (_, output) in self.scheduler.step()? {
            match output {
                Output::Prompt(_) => {}
                Output::Token(token) => {
                    let piece = self.record(token);
                    self.ready.push_back(Ok(piece));
                }
                Output::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        while self.ready.is_empty() && !self.scheduler.is_idle() {
            if let Err(error) = self.advance() {
                self.scheduler.cancel(self.request);
                self.ready.push_back(Err(error));
            }
        }
        self.ready.pop_front()
    }
}

impl fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let load = self.scheduler.load();
        let (n_started, n_running, n_waiting) = (self.samples.len(), load.n_running, load.n_waiting);
        write!(f, "Generation({n_started} samples started, {n_running} running, {n_waiting} waiting)")
    }
}
