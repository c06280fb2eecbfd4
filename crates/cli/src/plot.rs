//! `kindling plot`, and the charts of a run's losses.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use chart::{Chart, Scale, Series, Style};
use checkpoint::RunFolder;
use clap::ValueEnum;
use engine::{ModelFolder, is_gguf};
use trainer::{Metrics, Split};

use crate::{
    console::report,
    history::History,
    model_args::models,
    usage::{ResultExt, bail_usage},
};

/// Plots the metrics of a run, or of several runs in one chart.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kindling plot                                   the losses of the newest run, in loss.svg
  kindling plot baseline wider -o compared.png    two runs in one chart
  kindling plot --metric learning-rate")]
pub(crate) struct Args {
    /// Run names or folders; without any, the newest run.
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// Metric to plot.
    #[arg(long, value_enum, default_value_t = Metric::Loss)]
    metric: Metric,

    /// Image file, .svg or .png; without it, METRIC.svg, as in learning_rate.svg.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Width and height in pixels.
    #[arg(
        long,
        num_args = 2,
        value_names = ["WIDTH", "HEIGHT"],
        default_values_t = SIZE,
        allow_negative_numbers = true
    )]
    size: Vec<u32>,
}

/// What can be plotted of a run. The aliases are the keys of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Metric {
    Loss,
    #[value(alias = "tokens_per_second")]
    TokensPerSecond,
    #[value(alias = "grad_norm")]
    GradNorm,
    #[value(alias = "learning_rate")]
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
            Self::GradNorm => "gradient norm",
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
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.svg", args.metric.name())));
    let format = Format::of(&output)?;
    let folders = match args.runs.as_slice() {
        [] => vec![models().newest()?],
        runs => runs.iter().map(|run| open_run(run)).collect::<anyhow::Result<_>>()?,
    };
    let histories = folders.into_iter().map(History::open).collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(empty) = histories.iter().find(|history| history.metrics.is_empty()) {
        bail!(
            "{} has no metrics: it was not trained here; name a run that was",
            empty.folder.path().display()
        );
    }
    let image = format.draw(&chart(&histories, args.metric), [args.size[0], args.size[1]])?;
    fs::write(&output, image)
        .with_context(|| format!("cannot write {}; name another file with -o", output.display()))?;
    report(format_args!("wrote {}", output.display()));
    Ok(ExitCode::SUCCESS)
}

/// The folder of a run. A GGUF file has no metrics, and imported it has none either.
fn open_run(path: &Path) -> anyhow::Result<RunFolder> {
    if is_gguf(path) {
        bail!("{} is a GGUF file, which has no metrics; name a run that was trained here", path.display());
    }
    Ok(ModelFolder::find(&models(), path)?.folder)
}

/// An image format.
#[derive(Debug, Clone, Copy)]
enum Format {
    Svg,
    Png,
}

impl Format {
    /// The format that a file's name asks for.
    fn of(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().map(|it| it.to_string_lossy().to_lowercase());
        match extension.as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            _ => bail_usage!("unsupported image format `{}`; use .svg or .png", path.display()),
        }
    }

    /// A chart as the bytes of a file.
    fn draw(self, chart: &Chart, size: [u32; 2]) -> anyhow::Result<Vec<u8>> {
        let image = match self {
            Self::Svg => chart.svg(size).map(String::into_bytes),
            Self::Png => chart.png(size),
        };
        match image {
            Err(error @ chart::Error::Size { .. }) => Err(error).usage(),
            image => Ok(image?),
        }
    }
}

/// A chart as the bytes of a file, in the format that its name asks for.
pub(crate) fn draw(chart: &Chart, output: &Path, size: [u32; 2]) -> anyhow::Result<Vec<u8>> {
    Format::of(output)?.draw(chart, size)
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
    let several = histories.len() > 1;
    let several_best = histories.iter().filter(|history| history.best().is_some()).count() > 1;
    let curves = histories.iter().enumerate().flat_map(|(idx, history)| match metric {
        Metric::Loss if several => losses_among_others(idx, history, several_best),
        Metric::Loss => losses(history),
        _ => vec![curve(idx, history, metric, several)],
    });
    let names: Vec<String> = histories.iter().map(|history| history.folder.name()).collect();
    Chart {
        title: names.join(", "),
        x_label: "step".to_owned(),
        x_scale: Scale::Linear,
        y_label: metric.label().to_owned(),
        y_scale: Scale::Linear,
        series: curves.collect(),
    }
}

/// The losses of one run: training and validation have a colour each.
fn losses(history: &History) -> Vec<Series> {
    vec![
        Series {
            name: "training".to_owned(),
            points: points(history, Split::Train, Metric::Loss),
            style: Style::Pale,
            color: 0,
            marked: None,
        },
        Series {
            name: "validation".to_owned(),
            points: points(history, Split::Valid, Metric::Loss),
            style: Style::Strong,
            color: 1,
            marked: best(history),
        },
    ]
}

/// The losses of one run of several: a colour and a legend entry for each run. With `has_best`, the chart writes the
/// best loss after the entry.
fn losses_among_others(idx: usize, history: &History, has_best: bool) -> Vec<Series> {
    let name = history.folder.name();
    let best = best(history);
    let (train_name, valid_name) = match best {
        None => (name, String::new()),
        Some(_) if has_best => (String::new(), format!("{name}: best")),
        Some(_) => (String::new(), name),
    };
    vec![
        Series {
            name: train_name,
            points: points(history, Split::Train, Metric::Loss),
            style: Style::Pale,
            color: idx,
            marked: None,
        },
        Series {
            name: valid_name,
            points: points(history, Split::Valid, Metric::Loss),
            style: Style::Strong,
            color: idx,
            marked: best,
        },
    ]
}

/// A metric of training.
fn curve(idx: usize, history: &History, metric: Metric, several: bool) -> Series {
    Series {
        name: if several { history.folder.name() } else { "training".to_owned() },
        points: points(history, Split::Train, metric),
        style: Style::Strong,
        color: idx,
        marked: None,
    }
}

fn points(history: &History, split: Split, metric: Metric) -> Vec<[f64; 2]> {
    history.of(split).map(|line| [line.step as f64, metric.of(line).unwrap_or(f64::NAN)]).collect()
}

/// The step and the value of the lowest validation loss.
fn best(history: &History) -> Option<[f64; 2]> {
    history.best().and_then(|best| Some([best.step as f64, best.loss?]))
}
