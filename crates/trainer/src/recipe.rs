//! Recipes: the complete configuration of a run.

mod changes;
mod check;
mod error;
mod layers;
mod overrides;
mod parse;
mod plan;
mod presets;
mod sections;
mod source;

pub use changes::Changes;
pub use error::{Place, RecipeError, RecipeProblem};
pub use presets::{PRESETS, preset};
pub use sections::{
    ChatRecipe, DataRecipe, DpoRecipe, EvaluationSize, GuardsRecipe, KeepWeights, LoraRecipe, OptimizerKind,
    OptimizerRecipe, Recipe, Restart, RunRecipe, ScheduleKind, ScheduleRecipe,
};
pub use source::RecipeSource;
