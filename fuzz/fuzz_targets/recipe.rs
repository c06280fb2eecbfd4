//! A recipe, with overrides after it. It is read from memory, so its errors name keys and lines and not the file.
#![no_main]

use fuzz::within;
use libfuzzer_sys::fuzz_target;
use trainer::Recipe;

/// Between the recipe and the overrides, one a line.
const BORDER: &str = "\n---\n";

fuzz_target!(|text: &str| {
    let (text, overrides) = text.split_once(BORDER).unwrap_or((text, ""));
    let overrides: Vec<String> = overrides.lines().map(str::to_owned).collect();
    // A table is laid out anew for each override.
    let allowed = (1 << 20) + (1 << 8) * (1 + overrides.len()) * text.len();
    within(allowed, || match Recipe::parse(text, &overrides) {
        Ok(recipe) => {
            let again = Recipe::parse(&recipe.to_toml(), &[]).expect("what is written can be read");
            assert_eq!(again.to_toml(), recipe.to_toml());
            assert!(recipe.tokens_per_step() > 0);
            drop(again.changes_to(&recipe));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
});
