use std::{error, ops::ControlFlow};

use crate::{Error, Logits, Options, Result, Sample, Sequence};

/// Generates text after a prompt, one token at a time.
///
/// - `sample_idx` chooses the random numbers, with the seed: samples 0, 1, 2, … of one prompt differ, and
///   none depends on how many are drawn.
/// - `prompt` must fit the model, or `next_logits` has to crop it.
/// - `text_of` is told each id once, in order, and gives the characters that are complete with it. It
///   keeps the bytes of an unfinished character to itself, so an id may add no text, or more than one
///   character. A character still unfinished at the end is left out. It is not told a stop token.
/// - `next_logits` receives the ids that the model has not seen, first the whole prompt and then one id
///   at a time, and gives the logits of the next token: a [`Vec`] with one for each token of the vocabulary, or
///   [`Logits`], which may be of the most probable tokens alone.
/// - `on_text` is called after each token, with the text that has become certain; that may be empty, for
///   instance while a stop string may be beginning. All it receives, joined, is [`Sample::text`]. With
///   [`ControlFlow::Break`] it ends the sample there.
///
/// This is [`generate_batch`] with a batch of one.
///
/// # Errors
///
/// An option out of range, an empty prompt, logits that no token can be drawn from, a bias for a token
/// without a logit, and [`Error::Model`] if `next_logits` fails.
///
/// # Panics
///
/// If `next_logits` gives [`Logits::Best`] and the options look at every logit ([`Options::n_best`]).
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

/// Generates several texts after one prompt, the next token of all of them at a time.
///
/// Each of `sample_idxs` makes one sample, equal to what [`generate`] gives for it where the logits are equal.
/// The functions are those of [`generate`] and also receive the number of the sample, which is its place
/// in `sample_idxs`, from 0:
///
/// - `text_of` and `on_text` are called for one sample at a time, in ascending order of their numbers for each
///   token. [`ControlFlow::Break`] ends that sample alone.
/// - `next_logits` receives the numbers of the samples that are not complete, ascending, and the unseen ids of each
///   of them: of all the whole prompt at first, then of each one id. It gives the logits of the next token
///   of each of them, in the same order. A sample that is complete is not asked for again.
///
/// # Errors
///
/// Those of [`generate`]. One sample that cannot go on ends them all.
///
/// # Panics
///
/// If `next_logits` gives more or fewer logits than samples were asked for, or [`Logits::Best`] where the options look at
/// every logit.
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
        let (n_given, n_asked) = (logits.len(), running.len());
        assert_eq!(n_given, n_asked, "the model gave logits for {n_given} samples and not for {n_asked}");

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
