//! The tokens of a recipe's data. Their progress is a bar on a terminal, and plain lines elsewhere.

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
    path::{self, Path, PathBuf},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::builder::{OsStringValueParser, TypedValueParser};
use dataset::{OnProgress, Phase, Prepared, Progress, Rules, Source, TokenizerChoice, is_stream};
use engine::quoted;
use journal::words::count;
use trainer::DataRecipe;

use crate::{
    console::{progress_bar, progress_style, report, warn},
    usage::bail_usage,
};

/// Elsewhere than on a terminal, a line at most this often.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// The bar of a phase that is counted in bytes.
const BYTES: &str = "{msg} {bar:24} {bytes}/{total_bytes}  {eta} left";

/// The bar of a phase that is counted in merges.
const MERGES: &str = "{msg} {bar:24} {human_pos}/{human_len}  {eta} left";

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

/// Shows the progress of work on a text.
pub(crate) fn with_progress<T, E>(work: impl FnOnce(OnProgress<'_>) -> Result<T, E>) -> Result<T, E> {
    let bar = progress_bar(BYTES);
    let lines = Mutex::new(Lines::default());
    let shown = Mutex::new(None);
    let show = |progress: Progress| {
        let phase = progress.phase;
        if shown.lock().expect("nothing panics with the lock").replace(phase) != Some(phase) {
            bar.reset();
            bar.set_style(progress_style(if phase == Phase::LearnMerges { MERGES } else { BYTES }));
            bar.set_message(phase.to_string());
        }
        match progress.total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(progress.done);
        if bar.is_hidden() {
            let line = lines.lock().expect("nothing panics with the lock").line(progress, Instant::now());
            if let Some(line) = line {
                report(format_args!("{line}"));
            }
        }
    };
    let done = work(&show);
    bar.finish_and_clear();
    done
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

/// When it is time for a line.
#[derive(Default)]
struct Lines {
    /// The phase, when it began or had its last line, and how many tenths of it were done then.
    last: Option<(Phase, Instant, u64)>,
}

impl Lines {
    /// A line for each tenth of a phase, and not more than one in each interval: a short one has none.
    fn line(&mut self, progress: Progress, now: Instant) -> Option<String> {
        let Progress { phase, done, total } = progress;
        let tenth = total.map(|total| 10 * done / total.max(1));
        let Some((_, time, last_tenth)) = self.last.filter(|&(last, ..)| last == phase) else {
            self.last = Some((phase, now, 0));
            return None;
        };
        if now.duration_since(time) < LINE_INTERVAL || tenth.is_some_and(|tenth| tenth <= last_tenth) {
            return None;
        }
        self.last = Some((phase, now, tenth.unwrap_or_default()));
        Some(match total {
            Some(total) => {
                format!("{phase}: {}% of {} {}", 100 * done / total.max(1), count(total), phase.unit())
            }
            None => format!("{phase}: {} {}", count(done), phase.unit()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of a phase that tells every second how far it is.
    fn lines(phase: Phase, total: Option<u64>, done: impl Iterator<Item = u64>) -> Vec<String> {
        let start = Instant::now();
        let mut lines = Lines::default();
        let second = |idx: usize| start + Duration::from_secs(idx as u64);
        done.enumerate()
            .filter_map(|(idx, done)| lines.line(Progress { phase, done, total }, second(idx)))
            .collect()
    }

    #[test]
    fn a_long_phase_has_a_line_for_each_tenth() {
        let found = lines(Phase::Encode, Some(4_000_000_000), (0..=100).map(|idx| idx * 40_000_000));
        assert_eq!(found.len(), 10, "{found:?}");
        assert_eq!(found[0], "encoding: 10% of 4.0G bytes");
        assert_eq!(found[9], "encoding: 100% of 4.0G bytes");
    }

    #[test]
    fn lines_are_never_close_together() {
        let found = lines(Phase::Read, Some(100), (0..=20).map(|idx| idx * 5));
        assert_eq!(found, ["reading: 50% of 100 bytes", "reading: 100% of 100 bytes"]);
        assert!(lines(Phase::Read, Some(100), (0..=9).map(|idx| idx * 11)).is_empty(), "a short phase");
        assert_eq!(lines(Phase::Fetch, None, 0..=10), ["fetching: 10 bytes"]);
    }

    #[test]
    fn merges_are_counted_as_merges() {
        let found = lines(Phase::LearnMerges, Some(3839), (0..=20).map(|idx| idx * 100));
        assert_eq!(found, ["learning merges: 26% of 3.8k merges", "learning merges: 52% of 3.8k merges"]);
    }
}
