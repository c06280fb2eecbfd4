//! The low-rank updates of a new run, and the storage of the weights below them.

use std::collections::{BTreeMap, BTreeSet};

use burn::prelude::Device;
use families::{LoraModule, WeightStorage, gguf::FileType};
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
        let modules = LoraModule::all(config);
        let is_unknown = |target: &&String| !modules.iter().any(|module| module.is_target(target));
        let Some(target) = self.targets.iter().flatten().find(is_unknown) else { return Ok(()) };
        let kinds: BTreeSet<&str> = modules.iter().map(LoraModule::kind).collect();
        let known = kinds.into_iter().map(str::to_owned).collect();
        Err(SetupError::UnknownTarget { target: target.clone(), known })
    }

    /// The updated modules of a model with these sizes, with their numbers among all modules.
    fn modules(&self, config: &GptConfig) -> impl Iterator<Item = (u64, LoraModule)> {
        let is_updated = |module: &LoraModule| match &self.targets {
            None => true,
            Some(targets) => targets.iter().any(|target| module.is_target(target)),
        };
        (0..).zip(LoraModule::all(config)).filter(move |(_, module)| is_updated(module))
    }

    /// The number of values of all updates of a model with these sizes.
    pub(crate) fn n_values(&self, config: &GptConfig) -> u64 {
        let n_values =
            |(_, module): (u64, LoraModule)| module.shape.into_iter().sum::<usize>() * self.rank.get();
        self.modules(config).map(n_values).fold(0, |sum, n| sum.saturating_add(n as u64))
    }
}

/// The model with new updates of the recipe's targets, which change nothing yet.
pub(super) fn with_new_updates(model: Gpt, recipe: &LoraRecipe, seed: u64, device: &Device) -> Gpt {
    let (rank, scale) = (recipe.rank.get(), recipe.alpha / recipe.rank.get() as f64);
    let mut updates: BTreeMap<String, Vec<Lora>> = BTreeMap::new();
    for (number, module) in recipe.modules(model.config()) {
        let lora = Lora::random(module.shape, module.first_row, rank, scale, [seed, number], device);
        updates.entry(module.path).or_default().push(lora);
    }
    model.with_lora(updates).with_lora_dropout(recipe.dropout)
}
