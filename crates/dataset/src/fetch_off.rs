//! Replaces `fetch` in builds without that feature: every download is an error.

use std::path::Path;

use crate::corpus::Corpus;
use crate::{Error, OnProgress, Result};

pub(crate) fn corpus(corpus: &Corpus, _input: &Path, _on_progress: OnProgress<'_>) -> Result<()> {
    Err(missing_feature(&corpus.name))
}

pub(crate) fn url(url: &str, _input: &Path, _on_progress: OnProgress<'_>) -> Result<()> {
    Err(missing_feature(url))
}

fn missing_feature(what: &str) -> Error {
    Error::Fetch {
        what: what.into(),
        reason: "kindling was built without the feature `fetch`".into(),
        advice: "enable that feature, or download the text and give its path with --data".into(),
    }
}
