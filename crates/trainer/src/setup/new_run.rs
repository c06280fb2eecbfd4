//! A new run: its recipe, its tokens, its first weights and its folder.

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

/// A model that a new run starts from, in place of random weights. It decides sizes and tokenizer.
#[derive(Debug, Clone)]
pub struct Origin {
    /// What errors call it.
    pub name: String,
    /// Its sizes.
    pub config: GptConfig,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
}

/// A new run, or an experiment, as it was asked for.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The recipe.
    pub request: RecipeRequest,
    /// The model to start from.
    pub origin: Option<Origin>,
    /// Devices that are to train together.
    pub n_devices: usize,
}

/// A new run without its model.
pub struct PlannedRun {
    /// The whole recipe.
    pub recipe: Recipe,
    /// Its tokens.
    pub prepared: Prepared,
}

impl NewRun {
    /// A new run. The sizes of the model to start from are laid over the recipe.
    pub fn new(mut request: RecipeRequest, origin: Option<Origin>, n_devices: usize) -> Self {
        if let Some(origin) = &origin {
            request.overrides.splice(0..0, Recipe::sizes(&origin.config));
        }
        Self { request, origin, n_devices }
    }

    /// The recipe as far as it is known without its text.
    ///
    /// # Errors
    ///
    /// If it is invalid, or does not suit the model to start from or the devices.
    pub fn recipe(&self) -> Result<Recipe, SetupError> {
        let recipe = self.with_origin(self.request.parse()?)?;
        recipe.check_shares(self.n_devices)?;
        Ok(recipe)
    }

    /// The whole recipe, and the tokens of `data`, which is that of the recipe with paths that are found later too.
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
        let choice = match &self.origin {
            Some(origin) => TokenizerChoice::Given(origin.tokenizer.clone()),
            None => TokenizerChoice::Kind(data.tokenizer),
        };
        let prepared = prepare_data(&data, &choice, data_folder, on_progress)?;
        let recipe = self.with_origin(self.request.parse_for(prepared.train.len())?)?;
        let mut recipe = Recipe { data, ..recipe };
        if self.origin.is_none() {
            recipe.model.vocab_size = prepared.tokenizer.vocab_size();
        }
        Ok(PlannedRun { recipe, prepared })
    }

    /// The recipe with sizes and tokenizer of the model to start from.
    fn with_origin(&self, mut recipe: Recipe) -> Result<Recipe, SetupError> {
        let Some(Origin { name, config, tokenizer }) = &self.origin else { return Ok(recipe) };
        let GptConfig { dropout, block_size, .. } = recipe.model;
        if block_size > config.block_size {
            let (origin, n_positions) = (name.clone(), config.block_size);
            return Err(SetupError::LongBlock { block_size, origin, n_positions });
        }
        recipe.model = GptConfig { dropout, block_size, ..config.clone() };
        // A tokenizer from elsewhere has no name in a recipe; the run has it in its folder all the same.
        if let Some(kind) = tokenizer.kind() {
            recipe.data.tokenizer = kind;
        }
        Ok(recipe)
    }
}

impl PlannedRun {
    /// Refuses a text with a part that has no window in it, with the options that help.
    ///
    /// # Errors
    ///
    /// If there is such a part.
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
            // A power of two, as blocks commonly are.
            advice.push(format!("--set model.block_size={}", 1_usize << (shortest - 1).ilog2()));
        }
        let share = (block_size + 1) as f64 / (train + valid) as f64;
        if train > block_size && recipe.data.valid.is_none() && share < 0.4 {
            // A little more than needed, for tokens are of different lengths.
            advice.push(format!("--set data.valid_fraction={:.2}", (1.2 * share + 0.005).max(0.01)));
        }
        let longer =
            if train <= block_size { "--data with a longer text" } else { "--valid with a text of its own" };
        advice.push(longer.to_owned());
        Err(SetupError::ShortText { part, n_tokens, block_size, advice })
    }

    /// The weights to start from: random ones by the run's seed.
    ///
    /// # Errors
    ///
    /// If no model has the sizes.
    pub fn random_model(&self, device: &Device) -> Result<Gpt, SetupError> {
        Ok(self.recipe.model.init(self.recipe.run.seed, device)?)
    }

    /// The weights to start from: those of a model, with the run's dropout and block.
    pub fn model_from(&self, model: Gpt) -> Gpt {
        model.with_dropout(self.recipe.model.dropout).with_block_size(self.recipe.model.block_size)
    }

    /// Makes the run's folder, with the weights it starts from, so that even a run cut off before its first checkpoint can
    /// be resumed.
    ///
    /// # Errors
    ///
    /// If something of that name is there already, or the folder can't be made.
    ///
    /// # Panics
    ///
    /// If there is no device.
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
            panic!("a run has a device");
        };
        let Prepared { train, valid, .. } = prepared;
        let (device, more_devices, resume) = (device.clone(), more_devices.to_vec(), None);
        Ok(Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices })
    }
}
