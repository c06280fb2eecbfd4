use std::path::PathBuf;

/// Why a run could not be read, or a part of its journal not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The run's folder can't be read or written.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),

    /// The recipe of the run is not one.
    #[error("{}", .path.display())]
    Recipe {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: trainer::RecipeError,
    },

    /// No sample could be generated.
    #[error(transparent)]
    Engine(#[from] engine::Error),

    /// A chart can't be drawn.
    #[error(transparent)]
    Chart(#[from] chart::Error),

    /// An event file can't be written.
    #[error(transparent)]
    Events(#[from] std::io::Error),
}

/// The result of reading a run or writing its journal.
pub type Result<T, E = Error> = std::result::Result<T, E>;
