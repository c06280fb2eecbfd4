//! Settings of a server.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use axum::http::{HeaderValue, Uri};
use subtle::ConstantTimeEq;

use crate::{Error, Result};

/// Settings of a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Samples that run at a time, per model. At least one.
    pub n_slots: usize,
    /// Samples that may wait for a slot. More requests are answered with 429.
    pub queue: usize,
    /// Maximum number of tokens to guess in a step, as [`Request::prompt_lookup`](engine::Request::prompt_lookup).
    pub prompt_lookup: usize,
    /// Without a key, every request is accepted.
    pub api_key: Option<ApiKey>,
    /// Origins whose web pages may send requests.
    pub origins: Vec<Origin>,
    /// A request that takes longer is stopped.
    pub time_limit: Duration,
    /// The folder of the runs that the page shows.
    pub runs: PathBuf,
}

/// 16 slots, 64 waiting samples, no prompt lookup, no key, no foreign origins, ten minutes, and the runs in `runs/`.
impl Default for Settings {
    fn default() -> Self {
        Self {
            n_slots: 16,
            queue: 64,
            prompt_lookup: 0,
            api_key: None,
            origins: Vec::new(),
            time_limit: Duration::from_secs(600),
            runs: PathBuf::from("runs"),
        }
    }
}

/// A key that requests must send as `Authorization: Bearer KEY`. Its debug output does not show it.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key of printable ASCII characters without spaces.
    ///
    /// # Errors
    ///
    /// If the key is empty or has other characters.
    pub fn new(key: impl Into<String>) -> Result<Self> {
        let key = key.into();
        let is_valid = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        if is_valid { Ok(Self(key)) } else { Err(Error::Key) }
    }

    /// Whether this is the key, in a time that depends on the lengths only.
    pub(crate) fn is(&self, key: &str) -> bool {
        self.0.as_bytes().ct_eq(key.as_bytes()).into()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// An origin such as `https://example.org`, or `*` for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

impl Origin {
    pub(crate) fn is_any(&self) -> bool {
        self.0 == "*"
    }

    pub(crate) fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Browsers send an origin as scheme, host and port, without a slash at the end.
impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_origin = |uri: Uri| {
            let origin = format!("{}://{}", uri.scheme_str()?, uri.authority()?).to_ascii_lowercase();
            (origin == text.to_ascii_lowercase()).then_some(origin)
        };
        let origin = if text == "*" { Some(text.to_owned()) } else { text.parse().ok().and_then(is_origin) };
        let value = origin.and_then(|origin| HeaderValue::try_from(origin).ok());
        value.map(Self).ok_or_else(|| Error::Origin(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_compared_whole_and_never_shown() {
        let key = ApiKey::new("sk-secret").unwrap();
        assert!(key.is("sk-secret"));
        for wrong in ["", "sk-secre", "sk-secret1", "SK-SECRET", "sk-secres"] {
            assert!(!key.is(wrong), "{wrong}");
        }
        assert_eq!(format!("{key:?}"), "ApiKey");
        for invalid in ["", "two words", "ключ", "line\n"] {
            assert!(matches!(ApiKey::new(invalid), Err(Error::Key)), "{invalid:?}");
        }
    }

    #[test]
    fn an_origin_is_a_scheme_a_host_and_a_port() {
        for origin in ["*", "https://example.org", "http://localhost:3000", "http://[::1]:8080"] {
            assert_eq!(origin.parse::<Origin>().unwrap().value(), origin);
        }
        assert_eq!("HTTP://Example.org".parse::<Origin>().unwrap().value(), "http://example.org");
        for wrong in ["", "example.org", "https://example.org/", "https://example.org/a", "https://", "a b"] {
            assert!(matches!(wrong.parse::<Origin>(), Err(Error::Origin(_))), "{wrong:?}");
        }
    }
}
