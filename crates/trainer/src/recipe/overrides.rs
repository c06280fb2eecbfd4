//! Overrides of a recipe, `section.key=value` each, and the list of all keys.

use model::GptConfig;
use serde_aux::serde_introspection::serde_introspect;
use toml::{Spanned, Table, Value, de::DeValue};

use super::{
    error::RecipeError,
    sections::{
        ChatRecipe, DataRecipe, DpoRecipe, GuardsRecipe, LoraRecipe, OptimizerRecipe, Recipe, RunRecipe,
        ScheduleRecipe,
    },
};

/// The value that unsets an optional key.
pub(super) const NONE: &str = "none";

/// One `section.key=value`. Without a value, it unsets the key.
pub(super) struct Override<'a> {
    pub section: &'a str,
    pub key: &'a str,
    pub value: Option<DeValue<'a>>,
}

impl<'a> Override<'a> {
    /// A bare word is a string, so `data.corpus=kjv` needs no quotes; the bare word `none` unsets an optional key.
    pub(super) fn parse(assignment: &'a str) -> Result<Self, RecipeError> {
        let malformed = || RecipeError::Assignment { assignment: assignment.to_owned() };
        let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
        let (path, value) = (path.trim(), value.trim());
        let (section, key) = path.split_once('.').ok_or_else(malformed)?;
        if section.is_empty() || key.is_empty() {
            return Err(malformed());
        }
        if value != NONE {
            let value =
                DeValue::parse(value).map_or_else(|_| DeValue::String(value.into()), Spanned::into_inner);
            return Ok(Self { section, key, value: Some(value) });
        }
        let optional = optional_keys();
        if optional.iter().all(|it| it != path) {
            return Err(RecipeError::Override {
                assignment: assignment.to_owned(),
                reason: format!("only {} can be {NONE}", optional.join(", ")),
            });
        }
        Ok(Self { section, key, value: None })
    }
}

/// The keys of a recipe, `section.key` each, by the structs themselves.
pub(super) fn keys() -> impl Iterator<Item = String> {
    let sections: [(&str, &[&str]); 9] = [
        ("model", serde_introspect::<GptConfig>()),
        ("data", serde_introspect::<DataRecipe>()),
        ("chat", serde_introspect::<ChatRecipe>()),
        ("dpo", serde_introspect::<DpoRecipe>()),
        ("lora", serde_introspect::<LoraRecipe>()),
        ("optimizer", serde_introspect::<OptimizerRecipe>()),
        ("schedule", serde_introspect::<ScheduleRecipe>()),
        ("guards", serde_introspect::<GuardsRecipe>()),
        ("run", serde_introspect::<RunRecipe>()),
    ];
    sections.into_iter().flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")))
}

/// The sections that the preset `debug` lacks, with their required keys.
const OPTIONAL_SECTIONS: &str =
    "\n[chat]\ntrain_on = \"last\"\n[dpo]\nbeta = 0.1\n[lora]\nrank = 8\nalpha = 16\n";

/// The keys that a recipe may lack: a complete recipe without one of them is still valid.
pub(super) fn optional_keys() -> Vec<String> {
    let debug = crate::preset("debug").expect("it is a preset");
    let complete: Table = format!("{debug}{OPTIONAL_SECTIONS}").parse().expect("a preset is valid");
    let is_optional = |path: &String| {
        let mut table = complete.clone();
        if let Some((section, key)) = path.split_once('.')
            && let Some(Value::Table(keys)) = table.get_mut(section)
        {
            keys.remove(key);
        }
        table.try_into::<Recipe>().is_ok()
    };
    keys().filter(is_optional).collect()
}

