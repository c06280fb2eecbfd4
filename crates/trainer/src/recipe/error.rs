//! What is wrong with a recipe.

use families::NoFamily;
use model::ConfigError;

/// An invalid recipe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// An override that names no key.
    #[error("--set {assignment} is not of the form section.key=value")]
    Assignment {
        /// What was given.
        assignment: String,
    },
    /// An override of a key that there is not, or with a value that the key can't have.
    #[error("--set {assignment} does not fit the recipe: {reason}")]
    Override {
        /// What was given.
        assignment: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that is no TOML, or not these sections and keys.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// Sizes that no model can have.
    #[error(transparent)]
    Sizes(#[from] ConfigError),
    /// A family that is not known, or lacks an option of the model.
    #[error(transparent)]
    Family(Box<NoFamily>),
    /// A number outside its range.
    #[error("`{key}` = {value}: {range}")]
    Range {
        /// Section and key.
        key: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// A lower bound above its upper one.
    #[error(
        "`{lower}` = {lower_value} is above `{upper}` = {upper_value}; add --set {lower}={upper_value}, or raise the other"
    )]
    Order {
        /// Section and key of the lower bound.
        lower: &'static str,
        /// What was given for it.
        lower_value: f64,
        /// Section and key of the upper bound.
        upper: &'static str,
        /// What was given for it.
        upper_value: f64,
    },
    /// A schedule that does not say when it falls.
    #[error(
        "`schedule.kind` = wsd needs `schedule.stable_steps`, the step at which the learning rate begins to fall"
    )]
    NoStableSteps,
    /// A separator that would stand everywhere, or a word that means none.
    #[error(
        "`data.separator` is the string between documents; if there is none, add --set data.separator=none"
    )]
    NoSeparator,
    /// A key that this schedule has no use for.
    #[error(
        "`schedule.stable_steps` has no effect without `schedule.kind` = wsd; add --set schedule.stable_steps=none, or \
         set that kind"
    )]
    UnusedStableSteps,
    /// A key that AdamW has no use for.
    #[error("`{key}` has no effect without `optimizer.kind` = muon; add --set {key}=none, or set that kind")]
    UnusedMuon {
        /// Section and key.
        key: &'static str,
    },
    /// Two ways to say how long an evaluation is.
    #[error("`schedule.eval_windows` and `schedule.eval_batches` exclude each other; set one of them")]
    TwoEvaluationSizes,
    /// No way to say how long an evaluation is.
    #[error("an evaluation needs `schedule.eval_windows`; set it, for example to 320")]
    NoEvaluationSize,
    /// A plan that ends with steps that change nothing.
    #[error(
        "the learning rate is 0 from step {first} of {max_steps} on; add --set schedule.decay_steps=none, and it falls until \
         the end"
    )]
    ZeroRate {
        /// The first step that would change nothing.
        first: u64,
        /// Steps of the plan.
        max_steps: u64,
    },
    /// A key with another value than the run has begun with.
    #[error("`{key}` can't change from {before} to {after} on resume: {reason}; start a new run for that")]
    Fixed {
        /// Section and key.
        key: String,
        /// What the run has.
        before: String,
        /// What was asked for.
        after: String,
        /// Why not.
        reason: &'static str,
    },
}
