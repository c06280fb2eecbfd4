//! The keys of a recipe that may change on resume.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{error::RecipeError, sections::Recipe};

/// Maps each changed key to its value before and after, in TOML syntax.
pub type Changes = BTreeMap<String, [String; 2]>;

/// Sections and keys that can't change on resume, with the reason: other values would invalidate the steps done, move
/// the position in the data, or make losses incomparable.
const FIXED_KEYS: [(&str, &str); 16] = [
    ("model", "the saved weights have the old shapes"),
    ("data", "the run must continue on the same data"),
    ("chat", "the run must continue on the same data"),
    ("dpo", "the loss would be another one"),
    ("lora.rank", "the saved updates have the old shapes"),
    ("lora.alpha", "the steps so far scaled the updates by the old value"),
    ("lora.targets", "the saved updates belong to the old layers"),
    ("lora.base", "the steps so far used the old base weights"),
    ("optimizer.kind", "the saved optimizer state belongs to the old one"),
    ("optimizer.batch_size", "the position in the data is counted in batches of the old size"),
    (
        "optimizer.grad_accumulation",
        "the position in the data is counted in steps of the old number of batches",
    ),
    ("schedule.eval_windows", "the best loss was measured on the old windows"),
    ("schedule.eval_batches", "the best loss was measured on the old windows"),
    ("run.seed", "all random numbers of the run depend on it"),
    ("run.precision", "matrix products would be rounded differently"),
    ("run.keep_weights", "the best weights so far were not kept"),
];

/// The value shown for a key that is not set.
const NONE: &str = "none";

/// Keys of these sections that may change.
const CHANGEABLE_KEYS: [&str; 1] = ["model.dropout"];

/// Keys with the path of a text. They may change if the text has the same checksum, which the caller verifies.
const PATH_KEYS: [&str; 2] = ["data.corpus", "data.valid"];

impl Recipe {
    /// The changes from this recipe to `after`, with which the run resumes. They may include the paths of its texts:
    /// the caller compares the texts.
    ///
    /// # Errors
    ///
    /// If a key has changed that can't change on resume.
    pub fn changes_to(&self, after: &Self) -> Result<Changes, RecipeError> {
        let [before, after] = [self, after].map(flatten);
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let mut changes = Changes::new();
        for key in keys {
            let [before, after] =
                [&before, &after].map(|values| values.get(key).map_or(NONE.to_owned(), in_toml));
            if before == after {
                continue;
            }
            let covers = |fixed: &str| key == fixed || key.starts_with(&format!("{fixed}."));
            // A path may change, but a separate validation text can't be added or removed.
            let has_moved = PATH_KEYS.contains(&key.as_str()) && before != NONE && after != NONE;
            let is_changeable = CHANGEABLE_KEYS.contains(&key.as_str())
                || has_moved
                || (key == "run.keep_weights" && after == "\"last\"");
            if let Some((_, reason)) = FIXED_KEYS.iter().find(|(fixed, _)| covers(fixed))
                && !is_changeable
            {
                return Err(RecipeError::Fixed { key: key.clone(), before, after, reason });
            }
            changes.insert(key.clone(), [before, after]);
        }
        Ok(changes)
    }
}

/// Maps `section.key` to its value.
fn flatten(recipe: &Recipe) -> BTreeMap<String, Value> {
    // A date is a value in the text only.
    let sections: Table = recipe.to_toml().parse().expect("it is TOML");
    let keys = |(section, keys): (String, Value)| {
        let keys = keys.as_table().cloned().unwrap_or_default();
        keys.into_iter().map(move |(key, value)| (format!("{section}.{key}"), value))
    };
    sections.into_iter().flat_map(keys).collect()
}

