//! The arguments of `train`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use dataset::is_stream;
use trainer::PRESETS;

use super::ranks::RANK_TIMEOUT_SECONDS;
use super::{short::ShortArgs, subject::Subject};
use crate::{
    device::DeviceArgs,
    model_args::models,
    prepare::DataDirArgs,
    usage::{at_least, bail_usage},
};

/// Trains a model, or resumes training.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Presets: tiny (the default), small, gpu, nanogpt-cpu, nanogpt-gpu, gpt2, finetune, sft, lora, dpo,
debug.

Examples:
  kindling train                                          train on Shakespeare, a few minutes
  kindling train my.txt --run mine                        train on your own text
  kindling train --data books/ --set data.tokenizer=bpe:4096 --max-steps 10000
  kindling train my.txt --epochs 3 --dry-run              print the plan without training
  kindling train finetune --init-from gpt2 --data my.txt  fine-tune another model
  kindling train sft --init-from gpt2 --data chats.jsonl  fine-tune it on conversations
  kindling train dpo --init-from sft --data pairs.jsonl   teach it to prefer answers to others
  kindling train --resume                                 resume the newest run
  kindling train --resume --run mine --max-steps 20000    train a finished run further"
)]
pub(crate) struct Args {
    /// Recipe (a preset or a TOML file), or text to train on with the default recipe.
    #[arg(value_name = "RECIPE or TEXT")]
    pub(super) subject: Option<String>,

    /// Text to train on: a file, a folder of text files, a known corpus, or `-` for standard input. For sft, lora and dpo,
    /// chat data: a file, or a folder of .jsonl files. On resume, the new path of the same data.
    #[arg(long, value_name = "NAME or PATH", help_heading = "Recipe")]
    pub(super) data: Option<String>,

    /// Text or chat data to validate on; without it, the end of the training data.
    #[arg(long, value_name = "PATH", help_heading = "Recipe")]
    pub(super) valid: Option<String>,

    /// Name or path of the run; without it, the next free name.
    #[arg(long, value_name = "NAME", help_heading = "Run")]
    pub(super) run: Option<PathBuf>,

    /// Resume the run given by --run, or the newest.
    #[arg(long, help_heading = "Run")]
    pub(super) resume: bool,

    /// Tokenize the data, print the plan (epochs, memory, time, learning rate) and exit.
    #[arg(long, conflicts_with_all = ["overfit_one_batch", "find_learning_rate"], help_heading = "Run")]
    pub(super) dry_run: bool,

    #[command(flatten)]
    pub(super) data_dir: DataDirArgs,

    /// Start from the weights, sizes and tokenizer of a model.
    #[arg(long, value_name = "MODEL", conflicts_with = "resume", help_heading = "Recipe")]
    pub(super) init_from: Option<PathBuf>,

    /// Set a recipe key; repeatable. `none` unsets an optional key, as in optimizer.grad_clip=none.
    #[arg(long, value_name = "SECTION.KEY=VALUE", help_heading = "Recipe")]
    pub(super) set: Vec<String>,

    /// Log format, in addition to metrics.jsonl.
    #[arg(long, value_enum, default_value_t = Log::Tensorboard, help_heading = "Output")]
    pub(super) log: Log,

    /// Under mpirun or srun: how long another rank may be silent or hang before the run ends.
    #[arg(long, value_name = "SECONDS", default_value_t = RANK_TIMEOUT_SECONDS, value_parser = at_least(1_u64), help_heading = "Run")]
    pub(super) rank_timeout: u64,

    /// Print progress as lines, without the live view.
    #[arg(long, help_heading = "Output")]
    pub(super) no_tui: bool,

    /// Overfit one batch without making a run: shows within seconds whether the model can learn.
    #[arg(long, conflicts_with_all = ["resume", "run", "log", "no_tui"], help_heading = "Experiments")]
    pub(super) overfit_one_batch: bool,

    /// Sweep the learning rate without making a run: suggests a rate and plots the sweep in learning-rate-sweep.svg.
    #[arg(
        long,
        conflicts_with_all = ["resume", "run", "log", "no_tui", "overfit_one_batch"],
        help_heading = "Experiments"
    )]
    pub(super) find_learning_rate: bool,

    #[command(flatten)]
    pub(super) device: DeviceArgs,

    // Last, because its help heading applies to all later arguments.
    #[command(flatten)]
    pub(super) short: ShortArgs,
}

/// A log format in addition to `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Log {
    /// Event files in the run folder, for `tensorboard --logdir runs`.
    Tensorboard,
    /// No other log.
    None,
}

impl Args {
    /// Moves the positional argument to `--data` if it is a text, or to `--run` if it is a run to resume. A recipe
    /// stays.
    pub(super) fn with_subject_resolved(mut self) -> anyhow::Result<Self> {
        let Some(subject) = self.subject.clone() else { return Ok(self) };
        if self.resume
            && self.run.is_none()
            && models().run_path(subject.as_ref()).join("config.json").is_file()
        {
            self.run = Some(subject.into());
            self.subject = None;
        } else if Subject::of(&subject) == Subject::Text {
            if let Some(data) = &self.data {
                bail_usage!("{subject} and --data {data} both name a text; give one, or a folder with both");
            }
            self.data = Some(subject);
            self.subject = None;
        }
        Ok(self)
    }

    /// Refuses what several processes can't do together.
    pub(super) fn check_for_ranks(&self) -> anyhow::Result<()> {
        let alone = [
            ("--dry-run", self.dry_run),
            ("--overfit-one-batch", self.overfit_one_batch),
            ("--find-learning-rate", self.find_learning_rate),
        ];
        if let Some((option, _)) = alone.into_iter().find(|(_, is_set)| *is_set) {
            bail_usage!("{option} runs in one process; start it without the launcher of several ranks");
        }
        let texts = [&self.data, &self.valid].into_iter().flatten();
        if let Some(stream) = texts.into_iter().find(|text| is_stream(Path::new(text))) {
            bail_usage!("{stream} can be read by one process only; save the text to a file");
        }
        Ok(())
    }

    /// Name or path of the recipe of a new run.
    pub(super) fn recipe_name(&self) -> &str {
        self.subject.as_deref().unwrap_or(PRESETS[0].0)
    }

    /// The values of `--set`, then those of its shorthand options.
    pub(super) fn overrides(&self) -> Vec<String> {
        let text = |value: &String| toml::Value::from(value.as_str()).to_string();
        let texts = [("data.corpus", &self.data), ("data.valid", &self.valid)];
        let texts =
            texts.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", text(value.as_ref()?))));
        self.set.iter().cloned().chain(self.short.sets()).chain(texts).collect()
    }
}
