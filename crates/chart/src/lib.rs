//! Line charts of training curves, as SVG and as PNG.
//!
//! A [`Chart`] is plain data: texts, and [`Series`] of points. Both formats show the same picture, on a white
//! ground, in colours that colour-blind people can tell apart; the legend is above the curves and hides none.
//!
//! ```
//! use chart::{Chart, Scale, Series, Style};
//!
//! # fn main() -> Result<(), chart::Error> {
//! let chart = Chart {
//!     title: "hamlet".into(),
//!     x_label: "step".into(),
//!     x_scale: Scale::Linear,
//!     y_label: "loss (nats per token)".into(),
//!     y_scale: Scale::Linear,
//!     series: vec![
//!         Series {
//!             name: "training".into(),
//!             points: (0..1000).map(|step| [step.into(), 4.2 / (1.0 + 0.01 * f64::from(step))]).collect(),
//!             style: Style::Pale,
//!             color: 0,
//!             marked: None,
//!         },
//!         Series {
//!             name: "validation".into(),
//!             points: vec![[0.0, 4.2], [500.0, 1.9], [1000.0, 1.6]],
//!             style: Style::Strong,
//!             color: 1,
//!             marked: Some([1000.0, 1.6]),
//!         },
//!     ],
//! };
//! let svg = chart.svg([1200, 600])?;
//! assert!(svg.contains("validation"));
//! let png = chart.png([480, 300])?;
//! assert!(png.starts_with(b"\x89PNG"));
//! # Ok(())
//! # }
//! ```
//!
//! - A value that can't be drawn breaks the line: NaN, infinities, what is beyond ±1e300, and on a logarithmic
//!   scale whatever is not above zero. A point with such neighbours is drawn as a dot.
//! - A chart without a single point is still a picture: it says that there is nothing to show yet.
//! - Lines of more points than pixels are thinned to two points for a column of pixels, the lowest and the
//!   highest, so no spike is lost.
//! - The same chart gives the same bytes.
//!
//! Texts of an SVG are in whatever sans-serif font its reader has. Those of a PNG are in Noto Sans, which has
//! Latin, Greek and Cyrillic; a character of another script is a box there.

mod picture;

mod axis;
mod callout;
mod curves;
mod error;
mod font;
mod frame;
mod layout;
mod legend;
mod look;
mod number;
mod raster;
mod svg;
mod thin;

pub use error::{Error, Result};

/// A picture of some curves over one pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Above the picture; may be empty. Shortened if it does not fit, as all texts are.
    pub title: String,
    /// What the horizontal axis counts, with its unit.
    pub x_label: String,
    /// How the horizontal axis is divided.
    pub x_scale: Scale,
    /// What the vertical axis measures, with its unit.
    pub y_label: String,
    /// How the vertical axis is divided.
    pub y_scale: Scale,
    /// The curves. Pale ones are drawn beneath strong ones.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What the legend says; with an empty name it says nothing.
    pub name: String,
    /// `[x, y]` of each point, in the order in which they are joined.
    pub points: Vec<[f64; 2]>,
    /// How the line looks.
    pub style: Style,
    /// The place of its colour among the seven there are: blue, vermilion, green, purple, orange, sky blue,
    /// black. An eighth is blue again. Curves that belong together may share one.
    pub color: usize,
    /// A point drawn as a larger dot, such as the best one. Its value is beside it, or, where several series have
    /// one, in the legend after the series' name.
    pub marked: Option<[f64; 2]>,
}

/// How a curve looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A thin, pale line, for what is noisy.
    Pale,
    /// A strong line, with a dot at each point unless they are too many.
    Strong,
}

/// How an axis is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten. What is not above zero has no place there.
    Log,
}

impl Chart {
    /// The chart as an SVG document of `[width, height]` pixels, each from 160 to 10,000.
    pub fn svg(&self, size: [u32; 2]) -> Result<String> {
        svg::render(self, layout::check(size)?)
    }

    /// The chart as a PNG file of `[width, height]` pixels, each from 160 to 10,000.
    pub fn png(&self, size: [u32; 2]) -> Result<Vec<u8>> {
        raster::render(self, layout::check(size)?)
    }

    /// The one point that is marked, if there are not several.
    fn single_mark(&self) -> Option<[f64; 2]> {
        let mut marks = self.series.iter().filter_map(|series| series.marked);
        marks.next().filter(|_| marks.next().is_none())
    }
}
