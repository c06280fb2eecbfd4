//! Line charts of training curves, as SVG and as PNG.
//!
//! A [`Chart`] is plain data: texts, and [`Series`] of points. Both formats show the same chart, on a white background
//! and in a colour-blind-safe palette. The legend is above the curves, so it hides none.
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
//! - A value that can't be drawn breaks the line: NaN, infinities, values beyond ±1e300, and on a logarithmic scale
//!   values that are not above zero. A point between two breaks is drawn as a dot.
//! - A chart without points shows a note that there is nothing to show yet.
//! - Lines with more points than pixels are thinned to two points per pixel column, the lowest and the highest, so no
//!   spike is lost.
//! - The same chart gives the same bytes.
//!
//! SVG texts use the viewer's sans-serif font. PNG texts use Noto Sans, which has Latin, Greek and Cyrillic; characters
//! of other scripts appear as boxes.

mod picture;

mod axis;
mod callout;
mod curves;
mod data;
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

pub use data::{Chart, Scale, Series, Style};
pub use error::{Error, Result};

impl Chart {
    /// Renders the chart as an SVG document of `[width, height]` pixels, each from 160 to 10,000.
    pub fn svg(&self, size: [u32; 2]) -> Result<String> {
        svg::render(self, layout::check(size)?)
    }

    /// Renders the chart as a PNG file of `[width, height]` pixels, each from 160 to 10,000.
    pub fn png(&self, size: [u32; 2]) -> Result<Vec<u8>> {
        raster::render(self, layout::check(size)?)
    }
}
