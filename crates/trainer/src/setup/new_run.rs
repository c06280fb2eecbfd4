//! A new run: its recipe, tokens, initial weights and folder.

use std::{ops::Range, path::Path, sync::Arc};

use burn::prelude::Device;
use checkpoint::{Base, RunFolder, RunLock};
use dataset::{OnProgress, TokenizerChoice};
use families::AdapterConfig;
use model::{Gpt, GptConfig};
use ranks::Alone;
use tokenizer::SpecialTokens;

use super::{
    base_model::BaseModel,
    chats::{ChatFormat, chat_preset},
    data::{RunData, prepare_data},
    error::SetupError,
    request::RecipeRequest,
    updates::with_new_updates,
};
use crate::{ChatRecipe, DataRecipe, Recipe, Training, TrainingData};

/// The longest block for conversations, unless the recipe sets it: few are longer, and the blocks of base models are.
pub const CHAT_BLOCK: usize = 512;

/// [`CHAT_BLOCK`] for pairs of conversations.
pub const PAIR_BLOCK: usize = 2 * CHAT_BLOCK;

/// A requested new run or experiment.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub request: RecipeRequest,
    pub base_model: Option<BaseModel>,
    /// Number of devices for data-parallel training.
    pub n_devices: usize,
}

/// A new run with its complete recipe and its data, without weights.
pub struct PlannedRun {
    pub recipe: Recipe,
    pub data: RunData,
    /// The special tokens of the base model, if there is one.
    special_tokens: SpecialTokens,
    /// The ids of tokens that the base model lacks. Its embedding may have rows for them that were never trained.
    new_tokens: Range<usize>,
}

