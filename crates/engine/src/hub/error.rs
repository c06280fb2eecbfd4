use std::error::Error;

/// Why a model of the hub can't be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Neither a path nor a name that a model of the hub can have: a mistyped path.
    #[error("there is no file or folder {0}, and no model of the hub has such a name")]
    NotAName(String),

    /// A name with an @ or : that a revision or quantization does not follow; the message says so.
    #[error("{0}")]
    Incomplete(String),

    /// The hub, its cache or a repository does not have it; the message says why, and what to do.
    #[error("{0}")]
    Unavailable(String),

    /// Something failed on the way.
    #[error("{message}")]
    Failed {
        /// What failed, and what to do.
        message: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl HubError {
    /// Whether the name itself is malformed, whatever the hub has.
    pub fn is_malformed_name(&self) -> bool {
        matches!(self, Self::Incomplete(_))
    }

    /// Makes an error say what failed.
    #[cfg(feature = "hub")]
    pub(crate) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(message: String) -> impl FnOnce(E) -> Self {
        |source| Self::Failed { message, source: source.into() }
    }
}

/// An error with a message alone.
#[cfg(feature = "hub")]
macro_rules! unavailable {
    ($($message:tt)*) => {
        $crate::HubError::Unavailable(format!($($message)*))
    };
}
#[cfg(feature = "hub")]
pub(crate) use unavailable;
