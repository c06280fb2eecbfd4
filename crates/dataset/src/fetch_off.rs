//! Stands in for `fetch` where the crate is built without that feature.

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
        reason: "this program was built without the feature `fetch`".into(),
        advice: "build it with that feature, or download the text and give its path as --data".into(),
    }
}
