//! Samples of one prompt that the model computes together, in one batch.

use model::{Decoder, Gpt};
use sampler::{Logits, Sample, Sequence};
use tokenizer::{DecodeStream, Tokenizer};

use crate::{Error, Result, next_logits};

/// Samples that are generated together.
pub(crate) struct SideBySide<'a> {
    decoder: Decoder,
    sequences: Vec<Sequence>,
    streams: Vec<DecodeStream<'a>>,
    /// The samples that the decoder has sequences of; none before it has read the prompt, which they share.
    decoded: Vec<usize>,
    /// Tokens that can be sampled: the tokenizer's, and not those that fill up a vocabulary.
    n_tokens: usize,
    n_best: Option<usize>,
}

impl<'a> SideBySide<'a> {
    pub(crate) fn new(
        gpt: &Gpt,
        tokenizer: &'a Tokenizer,
        sequences: Vec<Sequence>,
        n_best: Option<usize>,
    ) -> Self {
        let stream = |sequence: &Sequence| tokenizer.decode_stream_after(sequence.unseen());
        Self {
            decoder: Decoder::new(gpt),
            streams: sequences.iter().map(stream).collect(),
            decoded: Vec::new(),
            n_tokens: tokenizer.vocab_size().min(gpt.config().vocab_size),
            n_best,
            sequences,
        }
    }

    /// The samples, the first at 0.
    pub(crate) fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Whether no sample has a next token.
    pub(crate) fn is_complete(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.stopped_by().is_some())
    }

    /// Samples the next token of each incomplete sample, and calls `found` with the sample's index and the text that has
    /// become certain.
    ///
    /// # Errors
    ///
    /// If the logits can't be computed, or no token can be sampled from those of one sample.
    pub(crate) fn step(&mut self, mut found: impl FnMut(usize, String, &Sequence)) -> Result<()> {
        let is_running = |&number: &usize| self.sequences[number].stopped_by().is_none();
        let running: Vec<usize> = (0..self.sequences.len()).filter(is_running).collect();
        let logits = kernels::on_pool(|| self.next_logits(&running))?;
        for (number, logits) in running.into_iter().zip(logits) {
            let (sequence, stream) = (&mut self.sequences[number], &mut self.streams[number]);
            let text = sequence.step(&logits, |id| stream.push(id))?;
            found(number, text, sequence);
        }
        Ok(())
    }

    /// The logits of the next token of each running sample.
    fn next_logits(&mut self, running: &[usize]) -> Result<Vec<Logits>> {
        let n = self.sequences.len();
        let unseen: Vec<&[u32]> = running.iter().map(|&number| self.sequences[number].unseen()).collect();
        let logits = if self.decoded.is_empty() {
            let logits = self.decoder.next_logits_of_each(&unseen[..1]);
            self.decoder.select(&vec![0; n]);
            self.decoded = (0..n).collect();
            logits.repeat_dim(0, n)
        } else {
            if self.decoded != running {
                let place = |sample: &usize| self.decoded.iter().position(|decoded| decoded == sample);
                self.decoder.select(&running.iter().filter_map(place).collect::<Vec<_>>());
                self.decoded = running.to_vec();
            }
            self.decoder.next_logits_of_each(&unseen)
        };
        next_logits::read(logits, self.n_tokens, self.n_best).map_err(Error::Logits)
    }

    /// Ends every incomplete sample.
    pub(crate) fn interrupt(&mut self) {
        self.sequences.iter_mut().for_each(Sequence::interrupt);
    }

    pub(crate) fn into_samples(self) -> impl Iterator<Item = Sample> {
        self.sequences.into_iter().map(Sequence::into_sample)
    }
}
