//! The state of a grammar during one sample.

use std::{error, fmt};

use llguidance::{Matcher, TokenParser, api::StopReason, toktrie::SimpleVob};

use crate::{Error, Result, Vocabulary, error::message};

/// A grammar after the tokens of one sample.
pub(crate) struct GrammarConstraint {
    vocabulary: Vocabulary,
    matcher: Matcher,
    n_accepted: usize,
    is_complete: bool,
}

impl GrammarConstraint {
    pub(crate) fn new(parser: TokenParser, vocabulary: Vocabulary) -> Result<Self> {
        let matcher = Matcher::new(Ok(parser));
        let mut constraint = Self { vocabulary, matcher, n_accepted: 0, is_complete: false };
        constraint.advance(&[])?;
        if !constraint.is_complete {
            constraint.mask()?;
        }
        Ok(constraint)
    }

    /// Continues with `ids`, and finds out whether the sample is complete.
    fn advance(&mut self, ids: &[u32]) -> Result<()> {
        self.matcher.consume_tokens(ids).map_err(|error| self.evaluation(&error))?;
        self.n_accepted += ids.len();
        self.is_complete = self.matcher.is_stopped() || (!self.vocabulary.has_eos() && self.ends_here());
        Ok(())
    }

    /// Whether the grammar may end here, and no token could continue.
    fn ends_here(&mut self) -> bool {
        self.matcher.is_accepting().is_ok_and(|accepts| accepts) && self.matcher.compute_mask().is_err()
    }

    fn allows(&mut self, id: u32) -> Result<bool> {
        if id as usize >= self.vocabulary.n_tokens() {
            return Ok(false);
        }
        let n_valid = self.matcher.validate_tokens(&[id]).map_err(|error| self.evaluation(&error))?;
        Ok(n_valid == 1)
    }

    /// The tokens that may follow.
    fn mask(&mut self) -> Result<SimpleVob> {
        let n_accepted = self.n_accepted;
        if self.is_complete {
            return Err(Error::Complete { n_accepted });
        }
        self.matcher.compute_mask().map_err(|error| {
            // The library reports an empty set by the name of this reason.
            if message(&error) == StopReason::NoExtensionBias.to_string() {
                return Error::NoToken { n_accepted };
            }
            self.evaluation(&error)
        })
    }

    fn evaluation(&self, error: &impl ToString) -> Error {
        Error::Evaluation { n_accepted: self.n_accepted, reason: message(error) }
    }
}

impl sampler::Constraint for GrammarConstraint {
    fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        forbid_others(&self.mask()?, logits);
        Ok(())
    }

    fn accept(&mut self, id: u32) -> Result<(), Box<dyn error::Error + Send + Sync>> {
        let n_accepted = self.n_accepted;
        if self.is_complete {
            return Err(Error::Complete { n_accepted }.into());
        }
        if !self.allows(id)? {
            return Err(Error::Forbidden { id, n_accepted }.into());
        }
        Ok(self.advance(&[id])?)
    }

    fn is_complete(&self) -> bool {
        self.is_complete
    }

    fn fork(&self) -> Box<dyn sampler::Constraint> {
        Box::new(Self {
            vocabulary: self.vocabulary.clone(),
            matcher: self.matcher.deep_clone(),
            n_accepted: self.n_accepted,
            is_complete: self.is_complete,
        })
    }
}

impl fmt::Debug for GrammarConstraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { n_accepted, is_complete, .. } = self;
        f.debug_struct("GrammarConstraint")
            .field("n_accepted", n_accepted)
            .field("is_complete", is_complete)
            .finish_non_exhaustive()
    }
}

/// Sets the logits of all tokens outside the mask to -inf, including those beyond its end.
fn forbid_others(mask: &SimpleVob, logits: &mut [f32]) {
    let words = mask.as_slice().iter().copied().chain(std::iter::repeat(0));
    for (logits, word) in logits.chunks_mut(32).zip(words) {
        for (bit, logit) in logits.iter_mut().enumerate() {
            if word & (1 << bit) == 0 {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}
