//! The low-rank updates of a new run, and the storage of the weights below them.

use std::collections::BTreeMap;

use burn::prelude::Device;
use families::{LoraModule, WeightStorage, gguf::FileType};
use kernels::has_fused_operations;
use model::{Gpt, Lora};

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
}

/// The model with new updates of the recipe's targets, which change nothing yet.
///
/// # Errors
///
/// If a target is not a linear layer of the blocks.
pub(super) fn with_new_updates(
    model: Gpt,
    recipe: &LoraRecipe,
    seed: u64,
    device: &Device,
) -> Result<Gpt, SetupError> {
    let modules = LoraModule::all(&model);
    let targets = recipe.targets.as_deref();
    let is_unknown = |target: &&String| !modules.iter().any(|module| module.is_target(target));
    if let Some(target) = targets.unwrap_or_default().iter().find(is_unknown) {
        let mut known: Vec<String> = modules.iter().map(|module| module.kind().to_owned()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(SetupError::UnknownTarget { target: target.clone(), known });
    }
    let is_target = |module: &LoraModule| {
        targets.is_none_or(|targets| targets.iter().any(|target| module.is_target(target)))
    };
    let (rank, scale) = (recipe.rank.get(), recipe.alpha / recipe.rank.get() as f64);
    let mut updates: BTreeMap<String, Vec<Lora>> = BTreeMap::new();
    for (number, module) in (0..).zip(modules).filter(|(_, module)| is_target(module)) {
        let lora = Lora::random(module.shape, module.first_row, rank, scale, [seed, number], device);
        updates.entry(module.path).or_default().push(lora);
    }
    Ok(model.with_lora(updates).with_lora_dropout(recipe.dropout))
}
