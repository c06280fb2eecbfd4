//! Setting up a run: the recipe, tokens, weights and folder of a new one, or the checkpoint, recipe and tokens of one to
//! resume. Nothing is printed and no argument is read.

mod data;
mod error;
mod new_run;
mod request;
mod resume;

pub use data::{checksums, prepare_data, prepare_same_data};
pub use error::SetupError;
pub use new_run::{NewRun, Origin, PlannedRun};
pub use request::{RecipeRequest, parse_recipe};
pub use resume::{HeldRun, KeptWeights, ResumePlan, ResumeRequest, StoppedRun};
