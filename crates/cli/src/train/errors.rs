//! Errors of setting up a run, with the command that helps, and those that are in the arguments.

use anyhow::anyhow;
use console::program;
use engine::quoted;
use journal::words::plural;
use monitor::{further, resume_command};
use trainer::{Ending, Error, SetupError};

use crate::{
    prepare::{DataDirArgs, data_error},
    usage::UsageError,
};

/// The error as kindling prints it.
pub(super) fn explain(error: SetupError, data_dir: &DataDirArgs) -> anyhow::Error {
    match error {
        SetupError::Key(_)
        | SetupError::Recipe { has_overrides: true, .. }
        | SetupError::NoSizes { .. }
        | SetupError::TooManySteps { .. }
        | SetupError::LongBlock { .. }
        | SetupError::Training(Error::Shares { .. }) => UsageError::new(error).into(),
        SetupError::Recipe { ref name, .. } if trainer::preset(name).is_some() => {
            UsageError::new(error).into()
        }
        SetupError::Dataset(error) => data_error(error, &data_dir.data_dir),
        SetupError::NotTrainedHere { path } => anyhow!(
            "{} was not trained here and can't be resumed; start a run from its weights: {} train finetune --init-from {}",
            path.display(),
            program(),
            quoted(&path.display().to_string())
        ),
        SetupError::Over { folder, ending, state, recipe } => {
            let (path, resume) = (folder.path().display(), resume_command(&folder, &data_dir.as_option()));
            match ending {
                Ending::StoppedEarly => anyhow!(
                    "{path} has stopped at step {}, after {} without a better loss; to train further: {resume} --set \
                     guards.patience={}",
                    state.step,
                    plural(state.evaluations_since_best, "evaluation"),
                    2 * state.evaluations_since_best
                ),
                Ending::Finished | Ending::Interrupted => anyhow!(
                    "{path} has done its {}; to train further: {resume}{}",
                    plural(state.step, "step"),
                    further(&recipe, state.step)
                ),
            }
        }
        SetupError::OtherText { text, valid, path, has_characters } => {
            let path = path.display().to_string();
            let option = |name: &str, value: &str| format!(" --{name} {}", quoted(value));
            let valid = valid.map_or_else(String::new, |valid| option("valid", &valid));
            // Weights of a vocabulary that lacks characters of the text are no start. Fine-tuning needs a lower learning rate
            // than the default recipe.
            let (recipe, init_from) = match has_characters {
                true => (" finetune", option("init-from", &path)),
                false => ("", String::new()),
            };
            anyhow!(
                "{text} is not the text that {path} has trained on. Name that text, or start a new run on this one: {} \
                 train{recipe}{}{valid}{init_from}",
                program(),
                option("data", &text)
            )
        }
        error => error.into(),
    }
}