impl NewRun {
    /// A new run. The base model's sizes replace the recipe's.
    pub fn new(mut request: RecipeRequest, base_model: Option<BaseModel>, n_devices: usize) -> Self {
        if let Some(BaseModel { config, .. }) = &base_model {
            request.source = request.source.with_sizes_of(config);
            if let Ok(recipe) = request.parse()
                && recipe.chat.is_some()
            {
                let longest = if recipe.dpo.is_some() { PAIR_BLOCK } else { CHAT_BLOCK };
                let block_size = config.block_size.min(longest);
                request.source = request.source.with_sizes_of(&GptConfig { block_size, ..config.clone() });
            }
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
        let recipe = Recipe { data, ..self.recipe()? };
        match (&recipe.lora, &self.base_model) {
            (None, _) => {}
            (Some(_), None) => return Err(SetupError::NoBaseModel { section: "lora" }),
            (Some(lora), Some(base_model)) => lora.check_targets(&base_model.config)?,
        }
        if let Some(chat) = recipe.chat {
            return self.plan_chats(recipe, chat);
        }
        let choice = match &self.base_model {
            Some(base_model) => TokenizerChoice::Given(base_model.tokenizer.clone()),
            None => TokenizerChoice::Kind(recipe.data.tokenizer),
        };
        let corpus = &recipe.data.corpus;
        if let Some(preset) = chat_preset(corpus) {
            return Err(SetupError::ChatsAsText { path: corpus.clone(), preset });
        }
        let prepared = prepare_data(&recipe.data, &choice, data_folder, on_progress)?;
        let longer = self.with_base_model(self.request.parse_for(prepared.train.len())?)?;
        let mut recipe = Recipe { data: recipe.data, ..longer };
        let own = SpecialTokens::of(&prepared.tokenizer);
        let special_tokens = match &self.base_model {
            Some(base_model) => base_model.special_tokens.clone().or(own),
            None => {
                recipe.model.vocab_size = prepared.tokenizer.vocab_size();
                own
            }
        };
        Ok(PlannedRun { recipe, data: RunData::Text(prepared), special_tokens, new_tokens: 0..0 })
    }

    /// The complete recipe of a fine-tuning on conversations, and these. The vocabulary grows by the special tokens of
    /// their format.
    fn plan_chats(&self, recipe: Recipe, chat: ChatRecipe) -> Result<PlannedRun, SetupError> {
        let base_model = self.base_model.as_ref().ok_or(SetupError::NoBaseModel { section: "chat" })?;
        let BaseModel { name, tokenizer, special_tokens, .. } = base_model;
        let format = ChatFormat::of(name, tokenizer, special_tokens, chat)?;
        let n_known = base_model.tokenizer.vocab_size();
        let has_new_tokens = format.tokenizer().vocab_size() > n_known;
        if recipe.lora.is_some() && has_new_tokens {
            return Err(SetupError::NewTokensOfLora { base_model: base_model.name.clone() });
        }
        let (special_tokens, chat) = (format.special_tokens.clone(), format.recipe);
        let data = RunData::read_chats(&recipe, format)?;
        let longer =
            self.with_base_model(self.request.parse_for(data.training_data().tokens_per_epoch(&recipe)?)?)?;
        let mut recipe = Recipe { data: recipe.data, chat: Some(chat), ..longer };
        let n_tokens = data.tokenizer().vocab_size();
        recipe.model.vocab_size = recipe.model.vocab_size.max(n_tokens);
        Ok(PlannedRun { recipe, data, special_tokens, new_tokens: n_known..n_tokens })
    }

    /// The recipe with the base model's sizes and tokenizer.
    fn with_base_model(&self, mut recipe: Recipe) -> Result<Recipe, SetupError> {
        let Some(BaseModel { name, config, tokenizer, .. }) = &self.base_model else { return Ok(recipe) };
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
        let Self { recipe, data: RunData::Text(prepared), .. } = self else { return Ok(()) };
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

    /// Initial weights from a base model, with the run's dropout, block size, vocabulary and low-rank updates.
    pub fn model_from(&self, model: Gpt, device: &Device) -> Gpt {
        let GptConfig { dropout, block_size, .. } = self.recipe.model;
        let model = model.with_dropout(dropout).with_block_size(block_size);
        let model = model.with_new_tokens(self.new_tokens.clone(), self.recipe.run.seed);
        match &self.recipe.lora {
            Some(lora) => with_new_updates(model, lora, self.recipe.run.seed, device),
            None => model,
        }
    }

    /// Creates the run folder with the initial weights, so that a run killed before its first checkpoint can be
    /// resumed. `base` is the base model of low-rank updates.
    ///
    /// # Errors
    ///
    /// If the path already exists, or the folder can't be created.
    ///
    /// # Panics
    ///
    /// If `devices` is empty, or `base` is missing for low-rank updates.
    pub fn create(
        self,
        path: &Path,
        model: Gpt,
        base: Option<Base>,
        devices: &[Device],
    ) -> Result<Training, SetupError> {
        let Self { recipe, data, special_tokens, .. } = self;
        let adapter = match &recipe.lora {
            Some(lora) => {
                let base = base.expect("low-rank updates have a base model");
                let name = base.path.to_str().map(str::to_owned);
                Some((AdapterConfig::of(&model, name, lora.dropout), base))
            }
            None => None,
        };
        let held = RunFolder::create_run(path, |folder| {
            if let Some((config, base)) = &adapter {
                folder.save_adapter_description(config, base)?;
            }
            folder.save_weights(&model)?;
            folder.save_description(&recipe.model, data.tokenizer(), &special_tokens, Some(&recipe.to_toml()))
        })?;
        let data = (data.training_data(), data.checksums());
        Ok(training((recipe, model), held, data, devices))
    }

    /// As [`PlannedRun::create`] for a rank that writes no weights: its folder has only the recipe and the tokenizer.
    ///
    /// # Errors
    ///
    /// As [`PlannedRun::create`].
    ///
    /// # Panics
    ///
    /// If `devices` is empty.
    pub fn create_without_weights(
        self,
        path: &Path,
        model: Gpt,
        devices: &[Device],
    ) -> Result<Training, SetupError> {
        let Self { recipe, data, special_tokens, .. } = self;
        let held = RunFolder::create_run(path, |folder| {
            folder.save_description(&recipe.model, data.tokenizer(), &special_tokens, Some(&recipe.to_toml()))
        })?;
        let data = (data.training_data(), data.checksums());
        Ok(training((recipe, model), held, data, devices))
    }
}

/// A new run that trains alone.
fn training(
    (recipe, model): (Recipe, Gpt),
    (folder, lock): (RunFolder, RunLock),
    (data, checksums): (TrainingData, [String; 2]),
    devices: &[Device],
) -> Training {
    let [device, more_devices @ ..] = devices else { panic!("a run needs a device") };
    let (device, more_devices, resume) = (device.clone(), more_devices.to_vec(), None);
    let group = Arc::new(Alone::new());
    Training { recipe, folder, lock, model, data, checksums, resume, device, more_devices, group }
}
