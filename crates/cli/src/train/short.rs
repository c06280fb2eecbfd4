//! Shorthand options of `train` for recipe keys.

use crate::usage::at_least;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Recipe")]
pub(super) struct ShortArgs {
    /// Short for --set schedule.max_steps=N.
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    #[arg(allow_negative_numbers = true, value_parser = at_least(0_u64))]
    max_steps: Option<u64>,

    /// Train for X passes over the training data.
    #[arg(long, value_name = "X", allow_negative_numbers = true, value_parser = above_zero)]
    pub(super) epochs: Option<f64>,

    /// Short for --set optimizer.learning_rate=X.
    #[arg(long, visible_alias = "learning-rate", value_name = "X")]
    #[arg(allow_negative_numbers = true, value_parser = above_zero)]
    lr: Option<f64>,

    /// Short for --set optimizer.batch_size=N.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    batch_size: Option<usize>,

    /// Short for --set model.block_size=N.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least(1_usize))]
    block_size: Option<usize>,
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|&number: &f64| number > 0.0 && number.is_finite());
    number.ok_or_else(|| "must be a number above 0".to_owned())
}

impl ShortArgs {
    /// The equivalent values of `--set`.
    pub(super) fn sets(&self) -> impl Iterator<Item = String> {
        let Self { max_steps, epochs: _, lr, batch_size, block_size } = self;
        let sets = [
            ("schedule.max_steps", max_steps.map(|n| n.to_string())),
            ("optimizer.learning_rate", lr.map(|rate| format!("{rate:?}"))),
            ("optimizer.batch_size", batch_size.map(|n| n.to_string())),
            ("model.block_size", block_size.map(|n| n.to_string())),
        ];
        sets.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)))
    }
}
