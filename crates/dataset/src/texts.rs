//! The two texts of a corpus: one to train on, and one to validate on if it is a text of its own.

use std::cell::OnceCell;
use std::path::Path;

use tracing::subscriber::NoSubscriber;

use crate::listing::{Opening, OtherPart};
use crate::sniff::Encoding;
use crate::source_file::{SourceFile, identity};
use crate::text::{Document, Text};
use crate::{OnProgress, Options, Result, Rules, Source};

/// They are opened when they are needed first, and only once: what is left out of a folder is said then.
pub(crate) struct Texts<'a> {
    source: &'a Source,
    options: &'a Options,
    /// Where downloads go.
    folder: &'a Path,
    train: OnceCell<Text>,
    valid: OnceCell<Option<Text>>,
}

/// Whether older rules would have other files of a folder read, or read them otherwise, than the newest.
///
/// Only a path that is there can tell; nothing is downloaded.
pub fn rules_matter(source: &Source, options: &Options) -> bool {
    let Source::Path(path) = source else { return false };
    let readings = |rules| Texts::new(source, &Options { rules, ..options.clone() }, path).readings().ok();
    // What is left out has been said.
    tracing::subscriber::with_default(NoSubscriber::default(), || {
        readings(Rules::V1) != readings(Rules::NEWEST)
    })
}

impl<'a> Texts<'a> {
    pub(crate) fn new(source: &'a Source, options: &'a Options, folder: &'a Path) -> Self {
        Self { source, options, folder, train: OnceCell::new(), valid: OnceCell::new() }
    }

    /// The text to train on. A folder is read without the files of the validation text and their copies.
    pub(crate) fn train(&self, on_progress: OnProgress<'_>) -> Result<&Text> {
        if let Some(text) = self.train.get() {
            return Ok(text);
        }
        let (valid, identities) = match self.valid()? {
            Some(valid) => (valid.files(), valid.identities()?),
            None => Default::default(),
        };
        let opening = self.opening(OtherPart { name: "validation", identities: &identities, files: &valid });
        let text = self.source.open(self.folder, opening, on_progress)?;
        let is_shared = !self.options.rules.is_v1() && !text.identities()?.is_disjoint(&identities);
        if is_shared {
            tracing::warn!(
                "{} is both trained on and validated on; name another text with --valid",
                text.name
            );
        }
        Ok(self.train.get_or_init(|| text))
    }

    /// The text to validate on. A folder is read without the file that is trained on and its copies.
    pub(crate) fn valid(&self) -> Result<Option<&Text>> {
        if let Some(valid) = self.valid.get() {
            return Ok(valid.as_ref());
        }
        let valid = match &self.options.valid {
            None => None,
            Some(path) => {
                let train = match self.source {
                    Source::Path(path) if path.is_file() => Some(path),
                    _ => None,
                };
                let files = train.map(|path| SourceFile::stat(path)).transpose()?;
                let identities = train.map(|path| identity(path)).transpose()?.into_iter().collect();
                let train = OtherPart { name: "training", identities: &identities, files: files.as_slice() };
                Some(Text::open(path, self.opening(train))?)
            }
        };
        Ok(self.valid.get_or_init(|| valid).as_ref())
    }

    /// The files of both texts and how each is read.
    fn readings(&self) -> Result<Vec<(SourceFile, Encoding)>> {
        let texts = [Some(self.train(&|_| ())?), self.valid()?];
        let documents = texts.into_iter().flatten().flat_map(|text| &text.documents);
        let reading = |document: &Document| match document {
            Document::Embedded(_) => None,
            Document::File(file) => Some((file.file.clone(), file.encoding)),
        };
        Ok(documents.filter_map(reading).collect())
    }

    fn opening<'b>(&'b self, other_part: OtherPart<'b>) -> Opening<'b> {
        let Options { root, rules, .. } = self.options;
        Opening { root, other_part: Some(other_part), rules: *rules }
    }
}
