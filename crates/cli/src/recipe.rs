//! Recipes by name: presets and files.

use std::path::Path;

use engine::did_you_mean;
use trainer::{PRESETS, Recipe, RecipeError, RecipeSource, preset};

use crate::usage::{UsageError, bail_usage};

/// Opens and parses a preset or a file.
pub(crate) fn read_recipe(name: &str, overrides: &[String]) -> anyhow::Result<Recipe> {
    parse(&open_recipe(name)?, overrides)
}

/// Opens a preset or a file, and the recipes that it extends.
pub(crate) fn open_recipe(name: &str) -> anyhow::Result<RecipeSource> {
    if preset(name).is_none() && !Path::new(name).exists() {
        let presets = PRESETS.map(|(name, _)| name);
        bail_usage!(
            "there is no recipe {name}: it is neither a preset ({}) nor an existing file{}",
            presets.join(", "),
            did_you_mean(name, presets.into_iter())
        )
    }
    RecipeSource::open(name).map_err(recipe_error)
}

/// Parses a recipe and applies the overrides.
pub(crate) fn parse(source: &RecipeSource, overrides: &[String]) -> anyhow::Result<Recipe> {
    source.parse(overrides).map_err(recipe_error)
}

/// A mistake in a file is an error; any other is wrong usage.
pub(crate) fn recipe_error(error: RecipeError) -> anyhow::Error {
    if error.is_in_file() { error.into() } else { UsageError::new(error).into() }
}
