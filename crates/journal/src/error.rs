/// An error of reading a run's records or writing them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),

    #[error(transparent)]
    Recipe(#[from] trainer::RecipeError),

    #[error(transparent)]
    Engine(#[from] engine::Error),

    #[error(transparent)]
    Chart(#[from] chart::Error),

    #[error(transparent)]
    Events(#[from] std::io::Error),
}

/// The result of reading a run or writing its journal.
pub type Result<T, E = Error> = std::result::Result<T, E>;
