//! The list of families, and the family of a model or a file.

use model::GptConfig;

use crate::{
    family::{Family, Need, option},
    names::Names,
    own,
};

/// All families. A model without a chosen family belongs to the first whose requirements it meets.
pub const FAMILIES: &[&Family] = &[
    &crate::gpt2::FAMILY,
    &crate::llama::FAMILY,
    &crate::mistral::FAMILY,
    &crate::qwen2::FAMILY,
    &crate::qwen3::FAMILY, // One line for each.
];

/// The reason why a model belongs to no family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFamily {
    /// No family combines these options.
    #[error(
        "no Hugging Face architecture combines {chosen} with {other}; models with {chosen} use {expected}"
    )]
    Options {
        /// The option that the closest families share.
        chosen: String,
        /// The options that they lack.
        other: String,
        /// Their options instead.
        expected: String,
    },

    #[error("unknown {chosen}; choose {known}")]
    Unknown {
        /// `family` = "NAME".
        chosen: String,
        /// The names of all families.
        known: String,
    },

    /// The chosen family lacks some options.
    #[error("{chosen} is incompatible with {other}; it needs {expected}")]
    Chosen {
        /// `family` = "NAME".
        chosen: String,
        /// The options that it lacks.
        other: String,
        /// Its options instead.
        expected: String,
    },
}

impl Family {
    /// The family of a model: the chosen one, or the first whose requirements it meets.
    ///
    /// # Errors
    ///
    /// If the chosen family is unknown or lacks an option of the model, or no family has all options.
    pub fn of(config: &GptConfig) -> Result<&'static Self, NoFamily> {
        let Some(name) = &config.family else {
            let found = FAMILIES.iter().copied().find(|family| family.fits(config));
            return found.ok_or_else(|| none_fits(config));
        };
        let chosen = option("family", name);
        let Some(family) = Self::of_model_type(name) else {
            return Err(NoFamily::Unknown { chosen, known: listed(Self::model_types()) });
        };
        let needs = (family.options)(config).into_iter().flat_map(|stage| [vec![stage.choice], stage.others]);
        let (other, expected) = unmet(needs.flatten());
        if other.is_empty() { Ok(family) } else { Err(NoFamily::Chosen { chosen, other, expected }) }
    }

    /// The family with a `model_type`.
    pub fn of_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES.iter().copied().find(|family| family.model_type == model_type)
    }

    /// The family of a GGUF file with an architecture.
    pub fn of_architecture(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().copied().find(|family| family.architecture == architecture)
    }

    /// The `model_type` of all families.
    pub fn model_types() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().copied().map(|family| family.model_type)
    }

    /// The GGUF architectures of all families, without duplicates.
    pub fn architectures() -> Vec<&'static str> {
        let mut names = Vec::new();
        for family in FAMILIES {
            if !names.contains(&family.architecture) {
                names.push(family.architecture);
            }
        }
        names
    }

    /// The GGUF architectures as text, such as `gpt2, llama and qwen3`.
    pub(crate) fn architectures_in_words() -> String {
        match &Self::architectures()[..] {
            [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
            names => names.concat(),
        }
    }

    /// Whether a model meets the requirements of this family.
    pub(crate) fn fits(&self, config: &GptConfig) -> bool {
        (self.options)(config)
            .iter()
            .all(|stage| stage.choice.holds && stage.others.iter().all(|need| need.holds))
    }

    /// Sets `family` in the config if the options alone imply another one.
    pub(crate) fn pin_family(&self, config: GptConfig) -> GptConfig {
        if Self::of(&config).is_ok_and(|family| family.model_type == self.model_type) {
            return config;
        }
        let chosen = GptConfig { family: Some(self.model_type.to_owned()), ..config.clone() };
        if self.fits(&chosen) { chosen } else { config }
    }
}

/// The names of a model's tensors in its files.
pub(crate) fn names(config: &GptConfig) -> &'static Names {
    Family::of(config).map_or(&own::NAMES, |family| &family.names)
}

/// The error for a model without a family: names the options of the closest families.
fn none_fits(config: &GptConfig) -> NoFamily {
    // For each family, its first unmet stage, and how many choices the model meets before.
    let missing = FAMILIES.iter().copied().filter_map(|family| {
        let stages = (family.options)(config).into_iter().enumerate();
        stages.into_iter().find_map(|(depth, stage)| {
            let is_met = stage.choice.holds && stage.others.iter().all(|need| need.holds);
            (!is_met).then_some((2 * depth + usize::from(stage.choice.holds), stage))
        })
    });
    // The first of the closest families.
    let nearest = missing.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let (_, stage) = nearest.expect("a model that fits no family lacks an option of each");
    let (other, expected) = unmet(stage.others.into_iter());
    NoFamily::Options { chosen: stage.choice.option, other, expected }
}

