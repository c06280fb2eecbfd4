//! The sources of text that `--data` accepts: a known corpus, a file or folder, or a URL.

use std::path::{Path, PathBuf};

use ::fs::sha256_hex;

use crate::corpus::{Corpus, default_text};
use crate::listing::OpenOptions;
use crate::text::Text;
use crate::{Error, OnProgress, Result, Rules};

/// The source of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Corpus(&'static Corpus),
    /// A file, or a folder of files.
    Path(PathBuf),
    /// The `https://` or `http://` URL of a text file.
    Url(String),
}

impl Source {
    /// Parses a `--data` value: the name of a known corpus, a URL, or an existing path.
    ///
    /// A corpus name takes precedence over a path; `./kjv` is always a path.
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
        // With a separator or an extension, the value is meant as a path.
        if path.components().count() > 1 || path.extension().is_some() {
            return Err(Error::Missing { path: path.into() });
        }
        Err(Error::UnknownCorpus {
            name: value.into(),
            nearest: Corpus::nearest(value).map(String::from),
            known: Corpus::catalog().iter().map(|corpus| corpus.name.clone()).collect(),
        })
    }

    /// The name of this source's folder under the root of prepared data.
    ///
    /// For a corpus, it is the corpus's name. For a path or URL, eight digits of its checksum are added, so that two
    /// files `my.txt` in different folders do not collide.
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

    /// The name used in messages and in `meta.json`.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Corpus(corpus) => corpus.name.clone(),
            Self::Path(path) => path.display().to_string(),
            Self::Url(url) => url.clone(),
        }
    }

    /// Reads the whole text as training sees it: the documents of a folder are joined by a blank line. Downloads are
    /// saved in a folder under `root`, the folder of prepared data.
    ///
    /// # Errors
    ///
    /// If the source can't be read or downloaded, or is not text.
    pub fn read(&self, root: &Path, on_progress: OnProgress<'_>) -> Result<String> {
        let open_options = OpenOptions { root, other_part: None, rules: Rules::NEWEST };
        let text = self.open(&root.join(self.folder_name()?), open_options, on_progress)?;
        let mut whole = String::new();
        text.read(|block| whole += &block.text)?;
        Ok(whole)
    }

    /// The expected SHA-256 of the text, for a known corpus.
    pub(crate) fn sha256(&self) -> Option<&'static str> {
        match self {
            Self::Corpus(corpus) => Some(&corpus.sha256),
            Self::Path(_) | Self::Url(_) => None,
        }
    }

    /// Opens the text. A corpus or URL is first downloaded to `folder/input.txt`, unless that file exists.
    pub(crate) fn open(
        &self,
        folder: &Path,
        open_options: OpenOptions<'_>,
        on_progress: OnProgress<'_>,
    ) -> Result<Text> {
        let input = folder.join("input.txt");
        match self {
            Self::Path(path) => Text::open(path, open_options),
            Self::Corpus(corpus) if corpus.source == crate::CorpusSource::Embedded => {
                Ok(Text::embedded(&corpus.name, default_text()))
            }
            Self::Corpus(corpus) => {
                crate::fetch::corpus(corpus, &input, on_progress)?;
                Text::open(&input, open_options)
            }
            Self::Url(url) => {
                if !input.exists() {
                    crate::fetch::url(url, &input, on_progress)?;
                }
                Text::open(&input, open_options)
            }
        }
    }
}

/// A readable and unique folder name.
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
    fn a_misspelled_name_suggests_the_nearest_corpus() {
        let error = Source::resolve("shakespere").unwrap_err().to_string();
        assert_eq!(
            error,
            "`shakespere` is neither a known corpus nor an existing file or folder (did you mean \
             `shakespeare`?); known corpora: shakespeare, names, kjv, sotu, tinystories-valid, tinystories"
        );
        let error = Source::resolve("qqq").unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
        assert_eq!(Source::resolve("my.txt").unwrap_err().to_string(), "there is no file or folder my.txt");
    }

    #[test]
    fn a_whole_text_joins_all_documents() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "one").unwrap();
        fs::write(folder.path().join("b.txt"), "\u{feff}two\n").unwrap();
        let read = |source: &Source| source.read(&folder.path().join("data"), &|_| ()).unwrap();
        assert_eq!(read(&Source::Path(folder.path().into())), "one\n\ntwo\n");
        assert_eq!(read(&Source::resolve("shakespeare").unwrap()), default_text());
    }

    #[test]
    fn files_of_the_same_name_have_separate_folders() {
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
