//! Which keys of a recipe may change on resume.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::{error::RecipeError, sections::Recipe};

/// Each changed key with its value before and after, as in a recipe's file.
pub type Changes = BTreeMap<String, [String; 2]>;

/// Sections, and keys, that stay as they are: with another value the steps done would not have been the same ones, the
/// data would be read from another place, or the losses before and after would not compare.
const FIXED: [(&str, &str); 10] = [
    ("model", "its weights have these sizes"),
    ("data", "it would learn from something else"),
    ("optimizer.kind", "the saved optimizer state belongs to the old one"),
    ("optimizer.batch_size", "its position in the data is counted in batches of this size"),
    ("optimizer.grad_accumulation", "its position in the data is counted in steps of this many batches"),
    ("schedule.eval_windows", "its best loss was measured on these windows"),
    ("schedule.eval_batches", "its best loss was measured on these windows"),
    ("run.seed", "all random numbers of the run follow from it"),
    ("run.precision", "its products would be rounded differently"),
    ("run.keep_weights", "its best weights were not kept"),
];

/// The value of a key that is not set.
const NONE: &str = "none";

/// Keys of the sections above that may change all the same.
const FREE: [&str; 1] = ["model.dropout"];

/// Keys that say where a text lies. They may change if the text is the same, which only its checksum shows.
const PLACES: [&str; 2] = ["data.corpus", "data.valid"];

impl Recipe {
    /// The changes from this recipe to the one that a run is to resume with. The paths of its texts may be among them:
    /// the caller compares the texts.
    ///
    /// # Errors
    ///
    /// If a key differs that can't change on resume.
    pub fn changes_to(&self, after: &Self) -> Result<Changes, RecipeError> {
        let [before, after] = [self, after].map(flat);
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let mut changes = Changes::new();
        for key in keys {
            let [before, after] =
                [&before, &after].map(|values| values.get(key).map_or(NONE.to_owned(), in_toml));
            if before == after {
                continue;
            }
            let covers = |fixed: &str| key == fixed || key.starts_with(&format!("{fixed}."));
            // A place may change. Whether there is a text of its own to validate on may not.
            let has_moved = PLACES.contains(&key.as_str()) && before != NONE && after != NONE;
            let is_free = FREE.contains(&key.as_str())
                || has_moved
                || (key == "run.keep_weights" && after == "\"last\"");
            if let Some((_, reason)) = FIXED.iter().find(|(fixed, _)| covers(fixed))
                && !is_free
            {
                return Err(RecipeError::Fixed { key: key.clone(), before, after, reason });
            }
            changes.insert(key.clone(), [before, after]);
        }
        Ok(changes)
    }
}

/// `section.key` to value.
fn flat(recipe: &Recipe) -> BTreeMap<String, Value> {
    let sections = Table::try_from(recipe).expect("sections of numbers and strings become TOML");
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
    fn what_may_change_is_listed() {
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
    fn what_may_not_is_named_with_the_reason() {
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
    fn the_last_weights_may_be_kept_from_a_step_on_and_the_best_only_from_the_first() {
        let last = debug(&["run.keep_weights=last"]);
        assert_eq!(debug(&[]).changes_to(&last).unwrap().len(), 1);
        assert!(matches!(last.changes_to(&debug(&[])), Err(RecipeError::Fixed { .. })));
    }

    #[test]
    fn a_text_may_lie_elsewhere() {
        let changes = debug(&[]).changes_to(&debug(&["data.corpus=my.txt"])).unwrap();
        assert_eq!(changes["data.corpus"], ["\"shakespeare\"", "\"my.txt\""]);
    }

    #[test]
    fn the_list_of_the_readme_is_true() {
        let readme = include_str!("../../../../README.md");
        let (_, list) = readme.split_once("These keys stay as they were:").unwrap();
        let (list, _) = list.split_once("All others can").unwrap();
        let listed: BTreeSet<&str> = list.split('`').skip(1).step_by(2).collect();
        let fixed = FIXED.iter().map(|(key, _)| *key);
        assert_eq!(listed, fixed.chain(FREE).chain(PLACES).collect());
    }

    /// A section or key that is renamed must not slip out of the list.
    #[test]
    fn every_fixed_key_is_one_of_a_recipe() {
        let mut keys = flat(&debug(&["data.valid=my.txt"]));
        keys.extend(flat(&debug(&["schedule.eval_batches=2", "run.keep_weights=last"])));
        for (fixed, _) in FIXED {
            let is_there = keys.keys().any(|key| key == fixed || key.starts_with(&format!("{fixed}.")));
            assert!(is_there, "{fixed}");
        }
    }
}