/// The unmet options of a model, and the required ones.
fn unmet(needs: impl Iterator<Item = Need>) -> (String, String) {
    let unmet = needs.filter(|need| !need.holds).map(|need| (need.option, need.expected));
    let (others, expected): (Vec<_>, Vec<_>) = unmet.unzip();
    (others.join(" and "), expected.join(" and "))
}

/// Formats names as `"a", "b" and "c"`.
pub(crate) fn listed(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<_> = names.map(|name| format!("\"{name}\"")).collect();
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use model::{Activation, NormKind, Position};

    use super::*;

    fn with(mut config: GptConfig, change: impl Fn(&mut GptConfig)) -> GptConfig {
        change(&mut config);
        config
    }

    /// A Llama of odd sizes.
    fn llama() -> GptConfig {
        with(GptConfig::debug_modern(), |config| config.attention.qk_norm = false)
    }

    #[test]
    fn the_family_follows_from_the_options() {
        let of = |config: &GptConfig| Family::of(config).expect("a family has these options").model_type;
        assert_eq!(of(&GptConfig::gpt2()), "gpt2");
        assert_eq!(
            of(&with(GptConfig::debug(), |config| config.feed_forward.activation = Activation::Relu2)),
            "gpt2"
        );
        assert_eq!(of(&llama()), "llama");
        assert_eq!(of(&GptConfig { bias: true, ..llama() }), "llama");
        assert_eq!(of(&GptConfig::debug_modern()), "qwen3");
    }

    #[test]
    fn a_chosen_family_must_have_the_options() {
        let chosen = |family: &str, config: GptConfig| {
            Family::of(&GptConfig { family: Some(family.to_owned()), ..config }).map(|family| family.name)
        };
        assert_eq!(chosen("llama", llama()), Ok("Llama"));
        assert_eq!(chosen("gpt2", GptConfig::debug()), Ok("GPT-2"));
        let refused = |family: &str, config| chosen(family, config).unwrap_err().to_string();
        assert_eq!(
            refused("lama", llama()),
            format!("unknown `family` = \"lama\"; choose {}", listed(Family::model_types()))
        );
        assert_eq!(
            refused("llama", GptConfig { n_embd: 14, ..GptConfig::debug_modern() }),
            "`family` = \"llama\" is incompatible with `qk_norm` = true and `n_embd` = 14 and `n_head` = 4; it needs \
             `qk_norm` = false and an `n_embd` that is a multiple of `n_head`"
        );
    }

    #[test]
    fn each_family_meets_its_own_requirements() {
        for family in FAMILIES {
            let config = GptConfig { family: Some(family.model_type.to_owned()), ..(family.base)() };
            assert_eq!(Family::of(&config).map(|found| found.name), Ok(family.name));
        }
    }

    #[test]
    fn incompatible_options_are_named() {
        let refused =
            |config: GptConfig| Family::of(&config).expect_err("no family has these options").to_string();
        let debug = GptConfig::debug;
        assert_eq!(
            refused(with(debug(), |config| config.position.kind = Position::Rope)),
            "no Hugging Face architecture combines `position` = \"rope\" with `norm` = \"layer_norm\" and \
             `activation` = \"gelu\"; models with `position` = \"rope\" use `norm` = \"rms_norm\" and `activation` = \"swiglu\""
        );
        assert_eq!(
            refused(with(debug(), |config| config.attention.n_kv_head = Some(1))),
            "no Hugging Face architecture combines `position` = \"learned\" with `n_kv_head` = 1; models with \
             `position` = \"learned\" use `n_kv_head` = 3"
        );
        for (config, part) in [
            (with(debug(), |config| config.norm.kind = NormKind::RmsNorm), "`norm` = \"rms_norm\""),
            (
                with(debug(), |config| config.feed_forward.activation = Activation::Swiglu),
                "`activation` = \"swiglu\"",
            ),
            (with(debug(), |config| config.attention.qk_norm = true), "`qk_norm` = true"),
            (with(debug(), |config| config.attention.head_dim = Some(5)), "`head_dim` = 5"),
            (
                with(llama(), |config| config.feed_forward.activation = Activation::Relu2),
                "`activation` = \"relu2\"",
            ),
            (GptConfig { bias: true, ..GptConfig::debug_modern() }, "`qk_norm` = true with `bias` = true"),
            (GptConfig { n_embd: 14, ..llama() }, "`n_embd` = 14 and `n_head` = 4"),
        ] {
            let reason = refused(config);
            assert!(reason.contains(&format!("{part}; models with")), "{reason}");
        }
        let wide = GptConfig { n_embd: 14, ..GptConfig::debug_modern() };
        assert_eq!(Family::of(&wide).map(|family| family.name), Ok("Qwen3"));
    }
}
