//! The tokens of a recipe's data.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    path::{self, Path, PathBuf},
};

use anyhow::Context;
use clap::builder::{OsStringValueParser, TypedValueParser};
use console::{report, warn};
use dataset::{Prepared, Rules, Source, TokenizerChoice, is_stream};
use engine::quoted;
use monitor::with_progress;
use trainer::DataRecipe;

use crate::usage::bail_usage;

/// `--data-dir`, for every command that needs tokens.
#[derive(Debug, clap::Args)]
pub(crate) struct DataDirArgs {
    /// The folder for prepared data.
    #[arg(long, value_name = "DIR", env = "KINDLING_DATA", hide_env_values = true, default_value = DATA_DIR)]
    #[arg(value_parser = OsStringValueParser::new().map(or_default))]
    pub(crate) data_dir: PathBuf,
}

const DATA_DIR: &str = "datasets";

/// An empty variable is one that is not set.
fn or_default(folder: OsString) -> PathBuf {
    if folder.is_empty() { DATA_DIR.into() } else { folder.into() }
}

impl DataDirArgs {
    /// The option, with a space before it, for a command that is to find the same folder.
    pub(crate) fn as_option(&self) -> String {
        match self.data_dir.display().to_string() {
            default if default == DATA_DIR => String::new(),
            folder => format!(" --data-dir {}", quoted(&folder)),
        }
    }
}

/// A recipe's data with the paths of its texts made absolute, so that a run finds them from any folder. Texts that can be
/// read only once are copied to the folder for prepared data, and the copies named.
pub(crate) fn with_absolute_paths(data: DataRecipe, data_dir: &Path) -> anyhow::Result<DataRecipe> {
    if is_stdin(&data.corpus) && data.valid.as_deref().is_some_and(is_stdin) {
        bail_usage!(
            "--data and --valid both name standard input, which is one text; write one of them to a file"
        );
    }
    let kept = |path: &str| -> anyhow::Result<String> {
        if !is_stream(Path::new(path)) {
            return absolute(path);
        }
        if path == "-" && io::stdin().is_terminal() {
            report(format_args!(
                "reading the text from the terminal; Ctrl-D at the beginning of a line ends it"
            ));
        }
        let copy = with_progress(|show| dataset::keep_stream(Path::new(path), data_dir, show))
            .map_err(|error| data_error(error, data_dir))?;
        let name = if path == "-" { "standard input" } else { path };
        report(format_args!("{name} is kept as {}", copy.display()));
        absolute(copy.to_str().with_context(|| {
            format!(
                "the name of {} is not UTF-8, as paths in a recipe are; name another folder with --data-dir",
                copy.display()
            )
        })?)
    };
    let corpus = if is_stream(Path::new(&data.corpus)) {
        kept(&data.corpus)?
    } else {
        match Source::resolve(&data.corpus)? {
            Source::Path(_) => absolute(&data.corpus)?,
            Source::Corpus(_) | Source::Url(_) => data.corpus,
        }
    };
    Ok(DataRecipe { corpus, valid: data.valid.as_deref().map(kept).transpose()?, ..data })
}

fn is_stdin(path: &str) -> bool {
    matches!(path, "-" | "/dev/stdin" | "/dev/fd/0" | "/proc/self/fd/0")
}

fn absolute(path: &str) -> anyhow::Result<String> {
    let absolute = path::absolute(path).with_context(|| format!("cannot find {path}"))?;
    // A recipe is text. A path within a folder whose name is not stays as it was typed.
    Ok(absolute.to_str().unwrap_or(path).to_owned())
}

/// The tokens that a run has trained on, if their checksums are known; else those of its text. Shows the progress if it takes
/// a while.
pub(crate) fn prepare_again(
    data: &DataRecipe,
    choice: &TokenizerChoice,
    data_dir: &Path,
    expected: Option<&[String; 2]>,
) -> anyhow::Result<Prepared> {
    let prepared = with_progress(|show| trainer::prepare_same_data(data, choice, data_dir, expected, show));
    let (prepared, rules) = prepared.map_err(|error| data_error(error, data_dir))?;
    if rules != Rules::NEWEST {
        warn_of_older_rules(data);
    }
    Ok(prepared)
}

/// Warns of a text that was read by older rules.
pub(crate) fn warn_of_older_rules(data: &DataRecipe) {
    warn(format_args!(
        "the run was begun by an older version, which read other files of {}, or read them otherwise; it keeps to that",
        data.corpus
    ));
}

/// The whole text that a `--data` value names.
pub(crate) fn read_text(data: &str, data_dir: &Path) -> anyhow::Result<String> {
    if is_stream(Path::new(data)) {
        return Ok(dataset::read_text(Path::new(data))?);
    }
    let source = Source::resolve(data)?;
    with_progress(|show| source.read(data_dir, show)).map_err(|error| data_error(error, data_dir))
}

/// An error of the folder for prepared data says how to choose another.
pub(crate) fn data_error(error: dataset::Error, data_dir: &Path) -> anyhow::Error {
    match error {
        dataset::Error::Write { .. } | dataset::Error::DiskFull { .. } => {
            anyhow::Error::new(error).context(format!(
                "cannot keep prepared data in {}; name another folder with --data-dir DIR or KINDLING_DATA",
                data_dir.display()
            ))
        }
        error => error.into(),
    }
}

/// Whether a text is not where the recipe says.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(dataset::Error::is_missing)
}
