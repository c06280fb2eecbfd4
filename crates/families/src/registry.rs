//! The families, and which one a model or a file belongs to.

use model::GptConfig;

use crate::{
    family::{Family, Need, option},
    names::Names,
    own,
};

/// Every family. A model without a chosen one belongs to the first that has its options.
pub const FAMILIES: &[&Family] = &[
    &crate::gpt2::FAMILY,
    &crate::llama::FAMILY,
    &crate::mistral::FAMILY,
    &crate::qwen2::FAMILY,
    &crate::qwen3::FAMILY, // A line of its own for each.
];

/// Why a model is of no family.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFamily {
    /// Options that none of them has together.
    #[error("{chosen} with {other} is in no layout of Hugging Face's, which with {chosen} have {expected}")]
    Options {
        /// The option that leads to those that are nearest.
        chosen: String,
        /// The options that they don't have.
        other: String,
        /// What they have instead.
        expected: String,
    },

    /// A name that no family has.
    #[error("{chosen} is not known; choose {known}")]
    Unknown {
        /// The key with the name.
        chosen: String,
        /// The names of all families.
        known: String,
    },

    /// Options that the chosen family does not have.
    #[error("{chosen} can't have {other}; it has {expected}")]
    Chosen {
        /// The key with the family's name.
        chosen: String,
        /// The options that it does not have.
        other: String,
        /// What it has instead.
        expected: String,
    },
}

impl Family {
    /// The family of a model: the chosen one, or the first that has its options.
    ///
    /// # Errors
    ///
    /// If the chosen one is not known or lacks an option of the model, or no family has all of them.
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

    /// The family that is read from a GGUF file with an architecture.
    pub fn of_architecture(architecture: &str) -> Option<&'static Self> {
        FAMILIES.iter().copied().find(|family| family.architecture == architecture)
    }

    /// What `config.json` calls the families.
    pub fn model_types() -> impl Iterator<Item = &'static str> {
        FAMILIES.iter().copied().map(|family| family.model_type)
    }

    /// llama.cpp's names of the families, each once.
    pub fn architectures() -> Vec<&'static str> {
        let mut names = Vec::new();
        for family in FAMILIES {
            if !names.contains(&family.architecture) {
                names.push(family.architecture);
            }
        }
        names
    }

    /// llama.cpp's names of the families, as a sentence has them.
    pub(crate) fn architectures_in_words() -> String {
        match &Self::architectures()[..] {
            [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
            names => names.concat(),
        }
    }

    /// Whether a model has the options of this family.
    pub(crate) fn fits(&self, config: &GptConfig) -> bool {
        (self.options)(config)
            .iter()
            .all(|stage| stage.choice.holds && stage.others.iter().all(|need| need.holds))
    }

    /// The same model with this family chosen, where its options alone lead to another.
    pub(crate) fn chosen_for(&self, config: GptConfig) -> GptConfig {
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

/// What the families that come nearest have in place of a model's options.
fn none_fits(config: &GptConfig) -> NoFamily {
    // Of each, the first choice with an option that is missing, and how many choices are made before it.
    let missing = FAMILIES.iter().copied().filter_map(|family| {
        let stages = (family.options)(config).into_iter().enumerate();
        stages.into_iter().find_map(|(depth, stage)| {
            let is_met = stage.choice.holds && stage.others.iter().all(|need| need.holds);
            (!is_met).then_some((2 * depth + usize::from(stage.choice.holds), stage))
        })
    });
    // The first of those that are as near.
    let nearest = missing.reduce(|best, other| if other.0 > best.0 { other } else { best });
    let (_, stage) = nearest.expect("a model that fits no family lacks an option of each");
    let (other, expected) = unmet(stage.others.into_iter());
    NoFamily::Options { chosen: stage.choice.option, other, expected }
}

/// The options that are not as needed, and what is needed.
fn unmet(needs: impl Iterator<Item = Need>) -> (String, String) {
    let unmet = needs.filter(|need| !need.holds).map(|need| (need.option, need.expected));
    let (others, expected): (Vec<_>, Vec<_>) = unmet.unzip();
    (others.join(" and "), expected.join(" and "))
}

/// `"a", "b" and "c"`.
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
    fn a_chosen_family_has_to_have_the_options() {
        let chosen = |family: &str, config: GptConfig| {
            Family::of(&GptConfig { family: Some(family.to_owned()), ..config }).map(|family| family.name)
        };
        assert_eq!(chosen("llama", llama()), Ok("Llama"));
        assert_eq!(chosen("gpt2", GptConfig::debug()), Ok("GPT-2"));
        let refused = |family: &str, config| chosen(family, config).unwrap_err().to_string();
        assert_eq!(
            refused("lama", llama()),
            format!("`family` = \"lama\" is not known; choose {}", listed(Family::model_types()))
        );
        assert_eq!(
            refused("llama", GptConfig { n_embd: 14, ..GptConfig::debug_modern() }),
            "`family` = \"llama\" can't have `qk_norm` = true and `n_embd` = 14 and `n_head` = 4; it has `qk_norm` = \
             false and an `n_embd` that is a multiple of `n_head`"
        );
    }

    #[test]
    fn each_family_has_the_options_that_it_needs() {
        for family in FAMILIES {
            let config = GptConfig { family: Some(family.model_type.to_owned()), ..(family.base)() };
            assert_eq!(Family::of(&config).map(|found| found.name), Ok(family.name));
        }
    }

    #[test]
    fn options_that_no_family_has_together_are_named() {
        let refused =
            |config: GptConfig| Family::of(&config).expect_err("no family has these options").to_string();
        let debug = GptConfig::debug;
        assert_eq!(
            refused(with(debug(), |config| config.position.kind = Position::Rope)),
            "`position` = \"rope\" with `norm` = \"layer_norm\" and `activation` = \"gelu\" is in no layout of Hugging \
             Face's, which with `position` = \"rope\" have `norm` = \"rms_norm\" and `activation` = \"swiglu\""
        );
        assert_eq!(
            refused(with(debug(), |config| config.attention.n_kv_head = Some(1))),
            "`position` = \"learned\" with `n_kv_head` = 1 is in no layout of Hugging Face's, which with \
             `position` = \"learned\" have `n_kv_head` = 3"
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
            assert!(reason.contains(&format!("{part} is in no layout")), "{reason}");
        }
        let wide = GptConfig { n_embd: 14, ..GptConfig::debug_modern() };
        assert_eq!(Family::of(&wide).map(|family| family.name), Ok("Qwen3"));
    }
}
