//! A recipe: everything that decides what a run learns.

mod changes;
mod check;
mod error;
mod overrides;
mod parse;
mod plan;
mod presets;
mod sections;

pub use changes::Changes;
pub use error::RecipeError;
pub use presets::{PRESETS, preset};
pub use sections::{
    DataRecipe, EvaluationSize, GuardsRecipe, KeepWeights, OptimizerKind, OptimizerRecipe, Recipe, Restart,
    RunRecipe, ScheduleKind, ScheduleRecipe,
};
