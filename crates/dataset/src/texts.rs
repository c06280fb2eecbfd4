//! The training text and, if there is a separate one, the validation text.

use std::cell::OnceCell;
use std::path::Path;

use tracing::subscriber::NoSubscriber;

use crate::listing::{OpenOptions, OtherPart};
use crate::sniff::Encoding;
use crate::source_file::{SourceFile, identity};
use crate::text::{Document, Text};
use crate::{OnProgress, Options, Result, Rules, Source};

/// The training and validation texts. Each is opened once, when first needed; only then are skipped files reported.
pub(crate) struct Texts<'a> {
    source: &'a Source,
    options: &'a Options,
    /// The folder for downloads.
    folder: &'a Path,
    train: OnceCell<Text>,
    valid: OnceCell<Option<Text>>,
}

/// Whether older rules would read other files of a folder than the newest rules, or decode them differently.
///
/// False for corpora and URLs: nothing is downloaded.
pub fn rules_matter(source: &Source, options: &Options) -> bool {
    let Source::Path(path) = source else { return false };
    let readings = |rules| Texts::new(source, &Options { rules, ..options.clone() }, path).readings().ok();
    // Skipped files have been reported already.
    tracing::subscriber::with_default(NoSubscriber::default(), || {
        readings(Rules::V1) != readings(Rules::NEWEST)
    })
}

impl<'a> Texts<'a> {
    pub(crate) fn new(source: &'a Source, options: &'a Options, folder: &'a Path) -> Self {
        Self { source, options, folder, train: OnceCell::new(), valid: OnceCell::new() }
    }

    /// The training text. In a folder, files of the validation text and their copies are skipped.
    pub(crate) fn train(&self, on_progress: OnProgress<'_>) -> Result<&Text> {
        if let Some(text) = self.train.get() {
            return Ok(text);
        }
        let (valid, identities) = match self.valid()? {
            Some(valid) => (valid.files(), valid.identities()?),
            None => Default::default(),
        };
        let options =
            self.open_options(OtherPart { name: "validation", identities: &identities, files: &valid });
        let text = self.source.open(self.folder, options, on_progress)?;
        let is_shared = !self.options.rules.is_v1() && !text.identities()?.is_disjoint(&identities);
        if is_shared {
            tracing::warn!(
                "{} is in both the training and the validation text; give another text with --valid",
                text.name
            );
        }
        Ok(self.train.get_or_init(|| text))
    }

    /// The validation text. In a folder, the training file and its copies are skipped.
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
                Some(Text::open(path, self.open_options(train))?)
            }
        };
        Ok(self.valid.get_or_init(|| valid).as_ref())
    }

    /// The files of both texts and their encodings.
    fn readings(&self) -> Result<Vec<(SourceFile, Encoding)>> {
        let texts = [Some(self.train(&|_| ())?), self.valid()?];
        let documents = texts.into_iter().flatten().flat_map(|text| &text.documents);
        let reading = |document: &Document| match document {
            Document::Embedded(_) => None,
            Document::File(file) => Some((file.file.clone(), file.encoding)),
        };
        Ok(documents.filter_map(reading).collect())
    }

    fn open_options<'b>(&'b self, other_part: OtherPart<'b>) -> OpenOptions<'b> {
        let Options { root, rules, .. } = self.options;
        OpenOptions { root, other_part: Some(other_part), rules: *rules }
    }
}
