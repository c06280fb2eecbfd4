//! A recipe with overrides after it. It is read from memory, so errors name keys and lines instead of the file.
#![no_main]

use fuzz::within;
use libfuzzer_sys::fuzz_target;
use trainer::Recipe;

/// Separates the recipe from the overrides, which are one per line.
const SEPARATOR: &str = "\n---\n";

fuzz_target!(|text: &str| {
    let (text, overrides) = text.split_once(SEPARATOR).unwrap_or((text, ""));
    let overrides: Vec<String> = overrides.lines().map(str::to_owned).collect();
    // Each override rebuilds the table.
    let allowed = (1 << 20) + (1 << 8) * (1 + overrides.len()) * text.len();
    within(allowed, || match Recipe::parse(text, &overrides) {
        Ok(recipe) => {
            let again = Recipe::parse(&recipe.to_toml(), &[]).expect("a written recipe is valid");
            assert_eq!(again.to_toml(), recipe.to_toml());
            assert!(recipe.tokens_per_step() > 0);
            drop(again.changes_to(&recipe));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
});
