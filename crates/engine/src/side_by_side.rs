//! Samples of one prompt that the model computes together, in one step each token.

use burn::prelude::*;
use model::{Context, Decoder, Gpt};
use sampler::{Logits, Sample, Sequence};
use tokenizer::{DecodeStream, Tokenizer};

use crate::{Error, Result, next_logits};

/// Samples that are generated together.
pub(crate) struct SideBySide<'a> {
    decoder: Decoder,
    sequences: Vec<Sequence>,
    streams: Vec<DecodeStream<'a>>,
    /// What the model has read of each sample that is not complete; empty before it has read the prompt.
    contexts: Vec<Option<Context>>,
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
            contexts: Vec::new(),
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
            if sequence.stopped_by().is_some() {
                self.contexts[number] = None;
            }
            found(number, text, sequence);
        }
        Ok(())
    }

    /// The logits of the next token of each running sample.
    fn next_logits(&mut self, running: &[usize]) -> Result<Vec<Logits>> {
        let logits = if self.contexts.is_empty() {
            self.read_prompt(running)
        } else {
            let contexts = self.contexts.iter_mut().zip(&self.sequences);
            let mut feeds: Vec<(&mut Context, &[u32])> = contexts
                .filter_map(|(context, sequence)| Some((context.as_mut()?, sequence.unseen())))
                .collect();
            self.decoder.step(&mut feeds)
        };
        next_logits::read(logits, self.n_tokens, self.n_best).map_err(Error::Logits)
    }

    /// Reads the prompt once for all samples, each of which then has a context of its own.
    fn read_prompt(&mut self, running: &[usize]) -> Tensor<2> {
        let mut context = self.decoder.context();
        let logits = self.decoder.step(&mut [(&mut context, self.sequences[running[0]].unseen())]);
        self.contexts = vec![None; self.sequences.len()];
        let (&last, others) = running.split_last().expect("a step is of at least one sample");
        for &number in others {
            self.contexts[number] = Some(context.clone());
        }
        self.contexts[last] = Some(context);
        logits.repeat_dim(0, running.len())
    }

    /// Ends every incomplete sample.
    pub(crate) fn interrupt(&mut self) {
        self.sequences.iter_mut().for_each(Sequence::interrupt);
        self.contexts.clear();
    }

    pub(crate) fn into_samples(self) -> impl Iterator<Item = Sample> {
        self.sequences.into_iter().map(Sequence::into_sample)
    }
}

#[cfg(test)]
mod tests {
    use model::GptConfig;
    use sampler::Options;

    use super::*;

    #[test]
    fn a_complete_sample_keeps_no_memory() {
        let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
        let gpt = GptConfig::debug().init(7, &kernels::testing::test_device()).unwrap();
        let options = Options { max_tokens: 50, stop: vec!["a".to_owned()], ..Options::default() };
        let sequence = |number| Sequence::new(options.clone(), number, vec![1, 2, 3]).unwrap();
        let mut samples = SideBySide::new(&gpt, &tokenizer, (0..6).map(sequence).collect(), None);
        let mut n_running = Vec::new();
        while !samples.is_complete() {
            samples.step(|_, _, _| {}).unwrap();
            for (context, sequence) in samples.contexts.iter().zip(&samples.sequences) {
                assert_eq!(context.is_some(), sequence.stopped_by().is_none());
            }
            n_running.push(samples.contexts.iter().flatten().count());
        }
        assert!(n_running.iter().any(|n| (1..6).contains(n)), "all ended together: {n_running:?}");
        assert_eq!(n_running.last(), Some(&0));
    }
}
