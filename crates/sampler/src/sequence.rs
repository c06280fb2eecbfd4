//! A sample during generation.

use rand_chacha::ChaCha8Rng;

use crate::{
    Constraint, Error, History, Logits, Options, Result, Sample, StoppedBy, distribution::distribution,
    logprob, next_token_distribution, random_stream, sample_token, stop::StopStrings, uniform,
};

/// The whole state of a sample during generation. Samples of one batch share no state.
///
/// [`generate`](crate::generate) and [`generate_batch`](crate::generate_batch) run sequences to their end. A caller
/// that schedules the model itself steps them directly:
///
/// ```
/// use sampler::{Logits, Options, Sequence};
///
/// let options = Options { max_tokens: 2, temperature: 0.0, ..Options::default() };
/// let mut sequence = Sequence::new(options, 0, vec![0])?;
/// while sequence.stopped_by().is_none() {
///     let next = (sequence.unseen()[0] as usize + 1) % 3; // A model of three tokens that counts.
///     let mut logits = vec![0.0; 3];
///     logits[next] = 5.0;
///     let text = sequence.step(&Logits::All(logits), |id| id.to_string())?;
///     assert_eq!(text, next.to_string());
/// }
/// assert_eq!(sequence.into_sample().text, "12");
/// # Ok::<(), sampler::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sequence {
    options: Options,
    prompt: Vec<u32>,
    constraint: Option<Box<dyn Constraint>>,
    rng: ChaCha8Rng,
    history: History,
    stop_strings: StopStrings,
    stopped_by: Option<StoppedBy>,
    text: String,
    ids: Vec<u32>,
    logprobs: Vec<f32>,
}

impl Sequence {
    /// Starts a sample after a prompt. `sample_idx` and the seed determine its random numbers. With `max_tokens` 0 it
    /// is complete from the start.
    ///
    /// # Errors
    ///
    /// An option out of range, or an empty prompt.
    pub fn new(options: Options, sample_idx: u64, prompt: Vec<u32>) -> Result<Self> {
        options.check()?;
        if prompt.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        Ok(Self {
            rng: random_stream(options.seed, sample_idx),
            history: History::new(&prompt),
            stop_strings: StopStrings::new(options.stop.clone()),
            stopped_by: (options.max_tokens == 0).then_some(StoppedBy::MaxTokens),
            text: String::new(),
            ids: Vec::new(),
            logprobs: Vec::new(),
            options,
            prompt,
            constraint: None,
        })
    }

    /// The same sample with a constraint on its tokens, which needs every logit in each step. If the constraint permits
    /// no token, the sample is complete from the start.
    #[must_use]
    pub fn with_constraint(mut self, constraint: Option<Box<dyn Constraint>>) -> Self {
        if constraint.as_ref().is_some_and(|constraint| constraint.is_complete()) {
            self.stopped_by.get_or_insert(StoppedBy::Constraint);
        }
        Self { constraint, ..self }
    }

    /// Number of largest logits that determine the next token, as [`Options::n_best`]. `None` if every logit is needed.
    pub fn n_best(&self) -> Option<usize> {
        self.options.n_best().filter(|_| self.constraint.is_none())
    }

    /// The ids that the model has not seen: first the prompt, then the last sampled token.
    pub fn unseen(&self) -> &[u32] {
        self.ids.last().map_or(&self.prompt, std::slice::from_ref)
    }

