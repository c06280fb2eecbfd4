//! Turns errors of setting up a run into messages with a suggested command, and marks errors in the arguments.

use anyhow::anyhow;
use console::program;
use engine::quoted;
use journal::summary::plural;
use monitor::{longer_run_options, resume_command};
use trainer::{Ending, Error, SetupError};

use crate::{
    prepare::{DataDirArgs, data_error},
    recipe::recipe_error,
    usage::UsageError,
};

/// Adds the suggested command to an error, or marks it as an error in the arguments.
pub(super) fn explain(error: SetupError, data_dir: &DataDirArgs) -> anyhow::Error {
    match error {
        SetupError::Recipe(error) => recipe_error(error),
        SetupError::TooManySteps { .. }
        | SetupError::LongBlock { .. }
        | SetupError::Training(Error::UnevenBatch { .. }) => UsageError::new(error).into(),
        SetupError::Dataset(error) => data_error(error, &data_dir.data_dir),
        SetupError::NotTrainedHere { path } => anyhow!(
            "{} was not trained here and can't be resumed; start a run from its weights: {} train finetune --init-from {}",
            path.display(),
            program(),
            quoted(&path.display().to_string())
        ),
        SetupError::RunEnded { folder, ending, state, recipe } => {
            let (path, resume) = (folder.path().display(), resume_command(&folder, &data_dir.as_option()));
            match ending {
                Ending::StoppedEarly => anyhow!(
                    "{path} stopped early at step {}, after {} without improvement; to train further: {resume} --set \
                     guards.patience={}",
                    state.step,
                    plural(state.evaluations_since_best, "evaluation"),
                    2 * state.evaluations_since_best
                ),
                Ending::Finished | Ending::Interrupted => anyhow!(
                    "{path} has finished its {}; to train further: {resume}{}",
                    plural(state.step, "step"),
                    longer_run_options(&recipe, state.step)
                ),
            }
        }
        SetupError::ChatsAsText { ref path, preset } => {
            let path = quoted(path);
            UsageError::new(anyhow!(
                "{error}. To train on their answers: {} train {preset} --init-from MODEL --data {path}. To train on their \
                 text, extract it to a file",
                program(),
            ))
            .into()
        }
        SetupError::OtherPreset { ref path, preset } => UsageError::new(anyhow!(
            "{error}: {} train {preset} --init-from MODEL --data {}",
            program(),
            quoted(&path.display().to_string())
        ))
        .into(),
        SetupError::OtherText { text, valid, path, has_characters } => {
            let path = path.display().to_string();
            let option = |name: &str, value: &str| format!(" --{name} {}", quoted(value));
            let valid = valid.map_or_else(String::new, |valid| option("valid", &valid));
            // A model whose vocabulary lacks characters of the text can't be fine-tuned on it. Fine-tuning needs the
            // lower learning rate of its own recipe.
            let (recipe, init_from) = match has_characters {
                true => (" finetune", option("init-from", &path)),
                false => ("", String::new()),
            };
            anyhow!(
                "{text} is not the text that {path} was trained on. Name that text, or start a new run on this one: {} \
                 train{recipe}{}{valid}{init_from}",
                program(),
                option("data", &text)
            )
        }
        error => error.into(),
    }
}
