//! From the texts of a recipe to the recipe.

use super::{error::RecipeError, layers::Layers, overrides, sections::Recipe, source::RecipeSource};

impl RecipeSource {
    /// Parses the recipe, and applies `section.key=value` overrides. The value `none` unsets an optional key.
    ///
    /// # Errors
    ///
    /// If a key is unknown or missing, or a value is out of range. The error names the override, or the file and
    /// line, that set the value.
    pub fn parse(&self, overrides: &[String]) -> Result<Recipe, RecipeError> {
        Layers::new(self, overrides)?.recipe()
    }
}

impl Recipe {
    /// Parses one text that extends nothing, as [`RecipeSource::parse`] does.
    ///
    /// # Errors
    ///
    /// As [`RecipeSource::parse`]; they call the text `recipe`.
    pub fn parse(text: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        RecipeSource::new("recipe".to_owned(), text.to_owned()).parse(overrides)
    }

    /// All keys of a recipe, `section.key` each.
    pub fn keys() -> Vec<String> {
        overrides::keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use model::GptConfig;
    use proptest::{prelude::*, sample::Index};

    use super::*;
    use crate::recipe::presets::{PRESETS, preset};

    #[test]
    fn a_recipe_takes_the_overrides_of_another_learning_rate() {
        let at = |name: &str, rate: f64| {
            let text = crate::preset(name).unwrap();
            let sizes = Recipe::sizes(&GptConfig::debug());
            let set = Recipe::parse(text, &sizes).unwrap().optimizer.at_learning_rate(rate);
            let optimizer = Recipe::parse(text, &[sizes, set.clone()].concat()).unwrap().optimizer;
            (set.join(" "), optimizer)
        };
        let (set, _) = at("debug", 0.0234);
        assert_eq!(set, "optimizer.learning_rate=2e-2");
        // Lower than the lowest rate of the recipe, which is a tenth of its highest.
        let (set, _) = at("debug", 2.6e-4);
        assert_eq!(set, "optimizer.learning_rate=3e-4");
        let (set, _) = at("debug", 2.4e-4);
        assert_eq!(set, "optimizer.learning_rate=2e-4 optimizer.min_learning_rate=2e-5");
        let (set, _) = at("finetune", 1.1e-6);
        assert_eq!(set, "optimizer.learning_rate=1e-6 optimizer.min_learning_rate=1e-6");
        // The sweep multiplies both rates of Muon.
        let (set, optimizer) = at("tiny", 3.1e-3);
        assert_eq!(set, "optimizer.learning_rate=3e-3 optimizer.muon_learning_rate=1.0e-2");
        assert!((optimizer.muon_ratio() - 0.02 / 6e-3).abs() < 0.01);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

        #[test]
        fn any_recipe_is_understood_or_refused(
            (_, text) in prop::sample::select(PRESETS.to_vec()),
            (from, to) in any::<(Index, Index)>(),
            put in "[-0-9a-z_.=\\[\\]\"\n é]{0,8}",
            set in "[a-z_]{0,10}\\.?[a-z_]{0,14}=?[-0-9a-z.\"]{0,9}",
        ) {
            let (from, to) = (from.index(text.len()), to.index(text.len())); // All of them are ASCII.
            let text = format!("{}{put}{}", &text[..from.min(to)], &text[from.max(to)..]);
            for overrides in [&[][..], &[set]] {
                match Recipe::parse(&text, overrides) {
                    Ok(recipe) => {
                        prop_assert_eq!(Recipe::parse(&recipe.to_toml(), &[]).unwrap(), recipe.clone());
                        prop_assert!(crate::estimate_memory(&recipe, 1) > 0 && recipe.tokens_per_step() > 0);
                    }
                    Err(error) => prop_assert!(!error.to_string().is_empty()),
                }
            }
        }

        #[test]
        fn a_number_of_any_size_is_understood_or_refused(
            key in prop::sample::select(vec![
                "model.n_layer", "model.n_embd", "model.block_size", "optimizer.batch_size",
                "optimizer.grad_accumulation", "optimizer.learning_rate", "schedule.max_steps", "run.seed",
            ]),
            number in prop_oneof![any::<i64>().prop_map(|n| n.to_string()), any::<f64>().prop_map(|x| format!("{x:?}"))],
        ) {
            if let Ok(recipe) = Recipe::parse(PRESETS[0].1, &[format!("{key}={number}")]) {
                prop_assert!(crate::estimate_memory(&recipe, 1) > 0);
                let _ = recipe.tokens_per_step();
            }
        }
    }

    fn debug(overrides: &[&str]) -> Result<Recipe, RecipeError> {
        let overrides: Vec<String> = overrides.iter().map(|&o| o.to_owned()).collect();
        Recipe::parse(preset("debug").expect("it is a preset"), &overrides)
    }

    #[test]
    fn presets_are_valid_and_survive_the_round_trip() {
        let sizes = Recipe::sizes(&GptConfig::nanogpt_cpu());
        for (name, text) in PRESETS {
            let given =
                if ["finetune", "sft", "lora", "dpo"].contains(&name) { sizes.as_slice() } else { &[] };
            let recipe = Recipe::parse(text, given).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Recipe::parse(&recipe.to_toml(), &[]).unwrap(), recipe, "{name}");
        }
    }

