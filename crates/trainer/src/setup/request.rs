//! A requested recipe: a preset or file with overrides.

use super::error::SetupError;
use crate::{Recipe, RecipeSource};

/// The maximum number of steps of a run.
const MAX_STEPS: u64 = 1_000_000_000_000;

/// A recipe with its overrides. If the length is given in epochs, the number of steps depends on the text. Until the
/// text is known, the recipe has the maximum number of steps, so that no check fails because of it.
#[derive(Debug, Clone)]
pub struct RecipeRequest {
    /// A preset, or files.
    pub source: RecipeSource,
    /// Each is `section.key=value`.
    pub overrides: Vec<String>,
    /// Length of the run in epochs, instead of steps.
    pub epochs: Option<f64>,
}

impl RecipeRequest {
    /// The recipe as far as it is known without the text.
    ///
    /// # Errors
    ///
    /// If it is invalid.
    pub fn parse(&self) -> Result<Recipe, SetupError> {
        self.with_steps(self.epochs.map(|_| MAX_STEPS))
    }

    /// The recipe for `n_tokens` training tokens.
    ///
    /// # Errors
    ///
    /// If it is invalid, or the epochs take too many steps.
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
        Ok(self.source.parse(&overrides)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(overrides: &[&str], epochs: Option<f64>) -> RecipeRequest {
        RecipeRequest {
            source: RecipeSource::open("debug").unwrap(),
            overrides: overrides.iter().map(|&set| set.to_owned()).collect(),
            epochs,
        }
    }

    #[test]
    fn epochs_become_steps_once_the_text_is_known() {
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
    fn errors_name_the_override_or_else_the_recipe() {
        let error = request(&["model.n_layers=3"], None).parse().unwrap_err().to_string();
        assert!(error.starts_with("invalid --set model.n_layers=3: unknown field"), "{error}");
        let error = request(&["optimizer.learning_rate=-1.0"], None).parse().unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid --set optimizer.learning_rate=-1.0: `optimizer.learning_rate` must be above 0 (got -1)"
        );
        let finetune = RecipeSource::open("finetune").unwrap();
        let error = RecipeRequest { source: finetune, ..request(&[], None) }.parse().unwrap_err();
        assert!(error.to_string().starts_with("the recipe finetune has no model sizes"), "{error}");
    }
}
