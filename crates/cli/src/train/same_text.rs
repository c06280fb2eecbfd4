//! The text of a run that is resumed: it may lie elsewhere than before, and is to be the same.

use anyhow::{Context, bail};
use checkpoint::{RunFolder, TrainerState};
use dataset::{Corpus, Prepared, TokenizerChoice};
use trainer::Recipe;

use super::Args;
use crate::{
    console::{program, quoted},
    prepare::{checksums, is_missing, prepare_again},
};

/// The tokens of a run's text.
///
/// # Errors
///
/// If the text can't be read, or is another than the run has trained on.
pub(super) fn same_text(
    args: &Args,
    folder: &RunFolder,
    before: &Recipe,
    recipe: &Recipe,
    state: Option<&TrainerState>,
) -> anyhow::Result<Prepared> {
    // Of two known corpora it is known that they differ, without a download.
    let are_two_corpora = before.data.corpus != recipe.data.corpus
        && [before, recipe].iter().all(|it| Corpus::find(&it.data.corpus).is_some());
    if are_two_corpora {
        return Err(another_text(folder, recipe, true));
    }
    let choice = TokenizerChoice::Given(folder.load_tokenizer()?);
    let expected = state.map(|state| &state.data);
    let prepared = match prepare_again(&recipe.data, &choice, &args.data_dir.data_dir, expected) {
        Ok(prepared) => prepared,
        Err(error) if recipe.data != before.data && lacks_characters(&error) => {
            return Err(another_text(folder, recipe, false));
        }
        Err(error) if is_missing(&error) => {
            let (origin, data) = (folder.recipe_path(), &recipe.data);
            let option = if data.valid.is_some() { "--data PATH or --valid PATH" } else { "--data PATH" };
            return Err(error).with_context(|| {
                format!("{} names a text that is not there; if it has moved, add {option}", origin.display())
            });
        }
        Err(error) => return Err(error),
    };
    let Some(state) = state else { return Ok(prepared) };
    let [train, valid] = checksums(&prepared);
    if train != state.data[0] {
        return Err(another_text(folder, recipe, true));
    }
    if valid != state.data[1] {
        bail!(
            "{} is not the text that {} has validated on; name that text with --valid PATH",
            recipe.data.valid.as_deref().unwrap_or(&recipe.data.corpus),
            folder.path().display()
        );
    }
    Ok(prepared)
}

/// Whether the text has a character outside the vocabulary.
fn lacks_characters(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(dataset::Error::UnknownCharacter { .. }))
}

/// The error for a text that the run has not trained on, with the command that starts a new run on it. `--init-from` is
/// advised only if the vocabulary covers the text.
fn another_text(folder: &RunFolder, recipe: &Recipe, knows_letters: bool) -> anyhow::Error {
    let (path, text) = (folder.path().display().to_string(), &recipe.data.corpus);
    let option = |name: &str, value: &str| format!(" --{name} {}", quoted(value));
    let valid = recipe.data.valid.as_ref().map_or_else(String::new, |valid| option("valid", valid));
    // Fine-tuning needs a lower learning rate than the default recipe.
    let (recipe_name, init_from) = match knows_letters {
        true => (" finetune", option("init-from", &path)),
        false => ("", String::new()),
    };
    anyhow::anyhow!(
        "{text} is not the text that {path} has trained on. Name that text, or start a new run on this one: {} train{recipe_name}{}{valid}\
         {init_from}",
        program(),
        option("data", text)
    )
}
