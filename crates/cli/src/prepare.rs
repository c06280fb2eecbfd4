//! Prepares the data of a recipe: from texts to tokens in the data folder.

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

/// `--data-dir`, for commands that need tokens.
#[derive(Debug, clap::Args)]
pub(crate) struct DataDirArgs {
    /// Folder for prepared data.
    #[arg(long, value_name = "DIR", env = "KINDLING_DATA", hide_env_values = true, default_value = DATA_DIR)]
    #[arg(value_parser = OsStringValueParser::new().map(or_default))]
    pub(crate) data_dir: PathBuf,
}

const DATA_DIR: &str = "datasets";

/// The default folder if the environment variable is empty.
fn or_default(folder: OsString) -> PathBuf {
    if folder.is_empty() { DATA_DIR.into() } else { folder.into() }
}

impl DataDirArgs {
    /// The option with a leading space, to append to a suggested command; empty for the default folder.
    pub(crate) fn as_option(&self) -> String {
        match self.data_dir.display().to_string() {
            default if default == DATA_DIR => String::new(),
            folder => format!(" --data-dir {}", quoted(&folder)),
        }
    }
}

/// Makes the paths of a recipe's texts absolute, so that a run finds them from any working directory. Standard input
/// and pipes are copied to the data folder, and the recipe names the copies.
pub(crate) fn with_absolute_paths(data: DataRecipe, data_dir: &Path) -> anyhow::Result<DataRecipe> {
    if is_stdin(&data.corpus) && data.valid.as_deref().is_some_and(is_stdin) {
        bail_usage!("--data and --valid can't both be standard input; save one of the texts to a file");
    }
    let kept = |path: &str| -> anyhow::Result<String> {
        if !is_stream(Path::new(path)) {
            return absolute(path);
        }
        if path == "-" && io::stdin().is_terminal() {
            report(format_args!(
                "reading the text from the terminal; end it with Ctrl-D at the start of a line"
            ));
        }
        let copy = with_progress(|show| dataset::save_stream(Path::new(path), data_dir, show))
            .map_err(|error| data_error(error, data_dir))?;
        let name = if path == "-" { "standard input" } else { path };
        report(format_args!("saved {name} as {}", copy.display()));
        absolute(copy.to_str().with_context(|| {
            format!(
                "the path {} is not UTF-8, which a recipe requires; choose another folder with --data-dir",
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
    // A recipe is UTF-8. If the working directory's path is not, keep the path as typed.
    Ok(absolute.to_str().unwrap_or(path).to_owned())
}

/// The tokens that a run has trained on: by their checksums if these are known, otherwise from the recipe's text. Shows
/// progress if it takes a while.
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

/// Warns that a text is read by the rules of an older version.
pub(crate) fn warn_of_older_rules(data: &DataRecipe) {
    warn(format_args!(
        "this run was started by an older version of kindling; the files of {} are still read by the rules of that version",
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

/// Adds to an error of the data folder how to choose another one.
pub(crate) fn data_error(error: dataset::Error, data_dir: &Path) -> anyhow::Error {
    match error {
        dataset::Error::Write { .. } | dataset::Error::DiskFull { .. } => {
            anyhow::Error::new(error).context(format!(
                "cannot write prepared data to {}; choose another folder with --data-dir DIR or KINDLING_DATA",
                data_dir.display()
            ))
        }
        error => error.into(),
    }
}

/// Whether the text named by a recipe does not exist.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(dataset::Error::is_missing)
}
