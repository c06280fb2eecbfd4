//! Recipes by name: presets and files.

use std::{fs, path::Path};

use anyhow::Context;
use engine::did_you_mean;
use trainer::{PRESETS, Recipe, SetupError, parse_recipe, preset};

use crate::usage::{ResultExt, bail_usage};

/// Reads a preset or a file.
pub(crate) fn read_recipe(name: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    parse(name, &recipe_text(name)?, overrides)
}

/// The text of a preset or a file.
pub(crate) fn recipe_text(name: &str) -> anyhow::Result<String> {
    Ok(match preset(name) {
        Some(text) => text.to_owned(),
        None if !Path::new(name).exists() => {
            let presets: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            let meant = did_you_mean(name, presets.iter().copied());
            bail_usage!(
                "there is no recipe {name}: no preset of that name ({}), no TOML file, no text{meant}",
                presets.join(", ")
            )
        }
        None => fs::read_to_string(name).with_context(|| format!("cannot read the recipe {name}"))?,
    })
}

/// Reads the text of a recipe. An error names the `--set` it is about, or else the recipe.
pub(crate) fn parse(name: &str, text: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    let recipe = parse_recipe(name, text, overrides);
    // A recipe that was typed is an argument. One that is a file alone is a file.
    match recipe {
        Err(error @ SetupError::Recipe { has_overrides: false, .. }) if preset(name).is_none() => {
            Err(error.into())
        }
        recipe => recipe.usage(),
    }
}
