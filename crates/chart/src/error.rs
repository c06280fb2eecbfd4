//! Errors of drawing a chart.

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("unsupported chart size {width} × {height}: width and height must be 160 to 10000 pixels")]
    Size { width: u32, height: u32 },

    #[error("cannot draw the chart")]
    Draw(#[source] Box<dyn std::error::Error + Send + Sync>),

    #[error("cannot encode the chart as PNG")]
    Encode(#[from] png::EncodingError),
}

/// The result of drawing a chart.
pub type Result<T, E = Error> = std::result::Result<T, E>;
