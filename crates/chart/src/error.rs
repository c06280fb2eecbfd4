//! Why a chart could not be drawn.

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A picture too small to hold a chart, or too large to hold in memory.
    #[error("a chart of {width} × {height} pixels can't be drawn; ask for 160 to 10000 each way")]
    Size {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },

    /// The drawing library refused.
    #[error("cannot draw the chart")]
    Draw(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// The picture could not be put into a PNG file.
    #[error("cannot encode the chart as PNG")]
    Encode(#[from] png::EncodingError),
}

/// The result of drawing a chart.
pub type Result<T, E = Error> = std::result::Result<T, E>;
