//! Generation of samples after a prompt, as an iterator of text.

use std::{collections::VecDeque, fmt, ops::Range};

use model::Gpt;
use sampler::{Options, Sample, Sequence, StoppedBy};
use tokenizer::Tokenizer;

use crate::{Result, batch::SampleBatch};

/// Maximum number of samples in a batch. Further samples follow in later batches.
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

/// Generates samples of one prompt: an iterator of [`Piece`]s.
///
/// The concatenated pieces of a sample are its text. Up to [`MAX_BATCH_SIZE`] samples are generated in one batch, and
/// each has a piece for every token, in ascending order of samples. With equal logits, a sample does not depend on the
/// number of others. The iterator ends after an error.
pub struct Generation<'a> {
    gpt: &'a Gpt,
    tokenizer: &'a Tokenizer,
    options: Options,
    prompt: Vec<u32>,
    /// Sample indices that have not started.
    waiting: Range<u64>,
    complete: Vec<Sample>,
    running: Option<SampleBatch<'a>>,
    ready: VecDeque<Result<Piece>>,
    is_interrupted: bool,
}

impl<'a> Generation<'a> {
    /// Starts samples after a prompt. Each index in `samples` determines, with the seed, the random numbers of one
    /// sample.
    ///
    /// # Errors
    ///
    /// If an option is out of range or the prompt is empty.
    pub fn begin(
        gpt: &'a Gpt,
        tokenizer: &'a Tokenizer,
        options: Options,
        prompt: &[u32],
        samples: Range<u64>,
    ) -> Result<Self> {
        let mut generation = Self {
            gpt,
            tokenizer,
            options,
            prompt: prompt.to_vec(),
            waiting: samples,
            complete: Vec::new(),
            running: None,
            ready: VecDeque::new(),
            is_interrupted: false,
        };
        generation.begin_batch()?;
        Ok(generation)
    }

    /// Ends every sample after its current token and starts no others. The iterator still returns the pieces of sampled
    /// tokens.
    pub fn interrupt(&mut self) {
        self.is_interrupted = true;
        if let Some(running) = &mut self.running {
            running.interrupt();
        }
    }

    /// All started samples, complete or not.
    pub fn into_samples(mut self) -> Vec<Sample> {
        self.complete.extend(self.running.into_iter().flat_map(SampleBatch::into_samples));
        self.complete
    }

    /// Starts the next batch.
    fn begin_batch(&mut self) -> Result<()> {
        let numbers = self.waiting.by_ref().take(MAX_BATCH_SIZE);
        let sequence = |number| Sequence::new(self.options.clone(), number, self.prompt.clone());
        let sequences = numbers.map(sequence).collect::<Result<Vec<_>, _>>()?;
        if !sequences.is_empty() {
            let next = SampleBatch::new(self.gpt, self.tokenizer, sequences, self.options.n_best());
            // A sample with `max_tokens` 0 has one empty piece.
            let pieces = next.sequences().iter().enumerate().filter_map(|(idx, sequence)| {
                let stopped_by = Some(sequence.stopped_by()?.clone());
                Some(Ok(Piece { sample: self.complete.len() + idx, text: String::new(), stopped_by }))
            });
            self.ready.extend(pieces);
            self.running = Some(next);
        }
        Ok(())
    }

    /// Samples one token of each running sample, or starts the next batch.
    fn advance(&mut self, mut running: SampleBatch<'a>) -> Result<()> {
        if running.is_complete() {
            self.complete.extend(running.into_samples());
            return if self.is_interrupted { Ok(()) } else { self.begin_batch() };
        }
        let first = self.complete.len();
        let ready = &mut self.ready;
        running.step(|idx, text, sequence| {
            ready.push_back(Ok(Piece {
                sample: first + idx,
                text,
                stopped_by: sequence.stopped_by().cloned(),
            }));
        })?;
        self.running = Some(running);
        Ok(())
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(piece);
            }
            let running = self.running.take()?;
            if let Err(error) = self.advance(running) {
                self.ready.push_back(Err(error));
            }
        }
    }
}

impl fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_running = self.running.as_ref().map_or(0, |running| running.sequences().len());
        let (n_complete, waiting) = (self.complete.len(), &self.waiting);
        write!(f, "Generation({n_complete} samples complete, {n_running} running, {waiting:?} waiting)")
    }
}
