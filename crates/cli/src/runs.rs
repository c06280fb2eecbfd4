//! `kindling runs`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, bail};
use checkpoint::RunFolder;
use console::{local_time, report, table, warn};
use indicatif::HumanBytes;
use journal::{History, summary::count};
use serde::Serialize;

use crate::model_args::models;

/// Lists runs, the newest last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling runs            the runs in runs/
  kindling runs elsewhere  the runs in another folder
  kindling runs --json     one line of JSON per run")]
pub(crate) struct Args {
    /// Folder of the runs [default: runs].
    #[arg(value_name = "FOLDER")]
    folder: Option<PathBuf>,

    /// Print one line of JSON per run, with the full path of its corpus.
    #[arg(long)]
    json: bool,
}

/// One run, as a row of the table or a line of JSON.
#[derive(Debug, Serialize)]
struct Run {
    name: String,
    /// Name of the preset or path of the recipe that the run was started with.
    recipe: Option<String>,
    /// Name of a known corpus, or a path.
    corpus: Option<String>,
    parameters: usize,
    steps: Option<u64>,
    max_steps: Option<u64>,
    best_loss: Option<f64>,
    /// The process that is training the run now.
    trained_by: Option<String>,
    /// Time of the last change, in seconds since 1970.
    changed: Option<u64>,
    bytes: u64,
}

impl Run {
    fn of(history: &History) -> io::Result<Self> {
        let folder = &history.folder;
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|it| it.as_secs());
        Ok(Self {
            name: folder.name(),
            recipe: history.recipe_name().map(str::to_owned),
            corpus: history.recipe.as_ref().map(|recipe| recipe.data.corpus.clone()),
            parameters: history.config.n_params(),
            steps: history.state.as_ref().map(|state| state.step),
            max_steps: history.recipe.as_ref().map(|recipe| recipe.schedule.max_steps),
            best_loss: history.best().and_then(|best| best.loss),
            trained_by: folder.holder(),
            changed: folder.last_modified().and_then(seconds),
            bytes: size_of(folder.path())?,
        })
    }

    fn row(&self) -> [String; 8] {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let steps = match (self.steps, self.max_steps) {
            (Some(steps), Some(max_steps)) => Some(format!("{steps}/{max_steps}")),
            (steps, _) => steps.map(|steps| steps.to_string()),
        };
        let changed = match (&self.trained_by, self.changed) {
            (Some(_), _) => Some("training now".to_owned()),
            (None, changed) => changed.map(local_time),
        };
        [
            self.name.clone(),
            or_none(self.recipe.clone()),
            or_none(self.corpus.as_deref().map(last_name)),
            count(self.parameters as u64),
            or_none(steps),
            or_none(self.best_loss.map(|loss| format!("{loss:.4}"))),
            or_none(changed),
            HumanBytes(self.bytes).to_string(),
        ]
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(folder) = args.folder.as_ref().filter(|folder| !folder.is_dir()) {
        bail!("there is no folder {}", folder.display());
    }
    let folder = args.folder.unwrap_or_else(|| models().runs);
    let runs = RunFolder::all(&folder)?;
    if runs.is_empty() && !args.json {
        report(format_args!("there is no run in {}", folder.display()));
    }
    let read = |run| read(run).map_err(|error| warn(format_args!("skipping a run: {error:#}"))).ok();
    let runs: Vec<Run> = runs.into_iter().filter_map(read).collect();
    let mut out = io::stdout().lock();
    if args.json {
        for run in &runs {
            writeln!(out, "{}", serde_json::to_string(run)?)?;
        }
    } else if !runs.is_empty() {
        let header = ["run", "recipe", "corpus", "parameters", "steps", "best loss", "changed", "size"];
        writeln!(out, "{}", table(header, runs.iter().map(Run::row), &[3, 4, 5, 7]))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn read(folder: RunFolder) -> anyhow::Result<Run> {
    let path = folder.path().to_owned();
    Run::of(&History::open(folder)?).with_context(|| format!("cannot read {}", path.display()))
}

/// Total size of the files in a folder, in bytes.
fn size_of(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        total += if facts.is_dir() { size_of(&entry.path())? } else { facts.len() };
    }
    Ok(total)
}

/// The last component of a path; a corpus name is unchanged.
fn last_name(corpus: &str) -> String {
    Path::new(corpus)
        .file_name()
        .map_or_else(|| corpus.to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_shown_by_its_last_name() {
        for (corpus, name) in
            [("shakespeare", "shakespeare"), ("texts/my.txt", "my.txt"), ("texts/", "texts"), ("..", "..")]
        {
            assert_eq!(last_name(corpus), name);
        }
    }
}
