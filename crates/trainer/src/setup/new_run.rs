//! A new run: its recipe, tokens, initial weights and folder.

use std::path::Path;

use burn::prelude::Device;
use checkpoint::RunFolder;
use dataset::{OnProgress, Prepared, TokenizerChoice};
use model::{Gpt, GptConfig};
use tokenizer::{SpecialTokens, Tokenizer};

use super::{
    data::{checksums, prepare_data},
    error::SetupError,
    request::RecipeRequest,
};
use crate::{DataRecipe, Recipe, Training};

/// A model that a new run is initialised from, instead of random weights. It determines sizes and tokenizer.
#[derive(Debug, Clone)]
pub struct BaseModel {
    /// Name in error messages.
    pub name: String,
    pub config: GptConfig,
    pub tokenizer: Tokenizer,
}

/// A requested new run or experiment.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub request: RecipeRequest,
    pub base_model: Option<BaseModel>,
    /// Number of devices for data-parallel training.
    pub n_devices: usize,
}

/// A new run with its complete recipe and its tokens, without weights.
pub struct PlannedRun {
    pub recipe: Recipe,
    pub prepared: Prepared,
}

impl NewRun {
    /// A new run. The base model's sizes replace the recipe's.
    pub fn new(mut request: RecipeRequest, base_model: Option<BaseModel>, n_devices: usize) -> Self {
        if let Some(base_model) = &base_model {
            request.source = request.source.with_sizes_of(&base_model.config);
        }
        Self { request, base_model, n_devices }
    }

    /// The recipe as far as it is known without the text.
    ///
    /// # Errors
    ///
    /// If it is invalid, or does not fit the base model or the devices.
    pub fn recipe(&self) -> Result<Recipe, SetupError> {
        let recipe = self.with_base_model(self.request.parse()?)?;
        recipe.check_device_count(self.n_devices)?;
        Ok(recipe)
    }

    /// The complete recipe and its tokens. `data` is the recipe's `[data]`, with paths that remain valid later.
    ///
    /// # Errors
    ///
    /// As [`NewRun::recipe`], or if the text can't be read.
    pub fn plan(
        &self,
        data: DataRecipe,
        data_folder: &Path,
        on_progress: OnProgress<'_>,
    ) -> Result<PlannedRun, SetupError> {
        let choice = match &self.base_model {
            Some(base_model) => TokenizerChoice::Given(base_model.tokenizer.clone()),
            None => TokenizerChoice::Kind(data.tokenizer),
        };
        let prepared = prepare_data(&data, &choice, data_folder, on_progress)?;
        let recipe = self.with_base_model(self.request.parse_for(prepared.train.len())?)?;
        let mut recipe = Recipe { data, ..recipe };
        if self.base_model.is_none() {
            recipe.model.vocab_size = prepared.tokenizer.vocab_size();
        }
        Ok(PlannedRun { recipe, prepared })
    }

    /// The recipe with the base model's sizes and tokenizer.
    fn with_base_model(&self, mut recipe: Recipe) -> Result<Recipe, SetupError> {
        let Some(BaseModel { name, config, tokenizer }) = &self.base_model else { return Ok(recipe) };
        let GptConfig { dropout, block_size, .. } = recipe.model;
        if block_size > config.block_size {
            let (base_model, n_positions) = (name.clone(), config.block_size);
            return Err(SetupError::LongBlock { block_size, base_model, n_positions });
        }
        recipe.model = GptConfig { dropout, block_size, ..config.clone() };
        // Imported tokenizers have no name in a recipe; they are saved in the run folder only.
        if let Some(kind) = tokenizer.kind() {
            recipe.data.tokenizer = kind;
        }
        Ok(recipe)
    }
}

impl PlannedRun {
    /// Checks that both parts of the text have at least one window.
    ///
    /// # Errors
    ///
    /// If one is shorter; the error has the options that solve the problem.
    pub fn check_lengths(&self) -> Result<(), SetupError> {
        let Self { recipe, prepared } = self;
        let (train, valid, block_size) =
            (prepared.train.len(), prepared.valid.len(), recipe.model.block_size);
        let corpus = &recipe.data.corpus;
        let (part, n_tokens) = match &recipe.data.valid {
            _ if train <= block_size => (format!("the training part of {corpus}"), train),
            _ if valid > block_size => return Ok(()),
            Some(path) => (path.clone(), valid),
            None => (format!("the validation part of {corpus}"), valid),
        };
        let shortest = train.min(valid);
        let mut advice = Vec::new();
        if shortest > 1 {
            // The largest power of two that fits.
            advice.push(format!("--set model.block_size={}", 1_usize << (shortest - 1).ilog2()));
        }
        let share = (block_size + 1) as f64 / (train + valid) as f64;
        if train > block_size && recipe.data.valid.is_none() && share < 0.4 {
            // A little more than needed, because tokens have different lengths.
            advice.push(format!("--set data.valid_fraction={:.2}", (1.2 * share + 0.005).max(0.01)));
        }
        let longer =
            if train <= block_size { "--data with a longer text" } else { "--valid with a text of its own" };
        advice.push(longer.to_owned());
        Err(SetupError::ShortText { part, n_tokens, block_size, advice })
    }

    /// Random initial weights from the run's seed.
    ///
    /// # Errors
    ///
    /// If the sizes are invalid.
    pub fn random_model(&self, device: &Device) -> Result<Gpt, SetupError> {
        Ok(self.recipe.model.init(self.recipe.run.seed, device)?)
    }

    /// Initial weights from a base model, with the run's dropout and block size.
    pub fn model_from(&self, model: Gpt) -> Gpt {
        model.with_dropout(self.recipe.model.dropout).with_block_size(self.recipe.model.block_size)
    }

    /// Creates the run folder with the initial weights, so that a run killed before its first checkpoint can be
    /// resumed.
    ///
    /// # Errors
    ///
    /// If the path already exists, or the folder can't be created.
    ///
    /// # Panics
    ///
    /// If `devices` is empty.
    pub fn create(
        self,
        path: &Path,
        model: Gpt,
        special_tokens: &SpecialTokens,
        devices: &[Device],
    ) -> Result<Training, SetupError> {
        let Self { recipe, prepared } = self;
        let (folder, lock) = RunFolder::create_run(path, |folder| {
            folder.save_weights(&model)?;
            folder.save_description(
                &recipe.model,
                &prepared.tokenizer,
                special_tokens,
                Some(&recipe.to_toml()),
            )
        })?;
        let (data, [device, more_devices @ ..]) = (checksums(&prepared), devices) else {
            panic!("a run needs a device");
        };
        let Prepared { train, valid, .. } = prepared;
        let (device, more_devices, resume) = (device.clone(), more_devices.to_vec(), None);
        Ok(Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices })
    }
}
