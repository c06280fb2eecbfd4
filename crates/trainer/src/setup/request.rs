//! A recipe as it was asked for.

use super::error::SetupError;
use crate::{Recipe, RecipeError};

/// Steps that no run has.
const MAX_STEPS: u64 = 1_000_000_000_000;

/// A recipe with what is laid over it. Steps that were asked for in epochs are known when the text is; until then the recipe
/// has as many as one can have, so that nothing in it is refused for them.
#[derive(Debug, Clone)]
pub struct RecipeRequest {
    /// What errors call it: a preset, or a file.
    pub name: String,
    /// The recipe in TOML.
    pub text: String,
    /// `section.key=value` each.
    pub overrides: Vec<String>,
    /// How often the text is to be read, in place of a number of steps.
    pub epochs: Option<f64>,
}

impl RecipeRequest {
    /// The recipe as far as it is known without its text.
    ///
    /// # Errors
    ///
    /// If it is invalid.
    pub fn parse(&self) -> Result<Recipe, SetupError> {
        self.with_steps(self.epochs.map(|_| MAX_STEPS))
    }

    /// The recipe for a text of so many tokens to train on.
    ///
    /// # Errors
    ///
    /// If it is invalid, or the epochs come to too many steps.
    pub fn parse_for(&self, n_tokens: usize) -> Result<Recipe, SetupError> {
        let recipe = self.parse()?;
        let Some(epochs) = self.epochs else { return Ok(recipe) };
        let n_steps = recipe.steps_for(epochs, n_tokens);
        if n_steps > MAX_STEPS {
            let (n_steps, max_steps) = (n_steps as f64, MAX_STEPS as f64);
            return Err(SetupError::TooManySteps { epochs, n_steps, max_steps });
        }
        self.with_steps(Some(n_steps))
    }

    fn with_steps(&self, n_steps: Option<u64>) -> Result<Recipe, SetupError> {
        let steps = n_steps.map(|n| format!("schedule.max_steps={n}"));
        let overrides: Vec<String> = self.overrides.iter().cloned().chain(steps).collect();
        parse_recipe(&self.name, &self.text, &overrides)
    }
}

/// Reads the text of a recipe. An error names the override it is about, or else the recipe.
///
/// # Errors
///
/// If the recipe is invalid, or has no sizes.
pub fn parse_recipe(name: &str, text: &str, overrides: &[String]) -> Result<Recipe, SetupError> {
    let has_sizes = |recipe: &str| {
        let table: Option<toml::Table> = recipe.parse().ok();
        table.is_none_or(|table| table.get("model").is_some_and(|model| model.get("n_layer").is_some()))
    };
    if !has_sizes(text) && !overrides.iter().any(|set| set.starts_with("model.n_layer=")) {
        return Err(SetupError::NoSizes { name: name.to_owned() });
    }
    Recipe::parse(text, overrides).map_err(|error| match error {
        RecipeError::Assignment { .. } | RecipeError::Override { .. } => error.into(),
        source => SetupError::Recipe {
            name: name.to_owned(),
            has_overrides: !overrides.is_empty(),
            source: Box::new(source),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    fn request(overrides: &[&str], epochs: Option<f64>) -> RecipeRequest {
        RecipeRequest {
            name: "debug".to_owned(),
            text: preset("debug").unwrap().to_owned(),
            overrides: overrides.iter().map(|&set| set.to_owned()).collect(),
            epochs,
        }
    }

    #[test]
    fn epochs_become_steps_when_the_text_is_known() {
        // A step of `debug` reads 128 tokens.
        let ten = request(&[], Some(10.0));
        assert_eq!(ten.parse().unwrap().schedule.max_steps, MAX_STEPS);
        assert_eq!(ten.parse_for(1280).unwrap().schedule.max_steps, 100);
        let given = request(&["schedule.max_steps=7"], None);
        assert_eq!(given.parse_for(1280).unwrap().schedule.max_steps, 7);
        let error = request(&[], Some(1e15)).parse_for(1280).unwrap_err();
        assert!(matches!(error, SetupError::TooManySteps { .. }), "{error}");
    }

    #[test]
    fn an_error_names_the_override_or_else_the_recipe() {
        let error = request(&["model.n_layers=3"], None).parse().unwrap_err().to_string();
        assert!(error.contains("model.n_layers=3"), "{error}");
        let error = request(&["optimizer.learning_rate=-1.0"], None).parse().unwrap_err().to_string();
        assert_eq!(error, "invalid recipe debug");
        let without_sizes =
            RecipeRequest { text: preset("finetune").unwrap().to_owned(), ..request(&[], None) };
        assert!(matches!(without_sizes.parse(), Err(SetupError::NoSizes { .. })));
    }
}
