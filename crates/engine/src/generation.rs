//! Generating text after a prompt, a token at a time.

use std::{collections::VecDeque, fmt, ops::Range};

use model::Gpt;
use sampler::{Options, Sample, Sequence, StoppedBy};
use tokenizer::Tokenizer;

use crate::{Result, side_by_side::SideBySide};

/// Samples that are generated together, at most. The others follow.
pub const SIDE_BY_SIDE: usize = 16;

/// Text that one more token made certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The sample that it continues, from 0.
    pub sample: usize,
    /// The text; empty while a character is incomplete or a stop string may be beginning.
    pub text: String,
    /// Why the sample is complete with it.
    pub stopped_by: Option<StoppedBy>,
}

/// Samples of one prompt while they are generated: an iterator of [`Piece`]s.
///
/// The pieces of a sample, joined, are its text. Up to [`SIDE_BY_SIDE`] samples are computed together, and each has a piece
/// for every token, in ascending order. A sample does not depend on how many others there are, as far as the logits don't.
///
/// After an error there are no more pieces.
pub struct Generation<'a> {
    gpt: &'a Gpt,
    tokenizer: &'a Tokenizer,
    options: Options,
    prompt: Vec<u32>,
    /// Samples that have not begun, by the numbers that choose their random numbers.
    waiting: Range<u64>,
    complete: Vec<Sample>,
    running: Option<SideBySide<'a>>,
    ready: VecDeque<Result<Piece>>,
    is_interrupted: bool,
}

impl<'a> Generation<'a> {
    /// Begins samples after a prompt. `samples` are the numbers that, with the seed, choose the random numbers of each: the
    /// same number has the same text.
    ///
    /// # Errors
    ///
    /// If an option can't work or the prompt is empty.
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
        generation.begin_next()?;
        Ok(generation)
    }

    /// Ends every sample after its last token, and begins no others. Pieces of tokens that were sampled still come.
    pub fn interrupt(&mut self) {
        self.is_interrupted = true;
        if let Some(running) = &mut self.running {
            running.interrupt();
        }
    }

    /// All samples that were begun, as far as they are.
    pub fn into_samples(mut self) -> Vec<Sample> {
        self.complete.extend(self.running.into_iter().flat_map(SideBySide::into_samples));
        self.complete
    }

    /// Begins the next samples side by side.
    fn begin_next(&mut self) -> Result<()> {
        let numbers = self.waiting.by_ref().take(SIDE_BY_SIDE);
        let sequence = |number| Sequence::new(self.options.clone(), number, self.prompt.clone());
        let sequences = numbers.map(sequence).collect::<Result<Vec<_>, _>>()?;
        if !sequences.is_empty() {
            let next = SideBySide::new(self.gpt, self.tokenizer, sequences, self.options.n_best());
            // A sample of no tokens has a piece too.
            let pieces = next.sequences().iter().enumerate().filter_map(|(idx, sequence)| {
                let stopped_by = Some(sequence.stopped_by()?.clone());
                Some(Ok(Piece { sample: self.complete.len() + idx, text: String::new(), stopped_by }))
            });
            self.ready.extend(pieces);
            self.running = Some(next);
        }
        Ok(())
    }

    /// Samples one more token of each running sample, or begins the next samples.
    fn advance(&mut self, mut running: SideBySide<'a>) -> Result<()> {
        if running.is_complete() {
            self.complete.extend(running.into_samples());
            return if self.is_interrupted { Ok(()) } else { self.begin_next() };
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