fn in_toml(value: &Value) -> String {
    value.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    fn debug(overrides: &[&str]) -> Recipe {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Recipe::parse(preset("debug").expect("it is a preset"), &overrides).unwrap()
    }

    #[test]
    fn allowed_changes_are_listed() {
        let after = debug(&[
            "schedule.max_steps=80",
            "optimizer.learning_rate=0.01",
            "optimizer.grad_clip=none",
            "model.dropout=0.1",
            "guards.patience=3",
        ]);
        let changes = debug(&[]).changes_to(&after).unwrap();
        let listed: Vec<_> =
            changes.iter().map(|(key, [from, to])| format!("{key}: {from} -> {to}")).collect();
        assert_eq!(
            listed,
            [
                "guards.patience: none -> 3",
                "model.dropout: 0.0 -> 0.1",
                "optimizer.grad_clip: 1.0 -> none",
                "optimizer.learning_rate: 0.003 -> 0.01",
                "schedule.max_steps: 40 -> 80",
            ]
        );
        assert!(debug(&[]).changes_to(&debug(&[])).unwrap().is_empty());
    }

    #[test]
    fn forbidden_changes_are_errors_with_the_key() {
        for (set, name) in [
            ("model.n_layer=3", "model.n_layer"),
            ("data.valid=my.txt", "data.valid"),
            ("data.valid_fraction=0.2", "data.valid_fraction"),
            ("data.tokenizer=byte", "data.tokenizer"),
            ("optimizer.batch_size=9", "optimizer.batch_size"),
            ("optimizer.grad_accumulation=2", "optimizer.grad_accumulation"),
            ("schedule.eval_windows=9", "schedule.eval_windows"),
            ("schedule.eval_batches=9", "schedule.eval_batches"),
            ("run.seed=1", "run.seed"),
            ("run.precision=bf16", "run.precision"),
        ] {
            let error = debug(&[]).changes_to(&debug(&[set])).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{name}` can't change from ")), "{error}");
        }
    }

    #[test]
    fn a_key_of_lora_that_can_not_change_has_its_own_reason() {
        let lora = |set: &[&str]| debug(&[&["lora.rank=2", "lora.alpha=4.0"], set].concat());
        for (set, reason) in [
            ("lora.rank=3", "the old shapes"),
            ("lora.alpha=8.0", "the old value"),
            ("lora.targets=[\"q_proj\"]", "the old layers"),
            ("lora.base=q8_0", "the old base weights"),
        ] {
            let error = lora(&[]).changes_to(&lora(&[set])).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert_eq!(lora(&[]).changes_to(&lora(&["lora.dropout=0.1"])).unwrap().len(), 1);
        assert!(matches!(debug(&[]).changes_to(&lora(&[])), Err(RecipeError::Fixed { .. })));
    }

    #[test]
    fn keep_weights_may_change_to_last_but_not_to_best() {
        let last = debug(&["run.keep_weights=last"]);
        assert_eq!(debug(&[]).changes_to(&last).unwrap().len(), 1);
        assert!(matches!(last.changes_to(&debug(&[])), Err(RecipeError::Fixed { .. })));
    }

    #[test]
    fn a_date_can_not_change() {
        let dated = |date: &str| debug(&["chat.train_on=last", &format!("chat.date={date}")]);
        let error = dated("2024-07-06").changes_to(&dated("2024-07-07")).unwrap_err().to_string();
        assert!(error.starts_with("`chat.date` can't change from 2024-07-06 to 2024-07-07"), "{error}");
        assert!(dated("2024-07-06").changes_to(&dated("2024-07-06")).unwrap().is_empty());
    }

    #[test]
    fn the_path_of_a_text_may_change() {
        let changes = debug(&[]).changes_to(&debug(&["data.corpus=my.txt"])).unwrap();
        assert_eq!(changes["data.corpus"], ["\"shakespeare\"", "\"my.txt\""]);
    }

    #[test]
    fn the_documentation_lists_the_fixed_keys() {
        let document = include_str!("../../../../docs/resuming.md");
        let (_, list) = document.split_once("These keys can't change on resume:").unwrap();
        let (list, _) = list.split_once("All other keys can").unwrap();
        let listed: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
        let fixed = FIXED_KEYS.iter().map(|(key, _)| *key);
        assert_eq!(listed, fixed.chain(CHANGEABLE_KEYS).chain(PATH_KEYS).collect());
    }

    /// Catches a renamed section or key that is missing in the list.
    #[test]
    fn every_fixed_key_exists_in_a_recipe() {
        let mut keys = flatten(&debug(&["data.valid=my.txt"]));
        keys.extend(flatten(&debug(&["schedule.eval_batches=2", "run.keep_weights=last"])));
        keys.extend(flatten(&debug(&[
            "chat.train_on=last",
            "dpo.beta=0.1",
            "lora.rank=2",
            "lora.alpha=4.0",
            "lora.targets=[\"q_proj\"]",
        ])));
        for (fixed, _) in FIXED_KEYS {
            let is_there = keys.keys().any(|key| key == fixed || key.starts_with(&format!("{fixed}.")));
            assert!(is_there, "{fixed}");
        }
    }
}
