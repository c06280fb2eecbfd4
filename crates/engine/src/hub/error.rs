use std::error::Error;

/// An error while downloading a model from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// Not a valid model name, probably a mistyped path.
    #[error("there is no file or folder {0}, and {0} is not a valid model name of the Hugging Face hub")]
    InvalidName(String),

    /// An @ or : without a valid revision or quantization.
    #[error("{0}")]
    InvalidSuffix(String),

    /// Neither the hub nor its cache has a supported model of this name.
    #[error("{0}")]
    Unavailable(String),

    #[error("{message}")]
    Failed { message: String, source: Box<dyn Error + Send + Sync> },
}

impl HubError {
    /// Whether the name itself is malformed, independent of the hub.
    pub fn is_malformed_name(&self) -> bool {
        matches!(self, Self::InvalidSuffix(_))
    }

    /// Adds a message to an error, for `map_err`.
    #[cfg(feature = "hub")]
    pub(crate) fn failed<E: Into<Box<dyn Error + Send + Sync>>>(message: String) -> impl FnOnce(E) -> Self {
        |source| Self::Failed { message, source: source.into() }
    }
}

/// [`HubError::Unavailable`] with a formatted message.
#[cfg(feature = "hub")]
macro_rules! unavailable {
    ($($message:tt)*) => {
        $crate::HubError::Unavailable(format!($($message)*))
    };
}
#[cfg(feature = "hub")]
pub(crate) use unavailable;
