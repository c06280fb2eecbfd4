//! Modules that LoRA can update.
//!
//! Modules are named as in Hugging Face layout, so a module such as `q_proj` is a range of rows of one of our matrices.

use model::{Gpt, GptConfig, Lora};

use crate::registry::names;

/// A module of the Hugging Face layout that LoRA can update: the rows of a linear layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoraModule {
    /// The module, such as `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// The path of the layer in the model, such as `blocks.0.attention.qkv`.
    pub path: String,
    pub first_row: usize,
    /// `[rows, C_in]`
    pub shape: [usize; 2],
}

/// The linear layers of a block.
const LAYERS: [&str; 4] =
    ["attention.qkv", "attention.project", "feed_forward.expand", "feed_forward.project"];

/// The name of a module, from the key of its weight.
fn name_of(key: &str) -> String {
    key.strip_suffix(".weight").expect("it is a weight").to_owned()
}

impl LoraModule {
    /// The names of all modules of a model with these sizes.
    pub fn names_of(config: &GptConfig) -> Vec<String> {
        let names = names(config);
        let of_block = |idx| LAYERS.into_iter().map(move |layer| format!("blocks.{idx}.{layer}.weight"));
        let layers = (0..config.n_layer).flat_map(of_block);
        let of_layer =
            |layer: String| names.place(&layer, config).parts.into_iter().map(|part| name_of(&part.key));
        layers.flat_map(|layer| of_layer(layer).collect::<Vec<_>>()).collect()
    }

    /// All modules of a model, in the order of its layers.
    pub fn all(model: &Gpt) -> Vec<Self> {
        let (config, names) = (model.config(), names(model.config()));
        let of_layer = |(path, [n_rows, n_in]): (String, [usize; 2])| {
            let mut first_row = 0;
            let parts = names.place(&format!("{path}.weight"), config).parts;
            let parts = parts.into_iter().map(move |part| {
                let name = name_of(&part.key);
                let shape = [part.n_outputs.unwrap_or(n_rows), n_in];
                let module = Self { name, path: path.clone(), first_row, shape };
                first_row += shape[0];
                module
            });
            parts.collect::<Vec<_>>()
        };
        model.linear_shapes().into_iter().flat_map(of_layer).collect()
    }

    /// Whether PEFT would update the module for a target.
    pub fn is_target(&self, target: &str) -> bool {
        is_target(&self.name, target)
    }

    /// The last part of the name, such as `q_proj`.
    pub fn kind(&self) -> &str {
        kind(&self.name)
    }
}

/// Whether PEFT would update the module of this name for a target: the end of the name, from a dot on.
pub fn is_target(name: &str, target: &str) -> bool {
    let end = name.strip_suffix(target);
    end.is_some_and(|start| start.is_empty() || start.ends_with('.'))
}

/// The last part of the name of a module.
fn kind(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The modules of a model that have an update.
pub(crate) fn updated_modules(model: &Gpt) -> Vec<(LoraModule, Lora)> {
    let updates = model.lora();
    let update = |module: LoraModule| {
        let mut all = updates.get(&module.path)?.iter();
        let lora = all.find(|lora| lora.first_row() == module.first_row)?.clone();
        Some((module, lora))
    };
    LoraModule::all(model).into_iter().filter_map(update).collect()
}

#[cfg(test)]
mod tests {
    use burn::prelude::Device;
    use model::{Activation, Position};

    use super::*;

    #[test]
    fn names_follow_from_sizes() {
        let gpt2 = GptConfig { vocab_size: 7, ..GptConfig::debug() };
        let mut llama = gpt2.clone();
        (llama.position.kind, llama.feed_forward.activation) = (Position::Rope, Activation::Swiglu);
        for config in [gpt2, llama] {
            let modules = LoraModule::all(&config.init(1, &Device::default()).unwrap());
            let names: Vec<String> = modules.into_iter().map(|module| module.name).collect();
            assert_eq!(LoraModule::names_of(&config), names);
        }
    }
}
