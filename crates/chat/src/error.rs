//! The errors of chat templates.

use std::{error, fmt};

use minijinja::ErrorKind;

/// Why a template is invalid, or gives no text for a conversation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the chat template is invalid at line {line}: {message}")]
    Syntax { line: usize, message: String },

    /// The template called `raise_exception`, such as for a conversation that does not alternate between two roles.
    #[error("the chat template refuses the conversation: {message}")]
    Refused { message: String },

    #[error("the chat template fails at line {line}: {message}")]
    Render { line: usize, message: String },

    #[error("the chat template takes too many steps; shorten the conversation or correct the template")]
    TooManySteps,
}

/// The result of a chat template.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The argument of `raise_exception`, as an error within the template engine.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) String);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for Refusal {}

impl Error {
    /// An error of compiling a template.
    pub(crate) fn of_compiling(error: &minijinja::Error) -> Self {
        Self::Syntax { line: error.line().unwrap_or(1), message: message(error) }
    }

    /// An error of rendering a template.
    pub(crate) fn of_rendering(error: &minijinja::Error) -> Self {
        for cause in causes(error) {
            if let Some(Refusal(message)) = cause.downcast_ref() {
                return Self::Refused { message: message.clone() };
            }
            if cause.downcast_ref().map(minijinja::Error::kind) == Some(ErrorKind::OutOfFuel) {
                return Self::TooManySteps;
            }
        }
        Self::Render { line: error.line().unwrap_or(1), message: message(error) }
    }
}

/// An error and the errors that caused it.
fn causes(error: &minijinja::Error) -> impl Iterator<Item = &(dyn error::Error + 'static)> {
    let first: &(dyn error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
}

/// The text of an error without its line.
fn message(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}
