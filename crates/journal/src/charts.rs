//! Charts of the metrics of runs.

use std::path::Path;

use chart::{Chart, Scale, Series, Style};
use checkpoint::RunFolder;
use trainer::{Metrics, Split};

use crate::{History, Result};

/// A metric of a run that can be plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Training and validation loss.
    Loss,
    /// Speed of training.
    TokensPerSecond,
    /// The norm of the gradient before clipping.
    GradNorm,
    /// The learning rate.
    LearningRate,
}

impl Metric {
    /// Its key in `metrics.jsonl`.
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
pub enum Picture {
    /// SVG
    Svg,
    /// PNG
    Png,
}

impl Picture {
    /// The size of the pictures in a run's folder, in pixels.
    pub const SIZE: [u32; 2] = [900, 500];

    /// The format that a file's name ends in, if it is one of these.
    pub fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_string_lossy().to_lowercase();
        match extension.as_str() {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }

    /// A chart as the bytes of a file, with width and height in pixels.
    ///
    /// # Errors
    ///
    /// If the size is out of range.
    pub fn draw(self, chart: &Chart, size: [u32; 2]) -> Result<Vec<u8>, chart::Error> {
        match self {
            Self::Svg => chart.svg(size).map(String::into_bytes),
            Self::Png => chart.png(size),
        }
    }
}

/// Writes `loss.svg` and `loss.png` of a run.
///
/// # Errors
///
/// If the run can't be read or a file not be written.
pub fn update_pictures(folder: &RunFolder) -> Result<()> {
    let history = History::open(folder.clone())?;
    let chart = chart(std::slice::from_ref(&history), Metric::Loss);
    for (name, picture) in [("loss.svg", Picture::Svg), ("loss.png", Picture::Png)] {
        folder.save_picture(name, &picture.draw(&chart, Picture::SIZE)?)?;
    }
    Ok(())
}

/// The chart of a metric, of one run or of several.
pub fn chart(histories: &[History], metric: Metric) -> Chart {
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
