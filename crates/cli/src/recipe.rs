//! Recipes by name: presets and files.

use std::fs;

use anyhow::{Context, bail};
use trainer::{PRESETS, Recipe, RecipeError, preset};

use crate::console::did_you_mean;

/// Reads a preset or a file.
pub(crate) fn read_recipe(name: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    let text = match preset(name) {
        Some(text) => text.to_owned(),
        None => fs::read_to_string(name).with_context(|| {
            let presets: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
            let meant = did_you_mean(name, presets.iter().copied());
            format!("read the recipe {name} (the presets are {}{meant})", presets.join(", "))
        })?,
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
        bail!("the recipe {name} has no sizes: it goes on from a model, which --init-from MODEL names");
    }
    Recipe::parse(text, overrides).map_err(|error| match error {
        RecipeError::Assignment { .. } | RecipeError::Override { .. } => error.into(),
        error => anyhow::Error::new(error).context(format!("understand the recipe {name}")),
    })
}