    /// The start of a guess of the next tokens whose logits the sample can use. It ends before a stop token, and leaves a
    /// token of [`Options::max_tokens`] to sample. A complete sample uses none.
    pub fn useful_part<'t>(&self, guess: &'t [u32]) -> &'t [u32] {
        let n_max = match self.stopped_by {
            Some(_) => 0,
            None => self.options.max_tokens - self.ids.len() - 1,
        };
        let is_stop = |id: &u32| self.options.stop_tokens.contains(id);
        let n = guess.iter().take(n_max).take_while(|id| !is_stop(id)).count();
        &guess[..n]
    }

    /// The reason why the sample is complete, or `None` if it is not.
    pub fn stopped_by(&self) -> Option<&StoppedBy> {
        self.stopped_by.as_ref()
    }

    /// Samples the next token and returns the newly final text. The text may be empty, for instance while it may be the
    /// start of a stop string. `text_of` returns the text that the token completes; it is not called for a stop token.
    ///
    /// # Errors
    ///
    /// If no token can be sampled from the logits, a bias is for a token outside the vocabulary, or the constraint
    /// fails.
    ///
    /// # Panics
    ///
    /// If the sample is complete, or the logits are [`Logits::Best`] and [`Sequence::n_best`] needs every logit.
    pub fn step(&mut self, logits: &Logits, text_of: impl FnOnce(u32) -> String) -> Result<String> {
        assert!(self.stopped_by.is_none(), "a complete sample has no next token");
        let id = self.sample(logits)?;
        let mut text = String::new();
        if self.options.stop_tokens.contains(&id) {
            self.stopped_by = Some(StoppedBy::StopToken);
        } else {
            let (decided, stop) = self.stop_strings.push(&text_of(id));
            text = decided;
            self.stopped_by = stop.map(|stop| StoppedBy::StopString(stop.to_owned()));
        }
        if self.constraint.as_ref().is_some_and(|constraint| constraint.is_complete()) {
            self.stopped_by.get_or_insert(StoppedBy::Constraint);
        }
        if self.ids.len() == self.options.max_tokens {
            self.stopped_by.get_or_insert(StoppedBy::MaxTokens);
        }
        if self.stopped_by.is_some() {
            text += &self.stop_strings.finish();
        }
        self.text += &text;
        Ok(text)
    }

    /// Ends the sample unless it is complete. Returns the text that was held back as a possible stop string.
    pub fn interrupt(&mut self) -> String {
        self.stopped_by.get_or_insert(StoppedBy::Interrupted);
        let text = self.stop_strings.finish();
        self.text += &text;
        text
    }

    /// The sample so far. An incomplete one is marked as interrupted.
    pub fn into_sample(self) -> Sample {
        Sample {
            text: self.text,
            ids: self.ids,
            logprobs: self.logprobs,
            stopped_by: self.stopped_by.unwrap_or(StoppedBy::Interrupted),
        }
    }

    fn sample(&mut self, logits: &Logits) -> Result<u32> {
        let candidates = match (logits, &mut self.constraint) {
            (Logits::All(logits), None) => next_token_distribution(&self.options, &self.history, logits)?,
            (Logits::All(logits), Some(constraint)) => {
                let mut allowed = logits.clone();
                constraint.restrict(&mut allowed).map_err(Error::Constraint)?;
                next_token_distribution(&self.options, &self.history, &allowed)?
            }
            (Logits::Best(best), _) => {
                assert!(self.n_best().is_some(), "these options need every logit");
                distribution(&self.options, best.iter().copied())?
            }
        };
        let id = sample_token(&candidates, uniform(&mut self.rng));
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(id).map_err(Error::Constraint)?;
        }
        self.history.push(id);
        self.ids.push(id);
        if let (true, Logits::All(logits)) = (self.options.logprobs, logits) {
            self.logprobs.push(logprob(logits, id));
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROMPT: [u32; 2] = [0, 1];

    fn step(sequence: &mut Sequence) -> String {
        sequence.step(&Logits::All(vec![0.0, 1.0, 2.0]), |id| id.to_string()).unwrap()
    }

    #[test]
    fn max_tokens_0_is_complete_from_the_start() {
        let options = Options { max_tokens: 0, ..Options::default() };
        let sequence = Sequence::new(options, 0, PROMPT.to_vec()).unwrap();
        assert_eq!(sequence.stopped_by(), Some(&StoppedBy::MaxTokens));
        assert!(sequence.into_sample().ids.is_empty());
    }

    #[test]
    fn interrupt_ends_incomplete_sequences_only() {
        let greedy = Options { max_tokens: 2, temperature: 0.0, ..Options::default() };
        let mut sequence = Sequence::new(greedy, 0, PROMPT.to_vec()).unwrap();
        assert_eq!(sequence.unseen(), PROMPT);
        assert_eq!(step(&mut sequence), "2");
        assert_eq!((sequence.unseen(), sequence.stopped_by()), (&[2][..], None));
        let mut complete = sequence.clone();
        sequence.interrupt();
        assert_eq!(sequence.into_sample().stopped_by, StoppedBy::Interrupted);
        step(&mut complete);
        complete.interrupt();
        let sample = complete.into_sample();
        assert_eq!((sample.text.as_str(), sample.stopped_by), ("22", StoppedBy::MaxTokens));
    }

    #[test]
    fn a_guess_is_of_use_up_to_a_stop_token_and_to_the_last_token() {
        let options =
            Options { max_tokens: 4, temperature: 0.0, stop_tokens: vec![1, 7], ..Options::default() };
        let mut sequence = Sequence::new(options, 0, PROMPT.to_vec()).unwrap();
        for (guess, n) in [(&[2, 0, 7, 2][..], 2), (&[1, 2], 0), (&[], 0), (&[2; 9], 3)] {
            assert_eq!(sequence.useful_part(guess), &guess[..n], "{guess:?}");
        }
        for n_left in [3, 2, 1, 0] {
            assert_eq!(sequence.useful_part(&[2; 9]).len(), n_left);
            step(&mut sequence);
        }
        assert!(sequence.stopped_by().is_some() && sequence.useful_part(&[2; 9]).is_empty());
    }

    /// Permits token 1, a number of times.
    #[derive(Debug, Clone)]
    struct Ones(usize);

    impl Constraint for Ones {
        fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let forbidden = logits.iter_mut().enumerate().filter(|(id, _)| *id != 1);
            forbidden.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
            Ok(())
        }

        fn accept(&mut self, id: u32) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            assert_eq!(id, 1);
            self.0 -= 1;
            Ok(())
        }

        fn is_complete(&self) -> bool {
            self.0 == 0
        }

        fn fork(&self) -> Box<dyn Constraint> {
            Box::new(self.clone())
        }
    }

    #[test]
    fn a_constraint_chooses_among_all_logits_and_ends_the_sample() {
        let greedy = Options { temperature: 0.0, ..Options::default() };
        let new = |n| {
            let sequence = Sequence::new(greedy.clone(), 0, PROMPT.to_vec()).unwrap();
            sequence.with_constraint(Some(Box::new(Ones(n))))
        };
        let mut sequence = new(2);
        assert_eq!(sequence.n_best(), None);
        let mut fork = sequence.clone();
        assert_eq!([step(&mut sequence), step(&mut sequence)], ["1", "1"]);
        assert_eq!(sequence.stopped_by(), Some(&StoppedBy::Constraint));
        assert_eq!(step(&mut fork), "1");
        assert_eq!(fork.stopped_by(), None, "a clone has its own constraint");
        assert_eq!(new(0).stopped_by(), Some(&StoppedBy::Constraint));
    }

    #[test]
    fn an_interrupted_sample_keeps_the_text_that_was_held_back() {
        let options = Options { temperature: 0.0, stop: vec!["22!".to_owned()], ..Options::default() };
        let mut sequence = Sequence::new(options, 0, PROMPT.to_vec()).unwrap();
        assert_eq!((step(&mut sequence), step(&mut sequence)), (String::new(), String::new()));
        assert_eq!(sequence.interrupt(), "22");
        assert_eq!(sequence.interrupt(), "");
        assert_eq!(sequence.into_sample().text, "22");
    }

    #[test]
    fn empty_prompts_and_invalid_options_are_errors() {
        assert!(matches!(Sequence::new(Options::default(), 0, Vec::new()), Err(Error::EmptyPrompt)));
        let cold = Options { temperature: -1.0, ..Options::default() };
        assert!(matches!(Sequence::new(cold, 0, PROMPT.to_vec()), Err(Error::Temperature(_))));
    }
}
