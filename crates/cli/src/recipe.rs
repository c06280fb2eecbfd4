//! Recipes by name: presets and files.

use std::{fs, path::Path};

use anyhow::Context;
use trainer::{PRESETS, Recipe, RecipeError, preset};

use crate::{
    console::did_you_mean,
    usage::{ResultExt, bail_usage},
};

/// Reads a preset or a file.
pub(crate) fn read_recipe(name: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    let text = match preset(name) {
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
    };
    parse(name, &text, overrides)
}

/// Reads the text of a recipe. An error names the `--set` it is about, or else the recipe.
pub(crate) fn parse(name: &str, text: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    let starts_from_another = |recipe: &str| {
        let table: Option<toml::Table> = recipe.parse().ok();
        table.is_some_and(|table| table.get("model").is_none_or(|model| model.get("n_layer").is_none()))
    };
    if starts_from_another(text) && !overrides.iter().any(|set| set.starts_with("model.n_layer=")) {
        bail_usage!("the recipe {name} has no sizes: it starts from a model, which --init-from MODEL names");
    }
    let recipe = Recipe::parse(text, overrides).map_err(|error| match error {
        RecipeError::Assignment { .. } | RecipeError::Override { .. } => error.into(),
        error => anyhow::Error::new(error).context(format!("invalid recipe {name}")),
    });
    // A recipe that was typed is an argument. One that is a file alone is a file.
    if overrides.is_empty() && preset(name).is_none() { recipe } else { recipe.usage() }
}
