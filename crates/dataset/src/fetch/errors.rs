//! Errors of downloads: the advice, and the checksum test.

use crate::{Error, Result};

/// The advice for a failed download.
pub(super) const ADVICE: &str = "if this machine is offline, run the same command once with a connection, or download the \
                      text elsewhere and give its path with --data";

/// Fails if a checksum is not the expected one.
pub(super) fn check(what: &str, got: &str, expected: &str) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    Err(Error::Checksum {
        what: what.into(),
        expected: expected.into(),
        got: got.into(),
        advice:
            "the source may have changed, or the download was incomplete; try again, or download the text elsewhere \
                 and give its path with --data"
                .into(),
    })
}
