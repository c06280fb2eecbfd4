//! Modules that LoRA can update.
//!
//! Modules are named as in Hugging Face layout, so a module such as `q_proj` is a range of rows of one of our matrices.

use model::{Gpt, Lora};

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

impl LoraModule {
    /// All modules of a model, in the order of its layers.
    pub fn all(model: &Gpt) -> Vec<Self> {
        let (config, names) = (model.config(), names(model.config()));
        let of_layer = |(path, [n_rows, n_in]): (String, [usize; 2])| {
            let mut first_row = 0;
            let parts = names.place(&format!("{path}.weight"), config).parts;
            let parts = parts.into_iter().map(move |part| {
                let name = part.key.strip_suffix(".weight").expect("it is a weight").to_owned();
                let shape = [part.n_outputs.unwrap_or(n_rows), n_in];
                let module = Self { name, path: path.clone(), first_row, shape };
                first_row += shape[0];
                module
            });
            parts.collect::<Vec<_>>()
        };
        model.linear_shapes().into_iter().flat_map(of_layer).collect()
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
    LoraModule::all(model).into_iter().filter_map(update).collect()
}
