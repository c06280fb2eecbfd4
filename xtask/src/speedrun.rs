//! `cargo xtask speedrun`: the time to given validation losses, compared with nanoGPT's recipe in PyTorch.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context, bail};
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use xshell::{Shell, cmd};

use crate::bench::load::Ticks;
use crate::bench::machine::Machine;
use crate::bench::side::build_kindling;
use crate::common::{read, root, say, write_json};

/// Target losses in nats per character: the final loss of nanoGPT's recipe, and two that it does not reach.
const TARGETS: [f64; 3] = [1.88, 1.60, 1.50];

/// Printed below the table.
const LEGEND: &str =
    "a loss is reached at the first of two consecutive evaluations at or below it, or at the last evaluation";

const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/nanogpt_reference.py");

/// Measure the time to validation losses of 1.88, 1.60 and 1.50 on tiny Shakespeare.
///
/// With --python, nanoGPT's CPU recipe runs in PyTorch alternately with Kindling. Time counts from the first step and
/// includes evaluations and checkpoints, but not the start of the programs. A loss is reached at the first of two
/// consecutive evaluations at or below it, or at the last evaluation. So a single low value of a noisy evaluation does not
/// count. An evaluation has 20 batches, or as many as the recipe sets. The recipe has to train on tiny Shakespeare by
/// characters. Use an otherwise idle machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cargo xtask speedrun
  cargo xtask speedrun tiny --python .venv/bin/python --rounds 3 --threads 2

To install PyTorch: python -m venv .venv && .venv/bin/pip install -r xtask/reference/requirements.txt")]
pub(crate) struct Args {
    /// A preset or a TOML file
    #[arg(default_value = "tiny")]
    recipe: String,

    /// Python interpreter with torch, to compare with PyTorch
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,

    /// Runs of each program, each with another seed
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,

    /// Steps between evaluations
    #[arg(long, value_name = "STEPS", default_value = "50")]
    eval_interval: NonZeroUsize,

    /// Threads per program [default: the number of cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,

    /// kindling binary to measure [default: build one]
    #[arg(long, value_name = "PATH")]
    kindling: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let shell = Shell::new()?;
    let kindling = match &args.kindling {
        Some(path) => path.clone(),
        None => build_kindling(&shell)?,
    };
    let n_threads = args.threads.map_or_else(thread::available_parallelism, Ok)?.get();
    let runner = Runner { kindling, n_threads, args, folder: tempfile::tempdir()? };
    let mut report =
        Report { recipe: args.recipe.clone(), n_threads, machine: Machine::this(), rounds: Vec::new() };
    for number in 0..args.rounds.get() {
        let before = Ticks::read();
        let kindling = runner.kindling(&shell, number)?;
        let pytorch = match &args.python {
            Some(python) => Some(runner.pytorch(&shell, python, number)?),
            None => None,
        };
        let others_share = before.zip(Ticks::read()).map(|(before, after)| after.others_since(before));
        let round = Round { kindling, pytorch, others_share };
        say(&round.text(number + 1, args.rounds.get()));
        report.rounds.push(round);
    }
    say(&report.table().to_string());
    say(LEGEND);
    let name = Path::new(&args.recipe).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let output = root()?.join("target").join("speedrun").join(format!("{name}.json"));
    write_json(&output, &report)?;
    say(&format!("all figures: {}", output.display()));
    Ok(())
}

/// Settings shared by all runs.
struct Runner<'a> {
    kindling: PathBuf,
    n_threads: usize,
    args: &'a Args,
    folder: tempfile::TempDir,
}

