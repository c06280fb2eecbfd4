//! What `--data` names: a known corpus, a file or folder, or an address.

use std::path::{Path, PathBuf};

use ::fs::sha256_hex;

use crate::corpus::{Corpus, default_text};
use crate::listing::Opening;
use crate::text::Text;
use crate::{Error, OnProgress, Result, Rules};

/// Where a text is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A known corpus.
    Corpus(&'static Corpus),
    /// A file, or a folder of files.
    Path(PathBuf),
    /// The address of a text file, `https://` or `http://`.
    Url(String),
}

impl Source {
    /// Understands a `--data` value: the name of a known corpus, else an address, else an existing path.
    ///
    /// A name wins over a path; `./kjv` is always a path.
    pub fn resolve(value: &str) -> Result<Self> {
        if let Some(corpus) = Corpus::find(value) {
            return Ok(Self::Corpus(corpus));
        }
        if value.starts_with("https://") || value.starts_with("http://") {
            return Ok(Self::Url(value.into()));
        }
        let path = Path::new(value);
        if path.exists() {
            return Ok(Self::Path(path.into()));
        }
        if path.is_symlink() {
            return Err(Error::missing(path));
        }
        // Who writes a separator or an extension does not mean a corpus.
        if path.components().count() > 1 || path.extension().is_some() {
            return Err(Error::Missing { path: path.into() });
        }
        Err(Error::UnknownCorpus {
            name: value.into(),
            nearest: Corpus::nearest(value).map(String::from),
            known: Corpus::catalog().iter().map(|corpus| corpus.name.clone()).collect(),
        })
    }

    /// The folder, under the root of prepared data, that holds everything made from this source.
    ///
    /// A corpus has its name. Others add eight digits of a checksum of where they are, so that two files
    /// `my.txt` in different folders do not meet.
    pub(crate) fn folder_name(&self) -> Result<String> {
        match self {
            Self::Corpus(corpus) => Ok(corpus.name.clone()),
            Self::Path(path) => {
                let path = path.canonicalize().map_err(|source| Error::read(path, source))?;
                let stem = if path.is_dir() { path.file_name() } else { path.file_stem() };
                let stem = stem.unwrap_or_default().to_string_lossy();
                Ok(with_checksum(&stem, path.as_os_str().as_encoded_bytes()))
            }
            Self::Url(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                let file = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
                Ok(with_checksum(stem, url.as_bytes()))
            }
        }
    }

    /// How messages and the sidecar call it.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Corpus(corpus) => corpus.name.clone(),
            Self::Path(path) => path.display().to_string(),
            Self::Url(url) => url.clone(),
        }
    }

    /// The whole text, as it would be trained on: the documents of a folder are joined by a blank line. A download goes to
    /// a folder under `root`, the folder of prepared data.
    ///
    /// # Errors
    ///
    /// If it can't be read or downloaded, or is not text.
    pub fn read(&self, root: &Path, on_progress: OnProgress<'_>) -> Result<String> {
        let opening = Opening { root, other_part: None, rules: Rules::NEWEST };
        let text = self.open(&root.join(self.folder_name()?), opening, on_progress)?;
        let mut whole = String::new();
        text.read(|block| whole += &block.text)?;
        Ok(whole)
    }

    /// The checksum its text must have, if it is a known one.
    pub(crate) fn sha256(&self) -> Option<&'static str> {
        match self {
            Self::Corpus(corpus) => Some(&corpus.sha256),
            Self::Path(_) | Self::Url(_) => None,
        }
    }

    /// The text, downloaded to `input.txt` of `folder` if it has to be and is not there yet.
    pub(crate) fn open(
        &self,
        folder: &Path,
        opening: Opening<'_>,
        on_progress: OnProgress<'_>,
    ) -> Result<Text> {
        let input = folder.join("input.txt");
        match self {
            Self::Path(path) => Text::open(path, opening),
            Self::Corpus(corpus) if corpus.source == crate::CorpusSource::Embedded => {
                Ok(Text::embedded(&corpus.name, default_text()))
            }
            Self::Corpus(corpus) => {
                crate::fetch::corpus(corpus, &input, on_progress)?;
                Text::open(&input, opening)
            }
            Self::Url(url) => {
                if !input.exists() {
                    crate::fetch::url(url, &input, on_progress)?;
                }
                Text::open(&input, opening)
            }
        }
    }
}

/// A name for a folder, readable and unique.
fn with_checksum(stem: &str, unique: &[u8]) -> String {
    let keep = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '-' };
    let stem: String = stem.chars().map(keep).take(40).collect();
    let stem = match stem.trim_matches('-') {
        "" => "text",
        stem => stem,
    };
    format!("{stem}-{}", &sha256_hex(unique)[..8])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_is_a_corpus_and_an_existing_path_a_path() {
        assert_eq!(Source::resolve("kjv").unwrap(), Source::Corpus(Corpus::find("kjv").unwrap()));
        assert_eq!(Source::resolve("https://a.b/c.txt").unwrap(), Source::Url("https://a.b/c.txt".into()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(Source::resolve(path).unwrap(), Source::Path(path.into()));
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_right_one() {
        let error = Source::resolve("shakespere").unwrap_err().to_string();
        assert_eq!(
            error,
            "`shakespere` is neither a known corpus nor an existing file or folder (did you mean \
             `shakespeare`?); known are shakespeare, names, kjv, sotu, tinystories-valid, tinystories"
        );
        let error = Source::resolve("qqq").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
        assert_eq!(Source::resolve("my.txt").unwrap_err().to_string(), "there is no file or folder my.txt");
    }

    #[test]
    fn a_whole_text_is_that_of_all_its_documents() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "one").unwrap();
        fs::write(folder.path().join("b.txt"), "\u{feff}two\n").unwrap();
        let read = |source: &Source| source.read(&folder.path().join("data"), &|_| ()).unwrap();
        assert_eq!(read(&Source::Path(folder.path().into())), "one\n\ntwo\n");
        assert_eq!(read(&Source::resolve("shakespeare").unwrap()), default_text());
    }

    #[test]
    fn files_of_one_name_have_folders_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let name_of = |path: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "text").unwrap();
            Source::Path(path).folder_name().unwrap()
        };
        let (one, other) = (name_of("one/my novel.txt"), name_of("other/my novel.txt"));
        assert!(one.starts_with("my-novel-") && other.starts_with("my-novel-"), "{one}, {other}");
        assert_ne!(one, other);
        assert_eq!(one, name_of("one/my novel.txt"));
        assert!(name_of("Ὀδύσσεια.txt").starts_with("Ὀδύσσεια-"));
        assert!(Source::Url("https://a.b/c/d.txt?x=/y".into()).folder_name().unwrap().starts_with("d-"));
        assert!(name_of("....txt").starts_with("text-"), "{}", name_of("....txt"));
    }
}
