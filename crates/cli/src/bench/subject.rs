//! The recipe or model that `kindling bench` measures.

use std::path::Path;

use burn::prelude::Device;
use engine::{Source, WeightStorage};
use model::Gpt;
use trainer::{Recipe, RecipeSource, preset, vocab_size};

use crate::{
    allocator,
    device::DeviceArgs,
    model_args::{WeightsArgs, models},
    recipe::{parse, read_recipe},
    usage::bail_usage,
};

/// A model to measure.
pub(super) struct Subject {
    /// For training.
    pub(super) recipe: Recipe,
    /// Whether the recipe is the model's own.
    pub(super) has_recipe: bool,
    pub(super) model: Gpt,
    /// `None` for a new model.
    pub(super) source: Option<Source>,
}

impl Subject {
    /// A new model from a recipe, or a stored model, loaded for inference with the types of its file or those of
    /// `weights`. `n_characters` is the vocabulary size of a recipe with the char tokenizer.
    pub(super) fn open(
        name: &str,
        set: &[String],
        n_characters: usize,
        (weights, device_args): (&WeightsArgs, &DeviceArgs),
        device: &Device,
    ) -> anyhow::Result<Self> {
        let path = Path::new(name);
        let models = models();
        if preset(name).is_some() || !models.may_be_model(path) {
            if weights.is_given() {
                bail_usage!("--weights needs a stored model (got the recipe {name})");
            }
            let mut recipe = read_recipe(name, set)?;
            recipe.model.vocab_size = vocab_size(recipe.data.tokenizer, n_characters);
            let model = recipe.model.init(recipe.run.seed, device)?;
            return Ok(Self { recipe, has_recipe: true, model, source: None });
        }
        let source = models.open(path)?;
        let sizes = |set: &&String| set.trim_start().starts_with("model.");
        if let Some(set) = set.iter().find(sizes) {
            bail_usage!("--set {set} has no effect: the sizes come from {source}");
        }
        let storage = weights.storage(WeightStorage::AsStored, device_args)?;
        let model = load(&source, storage, device)?;
        let saved = match &source {
            Source::Folder(model) => RecipeSource::saved(&model.folder.recipe_path()).ok(),
            Source::Gguf(_) => None,
        };
        let mut recipe = match &saved {
            Some(saved) => parse(saved, set)?,
            None => {
                let one_batch = "optimizer.grad_accumulation=1".to_owned();
                read_recipe("gpt2", &[[one_batch].as_slice(), set].concat())?
            }
        };
        recipe.model = model.config().clone();
        Ok(Self { recipe, has_recipe: saved.is_some(), model, source: Some(source) })
    }
}

/// Loads a model with the given storage of its weights: owned ones for training.
pub(super) fn load(source: &Source, storage: WeightStorage, device: &Device) -> anyhow::Result<Gpt> {
    let tokenizer = source.load_tokenizer()?;
    allocator::release_free_memory();
    Ok(source.load_with(tokenizer, storage, device)?.gpt)
}
