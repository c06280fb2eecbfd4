//! Unknown options of `train` that name a recipe key: the error for `train --dropout 0.1` suggests the `--set` to use.

use std::ffi::OsString;

use clap::{
    Error,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
};
use trainer::Recipe;

/// Names that other trainers use, and the recipe keys for them.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("context", "model.block_size"),
    ("context_length", "model.block_size"),
    ("max_seq_length", "model.block_size"),
    ("layers", "model.n_layer"),
    ("num_layers", "model.n_layer"),
    ("heads", "model.n_head"),
    ("num_heads", "model.n_head"),
    ("hidden_size", "model.n_embd"),
    ("d_model", "model.n_embd"),
    ("steps", "schedule.max_steps"),
    ("iters", "schedule.max_steps"),
    ("max_iters", "schedule.max_steps"),
];

/// Adds a `--set` suggestion to clap's error for an unknown option of `train` that names a recipe key.
pub(crate) fn with_key_tip(mut error: Error, args: impl Iterator<Item = OsString>) -> Error {
    let is_train =
        args.skip(1).find(|arg| !arg.as_encoded_bytes().starts_with(b"-")).is_some_and(|arg| arg == "train");
    if error.kind() != ErrorKind::UnknownArgument || !is_train {
        return error;
    }
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.clone(),
        _ => return error,
    };
    if let Some(key) = key_of(&option) {
        error.remove(ContextKind::SuggestedArg);
        let tip = StyledStr::from(format!("it is a recipe key: --set {key}=VALUE"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
    error
}

/// The recipe key that an option names.
fn key_of(option: &str) -> Option<String> {
    let word = option.trim_start_matches('-').split('=').next()?.replace('-', "_");
    let known = OTHER_NAMES.iter().find(|(other, _)| *other == word).map(|(_, key)| (*key).to_owned());
    known.or_else(|| {
        Recipe::keys().into_iter().find(|key| key.split_once('.').is_some_and(|(_, key)| key == word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_other_trainers_map_to_recipe_keys() {
        for (option, key) in [
            ("--dropout", "model.dropout"),
            ("--n-layer", "model.n_layer"),
            ("--n_layer", "model.n_layer"),
            ("--eval-interval", "schedule.eval_interval"),
            ("--seed", "run.seed"),
            ("--steps", "schedule.max_steps"),
            ("--weight-decay=0.1", "optimizer.weight_decay"),
        ] {
            assert_eq!(key_of(option).as_deref(), Some(key), "{option}");
        }
        assert_eq!(key_of("--nonsense"), None);
        let keys = Recipe::keys();
        assert!(OTHER_NAMES.iter().all(|(_, key)| keys.iter().any(|known| known == key)));
    }
}