impl Runner<'_> {
    fn kindling(&self, shell: &Shell, number: usize) -> anyhow::Result<Run> {
        let (kindling, recipe) = (&self.kindling, &self.args.recipe);
        let run = self.folder.path().join(format!("run-{number}"));
        let settings = [
            format!("schedule.eval_interval={}", self.args.eval_interval),
            format!("run.seed={}", 1337 + number),
        ];
        let [every, seed] = &settings;
        let started = Instant::now();
        cmd!(shell, "{kindling} train {recipe} --run {run} --quiet --no-tui --log none")
            .args(["--set", every, "--set", seed])
            .env("RAYON_NUM_THREADS", self.n_threads.to_string())
            .quiet()
            .run()
            .context("training with kindling failed; its messages are above")?;
        Run::read(&run.join("metrics.jsonl"), started)
    }

    fn pytorch(&self, shell: &Shell, python: &Path, number: usize) -> anyhow::Result<Run> {
        let text = self.folder.path().join("shakespeare.txt");
        fs::write(&text, dataset::default_text())?;
        let metrics = self.folder.path().join(format!("pytorch-{number}.jsonl"));
        let every = self.args.eval_interval.to_string();
        let n_threads = self.n_threads.to_string();
        let started = Instant::now();
        cmd!(shell, "{python} {REFERENCE} {text} --metrics {metrics} --eval-interval {every}")
            .args(["--threads", &n_threads, "--seed", &(1337 + number).to_string()])
            .env("OMP_NUM_THREADS", &n_threads)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .quiet()
            .ignore_stdout()
            .run()
            .context("training with PyTorch failed; its messages are above")?;
        Run::read(&metrics, started)
    }
}

/// One line of `metrics.jsonl`; other keys are ignored.
#[derive(Debug, Deserialize)]
struct Line {
    split: String,
    /// `None` if it was not finite.
    loss: Option<f64>,
    elapsed_seconds: f64,
}

/// The result of one training run.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Run {
    /// For each of [`TARGETS`], if it was reached.
    seconds_to: [Option<f64>; TARGETS.len()],
    best_loss: f64,
    /// From the first step to the last evaluation.
    training_seconds: f64,
    /// From the start of the program to its end.
    wall_seconds: f64,
}

impl Run {
    fn read(metrics: &Path, started: Instant) -> anyhow::Result<Self> {
        let wall_seconds = started.elapsed().as_secs_f64();
        Self::of(&read(metrics)?, wall_seconds).with_context(|| format!("cannot read {}", metrics.display()))
    }

    fn of(text: &str, wall_seconds: f64) -> anyhow::Result<Self> {
        let lines: Vec<Line> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let evaluations: Vec<&Line> = lines.iter().filter(|line| line.split == "valid").collect();
        let Some(last) = evaluations.last() else { bail!("no evaluation was logged") };
        Ok(Self {
            seconds_to: TARGETS.map(|target| seconds_to(&evaluations, target)),
            best_loss: evaluations.iter().filter_map(|line| line.loss).fold(f64::INFINITY, f64::min),
            training_seconds: last.elapsed_seconds,
            wall_seconds,
        })
    }
}

/// The time of the first evaluation at or below the target whose successor, if any, is too. Evaluations are noisy, so a
/// single low value does not count.
fn seconds_to(evaluations: &[&Line], target: f64) -> Option<f64> {
    let is_reached = |line: &Line| line.loss.is_some_and(|loss| loss <= target);
    let stays = |idx: usize| evaluations[idx..].iter().take(2).all(|line| is_reached(line));
    (0..evaluations.len()).find(|&idx| stays(idx)).map(|idx| evaluations[idx].elapsed_seconds)
}

#[derive(Debug, Serialize)]
struct Round {
    kindling: Run,
    pytorch: Option<Run>,
    /// CPU share of other processes, from 0 to 1, if the system reports it.
    others_share: Option<f64>,
}

impl Round {
    fn text(&self, number: usize, n_rounds: usize) -> String {
        let of = |name: &str, run: &Run| format!("{name} {:.4} in {:.1} s", run.best_loss, run.wall_seconds);
        let mut parts = vec![of("kindling", &self.kindling)];
        parts.extend(self.pytorch.as_ref().map(|run| of("PyTorch", run)));
        parts.extend(
            self.others_share.map(|share| format!("other processes used {:.1} % of the CPU", 100.0 * share)),
        );
        format!("round {number} of {n_rounds}: {}", parts.join(", "))
    }
}

#[derive(Debug, Serialize)]
struct Report {
    recipe: String,
    n_threads: usize,
    machine: Machine,
    rounds: Vec<Round>,
}

