//! The arguments of `train`.

use std::path::PathBuf;

use clap::ValueEnum;
use trainer::PRESETS;

use super::{short::ShortArgs, subject::Subject};
use crate::{device::DeviceArgs, model_args::models, prepare::DataDirArgs, usage::bail_usage};

/// Trains a model, or resumes training.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Presets: tiny (the default), small, gpu, nanogpt-cpu, nanogpt-gpu, gpt2, finetune, debug.

Examples:
  kindling train                                          learn Shakespeare in a few minutes
  kindling train my.txt --run mine                        learn from your own text
  kindling train --data books/ --set data.tokenizer=bpe:4096 --max-steps 10000
  kindling train my.txt --epochs 3 --dry-run              print the plan and train nothing
  kindling train finetune --init-from gpt2 --data my.txt  continue from another model
  kindling train --resume                                 resume the newest run
  kindling train --resume --run mine --max-steps 20000    train a finished run further"
)]
pub(crate) struct Args {
    /// A preset or a TOML file; or the text to train on, with the default recipe.
    #[arg(value_name = "RECIPE or TEXT")]
    pub(super) subject: Option<String>,

    /// The text to train on: a text file, a folder of them, the name of a known corpus, or `-` for standard input. On
    /// resume, the new place of the same text.
    #[arg(long, value_name = "NAME or PATH", help_heading = "Recipe")]
    pub(super) data: Option<String>,

    /// A text to validate on; without it, the end of the corpus.
    #[arg(long, value_name = "PATH", help_heading = "Recipe")]
    pub(super) valid: Option<String>,

    /// The run's name, or a path; without it, the next free one.
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    pub(super) run: Option<PathBuf>,

    /// Resume the run of --run, or the newest.
    #[arg(long, help_heading = "Run")]
    pub(super) resume: bool,

    /// Print the plan (epochs, memory, time, learning rate) and exit. The text is made into tokens for it.
    #[arg(long, conflicts_with_all = ["overfit_one_batch", "find_learning_rate"], help_heading = "Run")]
    pub(super) dry_run: bool,

    #[command(flatten)]
    pub(super) data_dir: DataDirArgs,

    /// Start from the weights, the sizes and the tokenizer of a model.
    #[arg(long, value_name = "MODEL", conflicts_with = "resume", help_heading = "Recipe")]
    pub(super) init_from: Option<PathBuf>,

    /// Set a key of the recipe; may be given several times. `none` switches an optional key off, as in
    /// optimizer.grad_clip=none.
    #[arg(long, value_name = "SECTION.KEY=VALUE", help_heading = "Recipe")]
    pub(super) set: Vec<String>,

    /// What is logged beside metrics.jsonl.
    #[arg(long, value_enum, default_value_t = Log::Tensorboard, help_heading = "Output")]
    pub(super) log: Log,

    /// Show lines, and no live view, on a terminal too.
    #[arg(long, help_heading = "Output")]
    pub(super) no_tui: bool,

    /// Learn one batch by heart and make no run: shows in seconds whether the model can learn.
    #[arg(long, conflicts_with_all = ["resume", "run", "log", "no_tui"], help_heading = "Experiments")]
    pub(super) overfit_one_batch: bool,

    /// Try learning rates from small to large and make no run: shows which one suits, and draws learning-rate-sweep.svg.
    #[arg(
        long,
        conflicts_with_all = ["resume", "run", "log", "no_tui", "overfit_one_batch"],
        help_heading = "Experiments"
    )]
    pub(super) find_learning_rate: bool,

    #[command(flatten)]
    pub(super) device: DeviceArgs,

    // Last, for its heading stays.
    #[command(flatten)]
    pub(super) short: ShortArgs,
}

/// A form of log beside `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Log {
    /// Event files in the run's folder, which `tensorboard --logdir runs` shows.
    Tensorboard,
    /// None.
    None,
}

impl Args {
    /// Puts the argument to where it belongs: a text to `--data`, with `--resume` a run to `--run`. A recipe stays.
    pub(super) fn with_subject_understood(mut self) -> anyhow::Result<Self> {
        let Some(subject) = self.subject.clone() else { return Ok(self) };
        if self.resume
            && self.run.is_none()
            && models().run_path(subject.as_ref()).join("config.json").is_file()
        {
            self.run = Some(subject.into());
            self.subject = None;
        } else if Subject::of(&subject) == Subject::Text {
            if let Some(data) = &self.data {
                bail_usage!(
                    "two texts are named, {subject} and --data {data}; name one, or a folder of both"
                );
            }
            self.data = Some(subject);
            self.subject = None;
        }
        Ok(self)
    }

    /// The recipe of a new run, by its name or path.
    pub(super) fn recipe_name(&self) -> &str {
        self.subject.as_deref().unwrap_or(PRESETS[0].0)
    }

    /// `--set`, and after it the options that are short for one.
    pub(super) fn overrides(&self) -> Vec<String> {
        let text = |value: &String| toml::Value::from(value.as_str()).to_string();
        let texts = [("data.corpus", &self.data), ("data.valid", &self.valid)];
        let texts =
            texts.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", text(value.as_ref()?))));
        self.set.iter().cloned().chain(self.short.sets()).chain(texts).collect()
    }
}
