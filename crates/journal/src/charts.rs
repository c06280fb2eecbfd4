//! Charts of metrics, of one run or several.

use std::path::Path;

use chart::{Chart, Scale, Series, Style};
use checkpoint::RunFolder;
use trainer::{Metrics, Split};

use crate::{History, Result};

/// A metric of a run that can be plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    Loss,
    TokensPerSecond,
    /// Before clipping.
    GradNorm,
    LearningRate,
}

impl Metric {
    /// The key in `metrics.jsonl`.
    pub fn name(self) -> &'static str {
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

/// An image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    Svg,
    Png,
}

impl ImageFormat {
    /// Width and height of the charts in a run folder, in pixels.
    pub const SIZE: [u32; 2] = [900, 500];

    /// The format of a file name's extension; `None` for an unsupported one.
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_string_lossy().to_lowercase();
        match extension.as_str() {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }

    /// Renders a chart to the bytes of an image file. `size` is width and height in pixels.
    ///
    /// # Errors
    ///
    /// If the size is out of range.
    pub fn render(self, chart: &Chart, size: [u32; 2]) -> Result<Vec<u8>, chart::Error> {
        match self {
            Self::Svg => chart.svg(size).map(String::into_bytes),
            Self::Png => chart.png(size),
        }
    }
}

/// Writes the loss charts `loss.svg` and `loss.png` to the run folder.
///
/// # Errors
///
/// If the run can't be read or a file can't be written.
pub fn update_loss_charts(folder: &RunFolder) -> Result<()> {
    let history = History::open(folder.clone())?;
    let chart = chart(std::slice::from_ref(&history), Metric::Loss);
    for (name, format) in [("loss.svg", ImageFormat::Svg), ("loss.png", ImageFormat::Png)] {
        folder.save_picture(name, &format.render(&chart, ImageFormat::SIZE)?)?;
    }
    Ok(())
}

/// A chart of one metric over the steps of one run or several.
pub fn chart(histories: &[History], metric: Metric) -> Chart {
    let several = histories.len() > 1;
    let several_best = histories.iter().filter(|history| history.best().is_some()).count() > 1;
    let curves = histories.iter().enumerate().flat_map(|(idx, history)| match metric {
        Metric::Loss if several => losses_in_comparison(idx, history, several_best),
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

/// The losses of a single run: one colour for training, one for validation.
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

/// The losses of one of several runs: one colour and one legend entry per run. With `has_best`, the entry is followed
/// by the best loss.
fn losses_in_comparison(idx: usize, history: &History, has_best: bool) -> Vec<Series> {
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
    history.metrics_of(split).map(|line| [line.step as f64, metric.of(line).unwrap_or(f64::NAN)]).collect()
}

/// Step and value of the lowest validation loss.
fn best(history: &History) -> Option<[f64; 2]> {
    history.best().and_then(|best| Some([best.step as f64, best.loss?]))
}
