//! A batch of samples of one prompt, with one step of the model per token.

use burn::prelude::*;
use model::{Context, Decoder, Gpt};
use sampler::{Logits, Sample, Sequence};
use tokenizer::{DecodeStream, Tokenizer};

use crate::{Error, Result, next_logits};

/// A batch of samples of one prompt.
pub(crate) struct SampleBatch<'a> {
    decoder: Decoder,
    sequences: Vec<Sequence>,
    streams: Vec<DecodeStream<'a>>,
    /// The context of each incomplete sample; empty before prefill.
    contexts: Vec<Option<Context>>,
    /// Number of tokens that can be sampled, without the padding of the vocabulary.
    n_tokens: usize,
    n_best: Option<usize>,
}

impl<'a> SampleBatch<'a> {
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

    pub(crate) fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Whether all samples are complete.
    pub(crate) fn is_complete(&self) -> bool {
        self.sequences.iter().all(|sequence| sequence.stopped_by().is_some())
    }

    /// Samples the next token of each incomplete sample, and calls `on_text` with the sample's index and newly final
    /// text.
    ///
    /// # Errors
    ///
    /// If the logits can't be read, or no token can be sampled from them.
    pub(crate) fn step(&mut self, mut on_text: impl FnMut(usize, String, &Sequence)) -> Result<()> {
        let is_running = |&number: &usize| self.sequences[number].stopped_by().is_none();
        let running: Vec<usize> = (0..self.sequences.len()).filter(is_running).collect();
        let logits = kernels::on_pool(|| self.next_logits(&running))?;
        for (number, logits) in running.into_iter().zip(logits) {
            let (sequence, stream) = (&mut self.sequences[number], &mut self.streams[number]);
            let text = sequence.step(&logits, |id| stream.push(id))?;
            if sequence.stopped_by().is_some() {
                self.contexts[number] = None;
            }
            on_text(number, text, sequence);
        }
        Ok(())
    }

    /// The logits of the next token of each running sample.
    fn next_logits(&mut self, running: &[usize]) -> Result<Vec<Logits>> {
        let logits = if self.contexts.is_empty() {
            self.prefill(running)
        } else {
            let contexts = self.contexts.iter_mut().zip(&self.sequences);
            let mut feeds: Vec<(&mut Context, &[u32])> = contexts
                .filter_map(|(context, sequence)| Some((context.as_mut()?, sequence.unseen())))
                .collect();
            self.decoder.step(&mut feeds)
        };
        next_logits::read(logits, self.n_tokens, self.n_best).map_err(Error::Logits)
    }

    /// Processes the prompt once and forks its context for each sample.
    fn prefill(&mut self, running: &[usize]) -> Tensor<2> {
        let mut context = self.decoder.context();
        let logits = self.decoder.step(&mut [(&mut context, self.sequences[running[0]].unseen())]);
        self.contexts = vec![None; self.sequences.len()];
        let (&last, others) = running.split_last().expect("a step needs at least one sample");
        for &number in others {
            self.contexts[number] = Some(context.clone());
        }
        self.contexts[last] = Some(context);
        logits.repeat_dim(0, running.len())
    }

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
    fn complete_samples_drop_their_contexts() {
        let tokenizer = Tokenizer::from_chars("abcdefghijklm".chars()).unwrap();
        let gpt = GptConfig::debug().init(7, &kernels::testing::test_device()).unwrap();
        let options = Options { max_tokens: 50, stop: vec!["a".to_owned()], ..Options::default() };
        let sequence = |number| Sequence::new(options.clone(), number, vec![1, 2, 3]).unwrap();
        let mut samples = SampleBatch::new(&gpt, &tokenizer, (0..6).map(sequence).collect(), None);
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
