//! Constraints on the tokens of a sample.

use std::{error, fmt};

/// Restricts which tokens may follow in one sample, such as to text that matches a grammar.
///
/// Before each token, [`Sequence::step`](crate::Sequence::step) calls [`Constraint::restrict`], samples a token, and
/// passes it to [`Constraint::accept`]. The sample ends when [`Constraint::is_complete`].
pub trait Constraint: fmt::Debug + Send + Sync {
    /// Sets the logit of each forbidden token to -inf.
    ///
    /// # Errors
    ///
    /// If the constraint cannot be evaluated, such as because it is too complex.
    fn restrict(&mut self, logits: &mut [f32]) -> Result<(), Box<dyn error::Error + Send + Sync>>;

    /// Continues with a sampled token.
    ///
    /// # Errors
    ///
    /// If the token is forbidden.
    fn accept(&mut self, id: u32) -> Result<(), Box<dyn error::Error + Send + Sync>>;

    /// Whether no further token may follow.
    fn is_complete(&self) -> bool;

    /// A copy for another sample.
    fn fork(&self) -> Box<dyn Constraint>;
}

impl Clone for Box<dyn Constraint> {
    fn clone(&self) -> Self {
        self.fork()
    }
}
