//! The low-rank updates of a new run, and the storage of the weights below them.

use std::collections::{BTreeMap, BTreeSet};

use burn::prelude::Device;
use families::{LoraModule, WeightStorage, gguf::FileType, is_target};
use kernels::has_fused_operations;
use model::{Gpt, GptConfig, Lora};

use super::error::SetupError;
use crate::LoraRecipe;

impl LoraRecipe {
    /// How the base model's weights are stored on a device.
    ///
    /// # Errors
    ///
    /// If the device needs weights in f32, and the recipe sets another type.
    pub fn storage(&self, device: &Device) -> Result<WeightStorage, SetupError> {
        match self.base {
            FileType::F32 => Ok(WeightStorage::Mapped),
            ty if has_fused_operations(device) => Ok(WeightStorage::Quantised(ty)),
            ty => Err(SetupError::PackedBase { ty }),
        }
    }

    /// Checks that all targets are linear layers of the blocks of a model with these sizes.
    ///
    /// # Errors
    ///
    /// The first target that is not.
    pub(super) fn check_targets(&self, config: &GptConfig) -> Result<(), SetupError> {
        let names = LoraModule::names_of(config);
        let is_unknown = |target: &&String| !names.iter().any(|name| is_target(name, target));
        let Some(target) = self.targets.iter().flatten().find(is_unknown) else { return Ok(()) };
        let kinds: BTreeSet<&str> = names.iter().filter_map(|name| name.rsplit('.').next()).collect();
        let known = kinds.into_iter().map(str::to_owned).collect();
        Err(SetupError::UnknownTarget { target: target.clone(), known })
    }
}

/// The model with new updates of the recipe's targets, which change nothing yet.
pub(super) fn with_new_updates(model: Gpt, recipe: &LoraRecipe, seed: u64, device: &Device) -> Gpt {
    let modules = LoraModule::all(&model);
    let targets = recipe.targets.as_deref();
    let is_target = |module: &LoraModule| {
        targets.is_none_or(|targets| targets.iter().any(|target| module.is_target(target)))
    };
    let (rank, scale) = (recipe.rank.get(), recipe.alpha / recipe.rank.get() as f64);
    let mut updates: BTreeMap<String, Vec<Lora>> = BTreeMap::new();
    for (number, module) in (0..).zip(modules).filter(|(_, module)| is_target(module)) {
        let lora = Lora::random(module.shape, module.first_row, rank, scale, [seed, number], device);
        updates.entry(module.path).or_default().push(lora);
    }
    model.with_lora(updates).with_lora_dropout(recipe.dropout)
}
