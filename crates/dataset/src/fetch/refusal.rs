//! What is said of a download that fails or is not what was expected.

use crate::{Error, Result};

/// What to do when a text cannot be had.
pub(super) const ADVICE: &str = "if this machine is offline, run the same command once with a connection, or download the \
                      text elsewhere and give its path as --data";

/// Fails unless a checksum is the one expected.
pub(super) fn check(what: &str, got: &str, expected: &str) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Checksum {
        what: what.into(),
        expected: expected.into(),
        got: got.into(),
        advice:
            "its source may have changed, or the download was cut off; try again, or get the text elsewhere \
                 and give its path as --data"
                .into(),
    })
}
