//! `kindling plot`, and chart files for other commands.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use chart::Chart;
use checkpoint::RunFolder;
use clap::ValueEnum;
use console::report;
use engine::{ModelFolder, is_gguf};
use journal::{History, ImageFormat, Metric, chart};

use crate::{
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
    #[arg(long, value_enum, default_value_t = MetricName::Loss)]
    metric: MetricName,

    /// Image file, .svg or .png; without it, METRIC.svg, as in learning_rate.svg.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Width and height in pixels.
    #[arg(
        long,
        num_args = 2,
        value_names = ["WIDTH", "HEIGHT"],
        default_values_t = ImageFormat::SIZE,
        allow_negative_numbers = true
    )]
    size: Vec<u32>,
}

/// A metric to plot. The aliases are the keys of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum MetricName {
    Loss,
    #[value(alias = "tokens_per_second")]
    TokensPerSecond,
    #[value(alias = "grad_norm")]
    GradNorm,
    #[value(alias = "learning_rate")]
    LearningRate,
}

impl From<MetricName> for Metric {
    fn from(name: MetricName) -> Self {
        match name {
            MetricName::Loss => Self::Loss,
            MetricName::TokensPerSecond => Self::TokensPerSecond,
            MetricName::GradNorm => Self::GradNorm,
            MetricName::LearningRate => Self::LearningRate,
        }
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let metric = Metric::from(args.metric);
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.svg", metric.name())));
    let format = image_format(&output)?;
    let folders = match args.runs.as_slice() {
        [] => vec![models().newest()?],
        runs => runs.iter().map(|run| open_run(run)).collect::<anyhow::Result<_>>()?,
    };
    let histories = folders.into_iter().map(History::open).collect::<Result<Vec<_>, _>>()?;
    if let Some(empty) = histories.iter().find(|history| history.metrics.is_empty()) {
        bail!(
            "{} has no metrics: it was not trained here; name a run that was trained here",
            empty.folder.path().display()
        );
    }
    let image = draw(format, &chart(&histories, metric), [args.size[0], args.size[1]])?;
    fs::write(&output, image)
        .with_context(|| format!("cannot write {}; name another file with -o", output.display()))?;
    report(format_args!("wrote {}", output.display()));
    Ok(ExitCode::SUCCESS)
}

/// The folder of a run. A GGUF file is refused: even imported, it has no metrics.
fn open_run(path: &Path) -> anyhow::Result<RunFolder> {
    if is_gguf(path) {
        bail!("{} is a GGUF file, which has no metrics; name a run that was trained here", path.display());
    }
    Ok(ModelFolder::find(&models(), path)?.folder)
}

/// The image format by the file's extension.
pub(crate) fn image_format(path: &Path) -> anyhow::Result<ImageFormat> {
    match ImageFormat::from_path(path) {
        Some(format) => Ok(format),
        None => bail_usage!("unsupported image format `{}`; use .svg or .png", path.display()),
    }
}

/// Renders a chart as the bytes of an image file.
pub(crate) fn draw(format: ImageFormat, chart: &Chart, size: [u32; 2]) -> anyhow::Result<Vec<u8>> {
    match format.render(chart, size) {
        Err(error @ chart::Error::Size { .. }) => Err(error).usage(),
        image => Ok(image?),
    }
}
