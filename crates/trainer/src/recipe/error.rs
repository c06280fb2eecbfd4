//! Errors of a recipe.

use std::{fmt, io, path::PathBuf};

use families::NoFamily;
use model::ConfigError;

/// An invalid recipe, or a recipe that can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    #[error("invalid --set {assignment}: it must be section.key=value")]
    Assignment { assignment: String },
    #[error("invalid --set {assignment}: {reason}")]
    Override { assignment: String, reason: String },
    /// A value or a syntax error in a preset or a file.
    #[error("invalid recipe {place}: {problem}")]
    Invalid { place: Place, problem: Box<RecipeProblem> },
    #[error("cannot read the recipe {}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    /// A recipe to extend that is missing, or that extends this one.
    #[error("invalid recipe {place}: cannot extend `{base}`: {reason}")]
    Base { place: Place, base: String, reason: String },
    /// A recipe without the required keys of `[model]`.
    #[error(
        "the recipe {name} has no model sizes; name a model to start from with --init-from MODEL{advice}"
    )]
    NoSizes { name: String, advice: String },
    /// A plan that ends with steps that change nothing.
    #[error(
        "the learning rate is 0 from step {first} of {max_steps} on; add --set schedule.decay_steps=none to let it fall until \
         the end"
    )]
    ZeroRate {
        /// The first step that would change nothing.
        first: u64,
        /// Steps of the plan.
        max_steps: u64,
    },
    /// A key whose value can't change on resume.
    #[error("`{key}` can't change from {before} to {after} on resume: {reason}; start a new run for that")]
    Fixed { key: String, before: String, after: String, reason: &'static str },
}

/// A recipe, and a line of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// A preset, or the path of a file.
    pub name: String,
    /// From 1. `None` for a preset, and for an error without a single cause.
    pub line: Option<usize>,
    pub is_file: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A rule that a recipe breaks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeProblem {
    /// A syntax error, an unknown or missing key, or a value of the wrong type.
    #[error("{0}")]
    Toml(String),
    #[error(transparent)]
    Sizes(#[from] ConfigError),
    #[error(transparent)]
    Family(Box<NoFamily>),
    #[error("`{key}` has no effect with --init-from: sizes come from the base model; remove the key")]
    FixedSize { key: String },
    #[error("`{key}` {range} (got {value})")]
    Range { key: &'static str, value: f64, range: &'static str },
    /// A lower bound above its upper one.
    #[error(
        "`{lower}` = {lower_value} is above `{upper}` = {upper_value}; add --set {lower}={upper_value}, or raise the other"
    )]
    Order { lower: &'static str, lower_value: f64, upper: &'static str, upper_value: f64 },
    #[error(
        "`schedule.kind` = wsd needs `schedule.stable_steps`, the step at which the learning rate begins to fall"
    )]
    NoStableSteps,
    /// An empty separator, or a word that means "none".
    #[error("`data.separator` is the string between documents; for none, add --set data.separator=none")]
    NoSeparator,
    #[error(
        "`schedule.stable_steps` has no effect without `schedule.kind` = wsd; add --set schedule.stable_steps=none, or \
         --set schedule.kind=wsd"
    )]
    UnusedStableSteps,
    #[error(
        "`{key}` has no effect without `optimizer.kind` = muon; add --set {key}=none, or --set optimizer.kind=muon"
    )]
    UnusedMuon { key: &'static str },
    #[error(
        "`optimizer.kind` = muon has no effect on the low-rank updates of [lora]; add --set optimizer.kind=adamw"
    )]
    MuonOfLora,
    #[error(
        "`lora.targets` is empty, so nothing would be trained; add names such as q_proj, or --set lora.targets=none for all \
         linear layers"
    )]
    NoTargets,
    #[error("[dpo] needs [chat], because it trains answers; add --set chat.train_on=last")]
    DpoWithoutChat,
    #[error("[dpo] compares the last answers of two conversations; add --set chat.train_on=last")]
    DpoOfAll,
    #[error("`schedule.eval_windows` and `schedule.eval_batches` exclude each other; set one of them")]
    TwoEvaluationSizes,
    #[error(
        "`run.shard_optimizer` divides the work of each step over ranks, which with `run.sync_interval` = {interval} take steps \
         by themselves; add --set run.shard_optimizer=false, or --set run.sync_interval=1"
    )]
    ShardsOfLocalSteps { interval: u64 },
    #[error(
        "`{key}` = {value} must be a multiple of `run.sync_interval` = {interval}, after which all ranks have the same weights; \
         add --set {key}={next}"
    )]
    Unsynchronised { key: &'static str, value: u64, interval: u64, next: u64 },
    #[error("an evaluation needs `schedule.eval_windows`; set it, for example to 320")]
    NoEvaluationSize,
}

impl RecipeError {
    /// Whether the mistake is in a file, not in the arguments of the command.
    pub fn is_in_file(&self) -> bool {
        match self {
            Self::Invalid { place, .. } => place.is_file,
            Self::Read { .. } | Self::Base { .. } => true,
            _ => false,
        }
    }
}

impl RecipeProblem {
    /// The keys that break the rule, `section.key` each.
    pub(super) fn keys(&self) -> Vec<String> {
        let own = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect();
        let model = |keys: &[&str]| keys.iter().map(|key| format!("model.{key}")).collect();
        match self {
            Self::Toml(_) => Vec::new(),
            Self::Sizes(error) => match error {
                ConfigError::Zero { field } | ConfigError::NotPositive { field, .. } => model(&[field]),
                ConfigError::TooLarge { .. } => {
                    model(&["n_layer", "n_embd", "n_inner", "n_head", "head_dim"])
                }
                ConfigError::BlockTooLong(_) => model(&["block_size"]),
                ConfigError::UnevenHeads { .. } => model(&["n_embd", "n_head"]),
                ConfigError::UnevenGroups { .. } => model(&["n_head", "n_kv_head"]),
                ConfigError::OddRope(_) => model(&["n_embd", "n_head", "head_dim", "position"]),
                ConfigError::Dropout(_) => model(&["dropout"]),
                ConfigError::UnusedTheta => model(&["rope_theta", "position"]),
                ConfigError::UnusedQkvBias => model(&["qkv_bias", "bias"]),
                _ => Vec::new(),
            },
            Self::Family(_) => {
                model(&["family", "position", "norm", "activation", "qk_norm", "bias", "qkv_bias"])
            }
            Self::FixedSize { key } => vec![key.clone()],
            Self::Range { key, .. } => own(&[key]),
            Self::UnusedMuon { key } => own(&[key, "optimizer.kind"]),
            Self::DpoWithoutChat => own(&["dpo.beta"]),
            Self::DpoOfAll => own(&["chat.train_on", "dpo.beta"]),
            Self::NoTargets => own(&["lora.targets"]),
            Self::MuonOfLora => own(&["optimizer.kind", "lora.rank"]),
            Self::Order { lower, upper, .. } => own(&[lower, upper]),
            Self::ShardsOfLocalSteps { .. } => own(&["run.shard_optimizer", "run.sync_interval"]),
            Self::Unsynchronised { key, .. } => own(&[key, "run.sync_interval"]),
            Self::NoStableSteps | Self::UnusedStableSteps => own(&["schedule.kind", "schedule.stable_steps"]),
            Self::NoSeparator => own(&["data.separator"]),
            Self::TwoEvaluationSizes => own(&["schedule.eval_windows", "schedule.eval_batches"]),
            Self::NoEvaluationSize => own(&["schedule"]),
        }
    }
}
