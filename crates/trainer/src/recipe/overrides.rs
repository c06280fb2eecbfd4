//! `section.key=value`, laid over the table of a recipe before it becomes a struct.

use toml::{Table, Value, de::Error as TomlError};

use super::{Recipe, RecipeError};

/// What switches an optional key off.
const NONE: &str = "none";

/// The keys that a recipe can do without.
const OPTIONAL: [&str; 8] = [
    "data.valid",
    "guards.patience",
    "guards.spike_z_score",
    "model.head_dim",
    "model.n_inner",
    "model.n_kv_head",
    "optimizer.grad_clip",
    "schedule.sample_interval",
];

/// A recipe with overrides laid over it, one after the other. They may complete a text that lacks a key.
pub(super) fn lay_over(text: &str, overrides: &[String]) -> Result<Recipe, RecipeError> {
    let mut table: Table = text.parse()?;
    let mut problems = vec![problem(&table)];
    for assignment in overrides {
        set(&mut table, assignment)?;
        problems.push(problem(&table));
    }
    let Some(Some(left)) = problems.last() else {
        return Ok(table.try_into()?);
    };
    // It came with the text, or with the first override after which it is there.
    let came_with = problems.iter().position(|problem| problem.as_ref() == Some(left)).unwrap_or_default();
    match came_with.checked_sub(1) {
        Some(idx) => Err(misfit(&overrides[idx], in_words(left.message()))),
        None => Ok(toml::from_str(text)?), // Shows the line of the file.
    }
}

/// Why a table is no recipe.
fn problem(table: &Table) -> Option<TomlError> {
    table.clone().try_into::<Recipe>().err()
}

/// Lays one `section.key=value` over a recipe. A bare word is a string, so `data.corpus=kjv` needs no
/// quotes; the bare word `none` takes the key away.
fn set(table: &mut Table, assignment: &str) -> Result<(), RecipeError> {
    let malformed = || RecipeError::Assignment { assignment: assignment.to_owned() };
    let (path, value) = assignment.split_once('=').ok_or_else(malformed)?;
    let (path, value) = (path.trim(), value.trim());
    let (section, key) = path.split_once('.').ok_or_else(malformed)?;
    if section.is_empty() || key.is_empty() {
        return Err(malformed());
    }
    let keys =
        table.entry(section).or_insert_with(|| Table::new().into()).as_table_mut().ok_or_else(malformed)?;
    if value != NONE {
        keys.insert(key.to_owned(), value.parse().unwrap_or_else(|_| Value::from(value)));
    } else if OPTIONAL.contains(&path) {
        keys.remove(key);
    } else {
        return Err(misfit(assignment, format!("only {} can be {NONE}", OPTIONAL.join(", "))));
    }
    Ok(())
}

fn misfit(assignment: &str, reason: String) -> RecipeError {
    RecipeError::Override { assignment: assignment.to_owned(), reason }
}

/// What was expected, in the words of who writes a recipe and not in Rust's.
fn in_words(reason: &str) -> String {
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
    fn none_switches_off_what_is_optional() {
        let on = debug(&["data.valid=my.txt"]).unwrap();
        assert!(on.optimizer.grad_clip.is_some() && on.schedule.sample_interval.is_some());
        let off = OPTIONAL.map(|key| format!("{key} = none"));
        let off = Recipe::parse(&on.to_toml(), &off).unwrap();
        assert_eq!(
            (off.data.valid, off.optimizer.grad_clip, off.schedule.sample_interval),
            (None, None, None)
        );
        assert_eq!(debug(&["data.valid=none"]).unwrap(), debug(&[]).unwrap(), "off already");
        assert_eq!(debug(&["data.corpus=\"none\""]).unwrap().data.corpus, "none", "a name is in quotes");
        for required in ["schedule.max_steps=none", "optimizer.grad_clp=none"] {
            assert_eq!(
                debug(&[required]).unwrap_err().to_string(),
                format!(
                    "--set {required} does not fit the recipe: only data.valid, guards.patience, \
                     guards.spike_z_score, model.head_dim, model.n_inner, model.n_kv_head, optimizer.grad_clip, \
                     schedule.sample_interval can be none"
                )
            );
        }
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
            let expected = format!("--set {wrong} does not fit the recipe: {reason}");
            // Whatever stands before and after it.
            let found = debug(&["run.seed=3", wrong, "data.valid_fraction=0.2"]).unwrap_err().to_string();
            assert!(found.starts_with(&expected), "{found:?} does not start with {expected:?}");
        }
        for malformed in ["max_steps=3", "schedule.max_steps", ".=3", "model.=3", "=3"] {
            assert_eq!(
                debug(&[malformed]).unwrap_err().to_string(),
                format!("--set {malformed} is not of the form section.key=value")
            );
        }
    }

    #[test]
    fn overrides_complete_a_text_and_are_not_blamed_for_it() {
        let without_seed = preset("debug").unwrap().replace("seed = 1337", "");
        assert_eq!(parse(&without_seed, &["run.seed=5"]).unwrap().run.seed, 5);
        let error = parse(&without_seed, &["model.n_layer=3"]).unwrap_err();
        assert!(matches!(error, RecipeError::Toml(_)), "{error}");
        assert!(error.to_string().contains("missing field `seed`"), "{error}");
    }
}
