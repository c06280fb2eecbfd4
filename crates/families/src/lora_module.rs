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

/// The name of a module, from the key of its weight.
fn name_of(key: &str) -> String {
    key.strip_suffix(".weight").expect("it is a weight").to_owned()
}

impl LoraModule {
    /// All modules of a model with these sizes, in the order of its layers.
    pub fn all(config: &GptConfig) -> Vec<Self> {
        let names = names(config);
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
        config.linear_shapes().into_iter().flat_map(of_layer).collect()
    }

    /// Whether PEFT would update the module for a target: the end of its name, from a dot on.
    pub fn is_target(&self, target: &str) -> bool {
        let end = self.name.strip_suffix(target);
        end.is_some_and(|start| start.is_empty() || start.ends_with('.'))
    }

    /// The last part of the name, such as `q_proj`.
    pub fn kind(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }
}

/// The modules of a model that have an update.
pub(crate) fn updated_modules(model: &Gpt) -> Vec<(LoraModule, Lora)> {
    let updates = model.lora();
    let update = |module: LoraModule| {
        let mut all = updates.get(&module.path)?.iter();
        let lora = all.find(|lora| lora.first_row() == module.first_row)?.clone();
        Some((module, lora))
    };
    LoraModule::all(model.config()).into_iter().filter_map(update).collect()
}

#[cfg(test)]
mod tests {
    use burn::prelude::Device;
    use model::{Activation, Position};

    use super::*;

    #[test]
    fn modules_are_the_rows_of_the_layers_of_a_model() {
        let gpt2 = GptConfig { vocab_size: 7, ..GptConfig::debug() };
        let mut llama = gpt2.clone();
        (llama.position.kind, llama.feed_forward.activation) = (Position::Rope, Activation::Swiglu);
        llama.attention.n_kv_head = Some(1);
        for config in [gpt2, llama] {
            let device = Device::default();
            let update =
                |module: &LoraModule| Lora::random(module.shape, module.first_row, 2, 1.0, [0, 0], &device);
            let modules = LoraModule::all(&config);
            let mut updates = std::collections::BTreeMap::<_, Vec<_>>::new();
            for module in &modules {
                updates.entry(module.path.clone()).or_default().push(update(module));
            }
            // It panics if a path names no layer, or an update exceeds a layer's rows.
            let model = config.init(1, &device).unwrap().with_lora(updates);
            let updated: Vec<_> = updated_modules(&model).into_iter().map(|(module, _)| module).collect();
            assert_eq!(updated, modules);
            for (path, [n_rows, _]) in config.linear_shapes() {
                let of_layer = modules.iter().filter(|module| module.path == path);
                assert_eq!(of_layer.map(|module| module.shape[0]).sum::<usize>(), n_rows, "{path}");
            }
        }
    }
}
