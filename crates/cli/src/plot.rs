//! `kindling plot`, and the pictures of a run's losses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use chart::{Chart, Scale, Series, Style};
use checkpoint::RunFolder;
use clap::ValueEnum;
use trainer::{Metrics, Split};

use crate::{
    console::report,
    history::History,
    model_folder::{newest, open},
};

/// Draws what was measured in runs; several are compared in one picture.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling plot                                   the losses of the newest run, in loss.svg
  kindling plot baseline wider -o compared.png    two runs in one picture
  kindling plot --metric learning-rate")]
pub(crate) struct Args {
    /// Runs; without any, the newest.
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// What to draw.
    #[arg(long, value_enum, default_value_t = Metric::Loss)]
    metric: Metric,

    /// The picture, .svg or .png; without it, METRIC.svg.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Its width and height, in pixels.
    #[arg(long, num_args = 2, value_names = ["WIDTH", "HEIGHT"], default_values_t = SIZE)]
    size: Vec<u32>,
}

/// What can be drawn of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Metric {
    Loss,
    TokensPerSecond,
    GradNorm,
    LearningRate,
}

pub(crate) const SIZE: [u32; 2] = [900, 500];

impl Metric {
    fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::TokensPerSecond => "tokens_per_second",
            Self::GradNorm => "grad_norm",
            Self::LearningRate => "learning_rate",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Loss => "loss (nats per token)",
            Self::TokensPerSecond => "tokens per second",
            Self::GradNorm => "norm of the gradient",
            Self::LearningRate => "learning rate",
        }
    }

    fn of(self, line: &Metrics) -> Option<f64> {
        match self {
            Self::Loss => line.loss,
            Self::TokensPerSecond => line.tokens_per_second,
            Self::GradNorm => line.grad_norm,
            Self::LearningRate => line.learning_rate,
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let folders = match args.runs.as_slice() {
        [] => vec![newest()?],
        runs => runs.iter().map(|run| open(run)).collect::<anyhow::Result<_>>()?,
    };
    let histories = folders.into_iter().map(History::open).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(empty) = histories.iter().find(|history| history.metrics.is_empty()) {
        bail!("{} has no metrics: it was not trained here", empty.folder.path().display());
    }
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.svg", args.metric.name())));
    let size = [args.size[0], args.size[1]];
    let picture = draw(&chart(&histories, args.metric), &output, size)?;
    fs::write(&output, picture).with_context(|| format!("write {}", output.display()))?;
    report(format_args!("drew {}", output.display()));
    Ok(ExitCode::SUCCESS)
}

/// A chart as the bytes of a file, in the form that its name asks for.
pub(crate) fn draw(chart: &Chart, output: &Path, size: [u32; 2]) -> anyhow::Result<Vec<u8>> {
    let extension = output.extension().map(|it| it.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("svg") => Ok(chart.svg(size)?.into_bytes()),
        Some("png") => Ok(chart.png(size)?),
        _ => bail!("{} is no picture's name; end it in .svg or .png", output.display()),
    }
}

/// Writes `loss.svg` and `loss.png` of a run.
pub(crate) fn update_pictures(folder: &RunFolder) -> anyhow::Result<()> {
    let history = History::open(folder.clone())?;
    let chart = chart(std::slice::from_ref(&history), Metric::Loss);
    for name in ["loss.svg", "loss.png"] {
        folder.save_picture(name, &draw(&chart, Path::new(name), SIZE)?)?;
    }
    Ok(())
}

fn chart(histories: &[History], metric: Metric) -> Chart {
    let series =
        histories.iter().enumerate().flat_map(|(idx, history)| curves(idx, history, metric, histories.len()));
    let title = match histories {
        [one] => one.folder.name(),
        several => several.iter().map(|history| history.folder.name()).collect::<Vec<_>>().join(", "),
    };
    Chart {
        title,
        x_label: "step".to_owned(),
        x_scale: Scale::Linear,
        y_label: metric.label().to_owned(),
        y_scale: Scale::Linear,
        series: series.collect(),
    }
}

/// The curves of one run: of its training and, for the loss, of its validation. One run has a colour for each; of
/// several, each run has one.
fn curves(idx: usize, history: &History, metric: Metric, n_runs: usize) -> Vec<Series> {
    let points = |split| -> Vec<[f64; 2]> {
        let value = |line: &Metrics| metric.of(line).unwrap_or(f64::NAN);
        history.of(split).map(|line| [line.step as f64, value(line)]).collect()
    };
    let name = |split: &str| {
        if n_runs == 1 { split.to_owned() } else { format!("{} {split}", history.folder.name()) }
    };
    let train = Series {
        name: name("training"),
        points: points(Split::Train),
        style: if metric == Metric::Loss { Style::Pale } else { Style::Strong },
        color: idx,
        marked: None,
    };
    if metric != Metric::Loss {
        return vec![train];
    }
    let best = history.best().and_then(|best| Some([best.step as f64, best.loss?]));
    let valid = Series {
        name: match best {
            Some([_, loss]) => name(&format!("validation, best {loss:.3}")),
            None => name("validation"),
        },
        points: points(Split::Valid),
        style: Style::Strong,
        color: if n_runs == 1 { 1 } else { idx },
        marked: best,
    };
    vec![train, valid]
}