impl Report {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["median of rounds", &self.recipe, "nanoGPT in PyTorch", "ratio"]);
        for (idx, target) in TARGETS.iter().enumerate() {
            let [ours, theirs] = self.medians(|run| run.seconds_to[idx]);
            table.add_row([
                format!("seconds to a loss of {target:.2}"),
                number(ours, 1),
                number(theirs, 1),
                number(ours.zip(theirs).map(|(ours, theirs)| ours / theirs), 3),
            ]);
        }
        for (name, decimals, figure) in [
            ("best loss", 4, (|run| Some(run.best_loss)) as fn(&Run) -> Option<f64>),
            ("seconds of training", 1, |run| Some(run.training_seconds)),
            ("seconds of the program", 1, |run| Some(run.wall_seconds)),
        ] {
            let [ours, theirs] = self.medians(figure);
            let ratio = number(ours.zip(theirs).map(|(ours, theirs)| ours / theirs), 3);
            table.add_row([name.to_owned(), number(ours, decimals), number(theirs, decimals), ratio]);
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// Medians of both programs over the rounds; `None` if most rounds have no value.
    fn medians(&self, figure: impl Fn(&Run) -> Option<f64>) -> [Option<f64>; 2] {
        let ours = self.rounds.iter().map(|round| figure(&round.kindling));
        let theirs = self.rounds.iter().map(|round| round.pytorch.as_ref().and_then(&figure));
        [median(ours.collect()), median(theirs.collect())]
    }
}

/// The median, and of an even number the larger of the middle two. Missing values count as infinite.
fn median(mut figures: Vec<Option<f64>>) -> Option<f64> {
    figures.sort_by(|a, b| a.unwrap_or(f64::INFINITY).total_cmp(&b.unwrap_or(f64::INFINITY)));
    figures.get(figures.len() / 2).copied().flatten()
}

fn number(figure: Option<f64>, decimals: usize) -> String {
    figure.map_or_else(|| "-".to_owned(), |figure| format!("{figure:.decimals$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = r#"{"step":10,"split":"train","loss":1.2,"elapsed_seconds":1.0}
{"step":20,"split":"valid","loss":null,"elapsed_seconds":2.0}
{"step":50,"split":"valid","loss":1.88,"elapsed_seconds":5.0}
{"step":100,"split":"valid","loss":1.59,"elapsed_seconds":9.0}
{"step":150,"split":"valid","loss":1.61,"elapsed_seconds":13.0}
{"step":200,"split":"valid","loss":1.60,"elapsed_seconds":17.0}
{"step":250,"split":"valid","loss":1.58,"elapsed_seconds":21.0}
{"step":300,"split":"valid","loss":1.50,"elapsed_seconds":25.0}"#;

    #[test]
    fn a_loss_is_reached_at_the_first_of_two_low_evaluations_or_at_the_last() {
        let run = Run::of(METRICS, 30.0).unwrap();
        assert_eq!(run.seconds_to, [Some(5.0), Some(17.0), Some(25.0)], "not at the dip after 9 s");
        assert_eq!((run.best_loss, run.training_seconds, run.wall_seconds), (1.50, 25.0, 30.0));
        // With fewer lines: 1.60 is reached once without confirmation, and then at the last evaluation.
        let shorter = METRICS.lines().take(5).collect::<Vec<_>>().join("\n");
        assert_eq!(Run::of(&shorter, 20.0).unwrap().seconds_to, [Some(5.0), None, None]);
        let to_17 = METRICS.lines().take(6).collect::<Vec<_>>().join("\n");
        assert_eq!(Run::of(&to_17, 20.0).unwrap().seconds_to[1], Some(17.0));
        // A loss that is not finite reaches no target.
        let broken = METRICS.replace("1.59", "null");
        assert_eq!(Run::of(&broken, 30.0).unwrap().seconds_to[0], Some(13.0));
        assert!(Run::of("", 1.0).is_err());
    }

    #[test]
    fn a_target_that_most_rounds_missed_has_no_median() {
        assert_eq!(median(vec![Some(3.0), None, Some(1.0)]), Some(3.0));
        assert_eq!(median(vec![Some(3.0), None, None]), None);
        assert_eq!(median(Vec::new()), None);
    }
}
