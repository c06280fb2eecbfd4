use std::{error, ops::ControlFlow};

use crate::{Error, Logits, Options, Result, Sample, Sequence};

/// Generates text after a prompt, one token at a time: [`generate_batch`] with a batch of one.
///
/// - `sample_idx` and the seed determine the random numbers. Samples 0, 1, 2, … of one prompt differ, and none depends
///   on the number of others.
/// - `prompt` must fit the model's block, or `next_logits` must crop it.
/// - `text_of` receives each sampled id once, in order, and returns the characters that it completes. It buffers the
///   bytes of an incomplete character, so an id may add no text, or several characters. A character incomplete at the
///   end is dropped. Stop tokens are not passed to it.
/// - `next_logits` receives the ids that the model has not seen: first the whole prompt, then one id at a time. It
///   returns the logits of the next token, as a [`Vec`] over the vocabulary or as [`Logits`].
/// - `on_text` is called after each token with the newly final text. The text may be empty, for instance while it may
///   be the start of a stop string. The concatenation of all texts is [`Sample::text`]. [`ControlFlow::Break`] ends the
///   sample, whose text then ends with the text that was held back.
///
/// # Errors
///
/// An option out of range, an empty prompt, logits that no token can be sampled from, a bias for a token outside the
/// vocabulary, and [`Error::Model`] if `next_logits` fails.
///
/// # Panics
///
/// If `next_logits` returns [`Logits::Best`] and the options need every logit ([`Options::n_best`]).
pub fn generate<L, E>(
    options: &Options,
    sample_idx: u64,
    prompt: &[u32],
    mut text_of: impl FnMut(u32) -> String,
    mut next_logits: impl FnMut(&[u32]) -> Result<L, E>,
    mut on_text: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<Sample>
where
    L: Into<Logits>,
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    let mut samples = generate_batch(
        options,
        [sample_idx],
        prompt,
        |_, id| text_of(id),
        |_, unseen| next_logits(unseen[0]).map(|logits| vec![logits]),
        |_, text| on_text(text),
    )?;
    Ok(samples.pop().expect("a batch of one has one sample"))
}

/// Generates several texts after one prompt, one token of each per step.
///
/// Each of `sample_idxs` makes one sample. With equal logits it equals the sample of [`generate`]. The functions are
/// as in [`generate`], with the number of the sample (its index in `sample_idxs`) as an extra argument:
///
/// - `text_of` and `on_text` are called for one sample at a time, in ascending order within a step.
///   [`ControlFlow::Break`] ends that sample only.
/// - `next_logits` receives the numbers of the incomplete samples, ascending, and the unseen ids of each: first the
///   whole prompt, then one id. It returns the logits of the next token of each sample, in the same order.
///
/// # Errors
///
/// As [`generate`]. An error in one sample ends all of them.
///
/// # Panics
///
/// If `next_logits` returns another number of logits than there are incomplete samples, or [`Logits::Best`] where the
/// options need every logit.
pub fn generate_batch<L, E>(
    options: &Options,
    sample_idxs: impl IntoIterator<Item = u64>,
    prompt: &[u32],
    mut text_of: impl FnMut(usize, u32) -> String,
    mut next_logits: impl FnMut(&[usize], &[&[u32]]) -> Result<Vec<L>, E>,
    mut on_text: impl FnMut(usize, &str) -> ControlFlow<()>,
) -> Result<Vec<Sample>>
where
    L: Into<Logits>,
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    let sequence = |sample_idx| Sequence::new(options.clone(), sample_idx, prompt.to_vec());
    let mut sequences = sample_idxs.into_iter().map(sequence).collect::<Result<Vec<_>>>()?;
    let is_running = |number: &usize, sequences: &[Sequence]| sequences[*number].stopped_by().is_none();
    let mut running: Vec<usize> = (0..sequences.len()).filter(|it| is_running(it, &sequences)).collect();

    while !running.is_empty() {
        let unseen: Vec<&[u32]> = running.iter().map(|&number| sequences[number].unseen()).collect();
        let logits = next_logits(&running, &unseen).map_err(|source| Error::Model(source.into()))?;
        let (n_returned, n_running) = (logits.len(), running.len());
        assert_eq!(
            n_returned, n_running,
            "the model returned logits for {n_returned} samples instead of {n_running}"
        );

        for (&number, logits) in running.iter().zip(logits) {
            let sequence = &mut sequences[number];
            let text = sequence.step(&logits.into(), |id| text_of(number, id))?;
            if on_text(number, &text).is_break() {
                sequence.interrupt();
            }
        }
        running.retain(|number| is_running(number, &sequences));
    }
    Ok(sequences.into_iter().map(Sequence::into_sample).collect())
}