/// A reason with TOML's types in place of Rust's.
pub(super) fn in_words(reason: &str) -> String {
    const TYPES: [(&str, &str); 6] = [
        ("a nonzero u64", "a whole number above 0"),
        ("a nonzero usize", "a whole number above 0"),
        ("u64", "a whole number, 0 or above"),
        ("usize", "a whole number, 0 or above"),
        ("f64", "a number"),
        ("f32", "a number"),
    ];
    let in_words = |&(rust, words): &(&str, &str)| {
        reason.strip_suffix(&format!("expected {rust}")).map(|start| format!("{start}expected {words}"))
    };
    TYPES.iter().find_map(in_words).unwrap_or_else(|| reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;
    use crate::preset;

    fn parse(text: &str, overrides: &[&str]) -> Result<Recipe, RecipeError> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Recipe::parse(text, &overrides)
    }

    fn debug(overrides: &[&str]) -> Result<Recipe, RecipeError> {
        parse(preset("debug").expect("it is a preset"), overrides)
    }

    #[test]
    fn overrides_change_one_key() {
        let recipe =
            debug(&["schedule.max_steps=7", "data.corpus=kjv", "optimizer.grad_clip = 0.5"]).unwrap();
        assert_eq!(recipe.schedule.max_steps, 7);
        assert_eq!(recipe.data.corpus, "kjv");
        assert_eq!(recipe.optimizer.grad_clip, Some(0.5));
        assert_eq!(recipe.model, debug(&[]).unwrap().model);
    }

    #[test]
    fn every_optional_key_of_the_structs_can_be_none() {
        let optional = optional_keys();
        for key in [
            "data.separator",
            "data.valid",
            "guards.patience",
            "guards.spike_z_score",
            "model.head_dim",
            "model.n_inner",
            "model.n_kv_head",
            "optimizer.grad_clip",
            "optimizer.muon_learning_rate",
            "optimizer.muon_momentum",
            "optimizer.muon_weight_decay",
            "schedule.decay_steps",
            "schedule.keep_every",
            "schedule.restart",
            "schedule.sample_interval",
            "schedule.stable_steps",
        ] {
            assert!(optional.iter().any(|it| it == key), "{key} is not in {optional:?}");
        }
        for key in
            ["schedule.max_steps", "model.n_layer", "data.corpus", "optimizer.learning_rate", "run.seed"]
        {
            assert!(optional.iter().all(|it| it != key), "{key}");
        }
        // Each key is unset in a recipe that sets all of them.
        let everything = [
            "data.valid=my.txt",
            "guards.patience=3",
            "guards.spike_z_score=3.0",
            "model.head_dim=16",
            "model.n_inner=64",
            "model.n_kv_head=1",
            "optimizer.kind=muon",
            "optimizer.muon_learning_rate=0.1",
            "optimizer.muon_momentum=0.9",
            "optimizer.muon_weight_decay=0.1",
            "schedule.keep_every=10",
            "schedule.kind=wsd",
            "schedule.stable_steps=20",
            "schedule.decay_steps=30",
        ];
        let text = debug(&everything).unwrap().to_toml();
        for key in &optional {
            match parse(&text, &[&format!("{key}=none")]) {
                Ok(_) => {}
                // The error is about the remaining key that requires the unset one, not about the override.
                Err(error) => assert!(!matches!(error, RecipeError::Override { .. }), "{key}: {error}"),
            }
        }
        let left = parse(&text, &["schedule.kind=constant", "schedule.stable_steps=none"]).unwrap();
        assert_eq!(left.schedule.stable_steps, None);
    }

    #[test]
    fn none_switches_off_what_is_optional() {
        let on = debug(&["data.valid=my.txt"]).unwrap();
        assert!(on.optimizer.grad_clip.is_some() && on.schedule.sample_interval.is_some());
        let off = parse(&on.to_toml(), &["data.valid=none", "optimizer.grad_clip = none"]).unwrap();
        assert_eq!((off.data.valid, off.optimizer.grad_clip), (None, None));
        assert_eq!(debug(&["data.valid=none"]).unwrap(), debug(&[]).unwrap(), "off already");
        assert_eq!(debug(&["data.corpus=\"none\""]).unwrap().data.corpus, "none", "a name is in quotes");
        for required in ["schedule.max_steps=none", "optimizer.grad_clp=none"] {
            let error = debug(&[required]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("invalid --set {required}: only ")), "{error}");
            assert!(error.ends_with(" can be none") && error.contains(", schedule.stable_steps"), "{error}");
        }
    }

    #[test]
    fn the_decay_follows_the_end_of_the_run_unless_it_is_set() {
        let text = preset("debug").unwrap().replace("max_steps = 40", "max_steps = 40\ndecay_steps = 40");
        let decay = |overrides: &[&str]| {
            let recipe = parse(&text, overrides).unwrap();
            (recipe.schedule.decay_steps, recipe.schedule.decay_end())
        };
        assert_eq!(decay(&[]), (Some(40), 40), "an old recipe is as it was");
        assert_eq!(decay(&["run.seed=1"]), (Some(40), 40));
        assert_eq!(decay(&["schedule.max_steps=80"]), (None, 80));
        assert_eq!(decay(&["schedule.max_steps=80", "schedule.decay_steps=40"]), (Some(40), 40));
        assert_eq!(decay(&["schedule.decay_steps = 60", "schedule.max_steps=80"]), (Some(60), 60));
        // A decay that has an end of its own keeps it.
        let text = text.replace("decay_steps = 40", "decay_steps = 30");
        assert_eq!(parse(&text, &["schedule.max_steps=80"]).unwrap().schedule.decay_steps, Some(30));
    }

    #[test]
    fn evaluation_windows_take_the_place_of_batches_and_the_other_way_round() {
        let evaluation = |text: &str, overrides: &[&str]| {
            let schedule = parse(text, overrides).unwrap().schedule;
            (schedule.eval_windows.map(NonZeroU64::get), schedule.eval_batches.map(NonZeroU64::get))
        };
        let (new, old) = (preset("debug").unwrap(), preset("nanogpt-cpu").unwrap());
        assert_eq!(evaluation(new, &["schedule.eval_batches=3"]), (None, Some(3)));
        assert_eq!(evaluation(old, &[]), (None, Some(20)));
        assert_eq!(evaluation(old, &["schedule.eval_windows=30"]), (Some(30), None));
        let message = |overrides: &[&str]| debug(overrides).unwrap_err().to_string();
        assert!(
            message(&["schedule.eval_windows=3", "schedule.eval_batches=3"]).contains("exclude each other")
        );
        assert!(message(&["schedule.eval_windows=none"]).contains("needs `schedule.eval_windows`"));
    }

    /// A section that is added must not slip out of the list.
    #[test]
    fn the_keys_are_those_of_all_sections() {
        let sections = serde_introspect::<Recipe>();
        assert!(sections.iter().all(|section| keys().any(|key| key.starts_with(&format!("{section}.")))));
    }

    #[test]
    fn a_mistake_is_named_with_its_override() {
        for (wrong, reason) in [
            ("model.n_layers=3", "unknown field `n_layers`, expected one of"),
            ("modell.n_layer=3", "unknown field `modell`, expected one of"),
            ("model.n_layer=many", "invalid type: string \"many\", expected a whole number, 0 or above"),
            ("optimizer.learning_rate=", "invalid type: string \"\", expected a number"),
            ("schedule.eval_interval=0", "invalid value: integer `0`, expected a whole number above 0"),
            ("data.tokenizer=words", "no tokenizer is called \"words\""),
        ] {
            let expected = format!("invalid --set {wrong}: {reason}");
            // Whatever stands before and after it.
            let found = debug(&["run.seed=3", wrong, "data.valid_fraction=0.2"]).unwrap_err().to_string();
            assert!(found.starts_with(&expected), "{found:?} does not start with {expected:?}");
        }
        for malformed in ["max_steps=3", "schedule.max_steps", ".=3", "model.=3", "=3"] {
            assert_eq!(
                debug(&[malformed]).unwrap_err().to_string(),
                format!("invalid --set {malformed}: it must be section.key=value")
            );
        }
    }

    #[test]
    fn overrides_complete_a_text_and_are_not_blamed_for_it() {
        let without_seed = preset("debug").unwrap().replace("seed = 1337", "");
        assert_eq!(parse(&without_seed, &["run.seed=5"]).unwrap().run.seed, 5);
        let error = parse(&without_seed, &["model.n_layer=3"]).unwrap_err();
        assert!(matches!(error, RecipeError::Invalid { .. }), "{error}");
        assert!(error.to_string().contains("missing field `seed`"), "{error}");
    }
}
