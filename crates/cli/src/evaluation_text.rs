//! The text on which a command evaluates a model.

use std::path::Path;

use console::report;
use dataset::{END_OF_TEXT, TokenizerChoice, Tokens};
use engine::{EvaluationText, Source};
use journal::History;
use monitor::{report_ambiguous_name, warn_of_chats};
use tokenizer::Tokenizer;

use crate::prepare::{self, is_missing};

/// The text that a `--data` value names.
pub(crate) fn named_text(
    data: &str,
    source: &Source,
    tokenizer: &Tokenizer,
    data_dir: &Path,
) -> anyhow::Result<EvaluationText> {
    report_ambiguous_name(data);
    warn_of_chats(data);
    let text = prepare::read_text(data, data_dir)?;
    Ok(EvaluationText::encode(tokenizer, &text, separator(source)?.as_deref())?)
}

/// The separator between documents that the run was trained with; for an imported model, the default.
fn separator(source: &Source) -> anyhow::Result<Option<String>> {
    let recipe = match source {
        Source::Folder(model) => History::open(model.folder.clone())?.recipe,
        Source::Gguf(_) => None,
    };
    Ok(recipe.map_or_else(|| Some(END_OF_TEXT.to_owned()), |recipe| recipe.data.separator))
}

/// The validation text of a run; `None` for a model without a record of its training text, or trained on chat data.
pub(crate) fn validation_text(
    source: &Source,
    tokenizer: &Tokenizer,
    data_dir: &Path,
) -> anyhow::Result<Option<EvaluationText>> {
    let Source::Folder(model) = source else { return Ok(None) };
    let history = History::open(model.folder.clone())?;
    let Some(recipe) = history.recipe.as_ref().filter(|recipe| recipe.chat.is_none()) else {
        return Ok(None);
    };
    let origin = model.folder.recipe_path();
    let (origin, data) = (origin.display(), &recipe.data);
    match &data.valid {
        Some(valid) => report(format_args!("validation text: {valid}, from {origin}")),
        None => report(format_args!("validation part of {}, from {origin}", data.corpus)),
    }
    let choice = TokenizerChoice::Given(tokenizer.clone());
    let expected = history.state.as_ref().map(|state| &state.data);
    let prepared = prepare::prepare_again(data, &choice, data_dir, expected);
    let prepared = prepared.map_err(|error| match is_missing(&error) {
        true => error.context(format!(
            "the text in {origin} is missing; if it has moved, give its new path with --data PATH"
        )),
        false => error,
    })?;
    let n_bytes = prepared.meta.valid.text_bytes;
    Ok(Some(EvaluationText::tokenized(tokenizer, all_ids(&prepared.valid), n_bytes)))
}

fn all_ids(tokens: &Tokens) -> Vec<u32> {
    let mut ids = vec![0; tokens.len()];
    tokens.copy_range(0, &mut ids);
    ids.into_iter().map(|id: i32| id.cast_unsigned()).collect()
}
