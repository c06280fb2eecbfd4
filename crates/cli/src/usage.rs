//! Errors in the arguments that clap does not find. They exit with code 2, like clap's own.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
    process::ExitCode,
    str::FromStr,
};

use engine::HubError;

/// An error in the arguments, with the message and source of the wrapped error.
#[derive(Debug)]
pub(crate) struct UsageError(anyhow::Error);

impl UsageError {
    pub(crate) fn new(error: impl Into<anyhow::Error>) -> Self {
        Self(error.into())
    }
}

impl Display for UsageError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.0, f)
    }
}

impl Error for UsageError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// Marks the error of a result as an error in the arguments.
pub(crate) trait ResultExt<T> {
    fn usage(self) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> ResultExt<T> for Result<T, E> {
    fn usage(self) -> anyhow::Result<T> {
        self.map_err(|error| UsageError::new(error).into())
    }
}

/// Like `anyhow::bail!`, for an error in the arguments.
macro_rules! bail_usage {
    ($($message:tt)*) => {
        return Err($crate::usage::UsageError::new(anyhow::anyhow!($($message)*)).into())
    };
}
pub(crate) use bail_usage;

/// Whether an error or one of its causes is an error in the arguments.
fn is_usage_error(error: &anyhow::Error) -> bool {
    let is_malformed = |cause: &engine::Error| cause.is_malformed_request();
    let is_usage = |cause: &(dyn Error + 'static)| {
        cause.is::<UsageError>()
            || cause.downcast_ref().is_some_and(is_malformed)
            || cause.downcast_ref().is_some_and(HubError::is_malformed_name)
    };
    error.chain().any(is_usage)
}

/// The exit code for invalid arguments, the same as clap's.
const USAGE: u8 = 2;

/// The exit code of an error.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if is_usage_error(error) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// A clap value parser for a whole number of at least `min`. clap's own error for `usize` does not name the range.
pub(crate) fn at_least<T>(min: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.parse().ok().filter(|number| *number >= min);
        number.ok_or_else(|| format!("must be a whole number, at least {min}"))
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    fn refuse(value: i32) -> anyhow::Result<()> {
        bail_usage!("--size must be above 0 (got {value})")
    }

    #[test]
    fn a_usage_error_is_found_under_context_and_keeps_its_message() {
        let error = refuse(-1).context("cannot draw").unwrap_err();
        assert!(is_usage_error(&error));
        assert_eq!(format!("{error:#}"), "cannot draw: --size must be above 0 (got -1)");

        let inner = || anyhow!("the cause").context("the message");
        let marked = Err::<(), _>(inner()).usage().unwrap_err();
        assert!(is_usage_error(&marked));
        assert_eq!(format!("{marked:#}"), format!("{:#}", inner()), "the source is kept");
        assert!(!is_usage_error(&inner()));
    }

    #[test]
    fn whole_numbers_have_a_lower_bound() {
        let parse = at_least(1_usize);
        assert_eq!(parse("1"), Ok(1));
        for wrong in ["0", "-1", "1.5", "x", ""] {
            assert_eq!(parse(wrong), Err("must be a whole number, at least 1".to_owned()), "{wrong}");
        }
        assert_eq!(at_least(0_u64)("0"), Ok(0));
    }
}