    #[test]
    fn nanogpt_presets_are_nanogpts_models() {
        for (name, expected) in
            [("nanogpt-cpu", GptConfig::nanogpt_cpu()), ("nanogpt-gpu", GptConfig::nanogpt_gpu())]
        {
            let recipe = Recipe::parse(preset(name).unwrap(), &[]).unwrap();
            assert_eq!(GptConfig { vocab_size: 65, ..recipe.model }, expected, "{name}");
        }
    }

    #[test]
    fn a_schedule_says_when_it_falls_if_it_does_so_late() {
        let wsd = "schedule.kind=wsd";
        debug(&[wsd, "schedule.stable_steps=20"]).unwrap();
        debug(&["schedule.kind=constant"]).unwrap();
        let message = |overrides: &[&str]| debug(overrides).unwrap_err().to_string();
        assert!(message(&[wsd]).contains("needs `schedule.stable_steps`"));
        assert!(message(&["schedule.stable_steps=20"]).contains("has no effect"));
        assert!(
            message(&["optimizer.muon_momentum=0.9"])
                .contains("has no effect without `optimizer.kind` = muon")
        );
        debug(&["optimizer.kind=muon", "optimizer.muon_momentum=0.9"]).unwrap();
        assert!(message(&["optimizer.kind=muon", "optimizer.muon_momentum=1.0"]).contains("below 1"));
        assert!(message(&[wsd, "schedule.stable_steps=1000"]).contains("is above `schedule.max_steps`"));
        let late = [wsd, "schedule.stable_steps=39", "schedule.decay_steps=38"];
        assert!(message(&late).contains("is above `schedule.decay_steps`"));
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let message = |overrides: &[&str]| debug(overrides).unwrap_err().to_string();
        assert_eq!(
            message(&["optimizer.beta_2=1.0"]),
            "invalid --set optimizer.beta_2=1.0: `optimizer.beta_2` must be at least 0 and below 1 (got 1)"
        );
        assert_eq!(
            message(&["data.valid_fraction=0.0"]),
            "invalid --set data.valid_fraction=0.0: `data.valid_fraction` must be above 0 and below 1 (got 0)"
        );
        assert_eq!(
            message(&["optimizer.learning_rate=1e-4"]),
            "invalid --set optimizer.learning_rate=1e-4: `optimizer.min_learning_rate` = 0.0003 is above `optimizer.learning_rate` = 0.0001; add --set \
             optimizer.min_learning_rate=0.0001, or raise the other"
        );
    }
}
