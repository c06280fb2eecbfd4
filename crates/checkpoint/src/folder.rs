//! The layout of the run folder.
//!
//! ```text
//! runs/NAME/
//!   recipe.toml               the resolved recipe
//!   config.json               sizes and options: Hugging Face layout if an architecture has them, else Kindling's own
//!   model.safetensors         the best weights so far, in the same layout. With LoRA instead adapter_model.safetensors
//!                             and adapter_config.json, as PEFT writes them, and base.json with the base model
//!   model.step-00002000....   backup of better weights whose steps were undone by resuming with another recipe
//!   tokenizer.json            beside it tokenizer_config.json and generation_config.json; for imported models also
//!                             chat_template.jinja and special_tokens_map.json
//!   checkpoints/step-00002000 the state to resume from
//!   reference.safetensors     with preference tuning, what the initial model says of the pairs
//!   metrics.jsonl             one JSON object per line
//!   loss.svg, loss.png        charts of the losses
//!   samples.txt               samples generated during training
//!   sessions.jsonl            the starts and resumes of the run, with changes of the recipe
//!   README.md                 the model card, written after training
//!   run.lock                  the process that trains the run
//! ```

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ::fs::atomic;
use burn::prelude::Device;
use families::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, ConfigJson, Family, WeightStorage, config_to_json, explain_missing,
    unsupported_tokenizer,
};
use formats::{
    refuse_lfs_pointer,
    weights::{FloatType, Weights},
};
use model::{Gpt, GptConfig};
use tokenizer::{Companions, SpecialTokens, Tokenizer};

use crate::{
    Error, Result,
    error::io,
    export::{save_adapter, save_weights},
};

/// The file name of the weights.
pub const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
/// With [`MERGES`], GPT-2's older format of a tokenizer.
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const RECIPE: &str = "recipe.toml";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.txt";
const CARD: &str = "README.md";

/// A run folder, or any folder with a model in Hugging Face layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Creates a new folder and its parents.
    ///
    /// # Errors
    ///
    /// If the path already exists, or the folder can't be created.
    pub fn create(path: &Path) -> Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        match fs::create_dir(path) {
            Ok(()) => Ok(Self { path: path.to_owned() }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Error::Exists { path: path.to_owned() })
            }
            Err(error) => Err(io("create", path)(error)),
        }
    }

    /// Creates a new folder atomically, with contents written by `fill`.
    ///
    /// # Errors
    ///
    /// If the path already exists, or the folder can't be created or filled.
    pub fn create_with(path: &Path, fill: impl FnOnce(&Self) -> Result<()>) -> Result<Self> {
        if path.exists() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        atomic::create_folder(path, |partial| fill(&Self { path: partial.to_owned() }))?;
        Ok(Self { path: path.to_owned() })
    }

    /// A folder at a path that is not checked.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Opens an existing folder.
    ///
    /// # Errors
    ///
    /// If the folder does not exist or has no `config.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned() };
        fs::metadata(path).map_err(io("open", path))?;
        if !folder.path.join(CONFIG).is_file() && !folder.is_adapter() {
            return Err(not_a_model(path, CONFIG));
        }
        Ok(folder)
    }

    /// The most recently modified run in `runs`, if there is one.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::all`].
    pub fn newest(runs: &Path) -> Result<Option<Self>> {
        Ok(Self::all(runs)?.pop())
    }

    /// The runs in `runs`, the most recently modified one last.
    ///
    /// # Errors
    ///
    /// If `runs` exists and can't be listed.
    pub fn all(runs: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(runs) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io("list", runs))?,
        };
        let is_run = |path: &PathBuf| {
            let has_weights = [WEIGHTS, ADAPTER_WEIGHTS].iter().any(|name| path.join(name).is_file());
            has_weights && path.join(CONFIG).is_file() && !atomic::is_temporary(path)
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_run);
        let mut found: Vec<Self> = paths.map(|path| Self { path }).collect();
        found.sort_by_cached_key(|run| (run.last_modified(), run.path.clone()));
        Ok(found)
    }

    /// When its weights or metrics were last modified.
    pub fn last_modified(&self) -> Option<SystemTime> {
        let times = [WEIGHTS, ADAPTER_WEIGHTS, METRICS, CONFIG]
            .map(|name| fs::metadata(self.path.join(name)).ok()?.modified().ok());
        times.into_iter().flatten().max()
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name, which is the folder's name.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// The path of the metrics, one JSON object per line.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// The path of the generated samples.
    pub fn samples_path(&self) -> PathBuf {
        self.path.join(SAMPLES)
    }

    /// The path of the model card.
    pub fn card_path(&self) -> PathBuf {
        self.path.join(CARD)
    }

    /// The path of the resolved recipe.
    pub fn recipe_path(&self) -> PathBuf {
        self.path.join(RECIPE)
    }

    /// The folder of the checkpoints.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Writes config, tokenizer and, for a model trained by Kindling, recipe.
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn save_description(
        &self,
        config: &GptConfig,
        tokenizer: &Tokenizer,
        special_tokens: &SpecialTokens,
        recipe: Option<&str>,
    ) -> Result<()> {
        recipe.map_or(Ok(()), |recipe| self.save_recipe(recipe))?;
        self.describe(config, tokenizer, special_tokens, FloatType::F32)
    }

    /// Writes the resolved recipe.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_recipe(&self, recipe: &str) -> Result<()> {
        Ok(atomic::write_file(&self.recipe_path(), recipe.as_bytes())?)
    }

    /// Writes the model card.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_card(&self, card: &str) -> Result<()> {
        Ok(atomic::write_file(&self.card_path(), card.as_bytes())?)
    }

    /// Writes an image to the file `name` in the run folder.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_picture(&self, name: &str, picture: &[u8]) -> Result<()> {
        Ok(atomic::write_file(&self.path.join(name), picture)?)
    }

    fn describe(
        &self,
        config: &GptConfig,
        tokenizer: &Tokenizer,
        special_tokens: &SpecialTokens,
        precision: FloatType,
    ) -> Result<()> {
        // Sorted, because the order of keys depends on a feature of serde_json that other crates may turn on.
        let pretty = |value: &serde_json::Value| {
            let mut sorted = value.clone();
            sorted.sort_all_objects();
            format!("{sorted:#}\n")
        };
        let write = |name: &str, text: &str| atomic::write_file(&self.path.join(name), text.as_bytes());
        write(TOKENIZER, &tokenizer.to_json())?;
        let mut tokenizer_config = tokenizer.hugging_face_config(config.block_size);
        special_tokens.write_texts_to(&mut tokenizer_config, tokenizer);
        special_tokens.companions.add_to_tokenizer_config(&mut tokenizer_config);
        write(TOKENIZER_CONFIG, &pretty(&tokenizer_config))?;
        let mut generation = special_tokens.companions.generation_config();
        special_tokens.write_to(&mut generation);
        write(GENERATION_CONFIG, &pretty(&generation))?;
        for (name, text) in special_tokens.companions.files() {
            let path = self.path.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).map_err(io("create", parent))?;
            }
            atomic::write_file(&path, text.as_bytes())?;
        }
        // Written last, because a folder with this file counts as a model.
        Ok(write(CONFIG, &pretty(&config_to_json(config, special_tokens, precision.name())))?)
    }

    /// Writes the weights, or of a model with low-rank updates these alone. Atomically replaces the previous ones.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_weights(&self, model: &Gpt) -> Result<()> {
        if model.has_lora() {
            return save_adapter(model, &self.path.join(ADAPTER_WEIGHTS));
        }
        save_weights(model, &self.path.join(WEIGHTS), FloatType::F32)
    }

    /// Copies the weights to a backup named after `step`, which later weights do not replace.
    ///
    /// # Errors
    ///
    /// If the copy can't be written.
    pub fn back_up_weights(&self, step: u64) -> Result<PathBuf> {
        let weights = self.weights_file();
        let copy = self.backup_path(step);
        let mut from = fs::File::open(&weights).map_err(io("open", &weights))?;
        atomic::write_with(&copy, |file| {
            std::io::copy(&mut from, file).map(|_| ()).map_err(io("write", &copy))
        })?;
        Ok(copy)
    }

    /// The steps of the backups made by [`RunFolder::back_up_weights`], in order.
    pub fn backup_steps(&self) -> Vec<u64> {
        let step = |entry: fs::DirEntry| -> Option<u64> {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("model.step-")?.strip_suffix(".safetensors")?.parse().ok()
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// Loads the model with the backup weights of a step.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`].
    pub fn load_backup_model(&self, step: u64, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        if self.is_adapter() {
            return self.load_with_base(&self.backup_path(step), storage, device);
        }
        let weights = Weights::open(&self.backup_path(step)).map_err(families::Error::from)?;
        Ok(self.config_json()?.load(weights, self.supported(storage), device)?)
    }

    /// The path of the backup weights of a step.
    pub fn backup_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("model.step-{step:08}.safetensors"))
    }

    /// Creates a new folder with only a model and its tokenizer, in Hugging Face layout.
    ///
    /// # Errors
    ///
    /// If no Hugging Face architecture has the model's options, the path already exists, or a file can't be written.
    pub fn export(
        path: &Path,
        model: &Gpt,
        tokenizer: &Tokenizer,
        special_tokens: &SpecialTokens,
        precision: FloatType,
    ) -> Result<Self> {
        Family::of(model.config())
            .map_err(|source| Error::NoFamily { path: path.to_owned(), source: Box::new(source) })?;
        Self::create_model(path, model, tokenizer, special_tokens, precision)
    }

    /// Creates a new folder with a model and its tokenizer, in the layout of a run.
    ///
    /// # Errors
    ///
    /// If the path already exists, or a file can't be written.
    pub fn create_model(
        path: &Path,
        model: &Gpt,
        tokenizer: &Tokenizer,
        special_tokens: &SpecialTokens,
        precision: FloatType,
    ) -> Result<Self> {
        Self::create_with(path, |folder| {
            save_weights(model, &folder.path.join(WEIGHTS), precision)?;
            folder.describe(model.config(), tokenizer, special_tokens, precision)
        })
    }

    /// The first of `runs/STEM`, `runs/STEM-2`, `runs/STEM-3`, ... that does not exist.
    pub fn next_path(runs: &Path, stem: &str) -> PathBuf {
        let name = |number: u32| if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
        let mut paths = (1..).map(|number| runs.join(name(number)));
        paths.find(|path| !path.exists()).expect("some number is free")
    }

    /// The vocabulary size in `config.json`.
    fn n_tokens(&self) -> Option<usize> {
        let text = fs::read_to_string(self.path.join(CONFIG)).ok()?;
        let file: serde_json::Value = serde_json::from_str(&text).ok()?;
        file["vocab_size"].as_u64()?.try_into().ok()
    }

    /// Reads the BOS token and the EOS tokens from `generation_config.json`, or else from `config.json`.
    ///
    /// Tokens outside the vocabulary and unreadable companion files are ignored with a warning.
    ///
    /// # Errors
    ///
    /// If a companion file is a Git LFS pointer.
    pub fn special_tokens(&self) -> Result<SpecialTokens> {
        if self.is_adapter() && !self.path.join(CONFIG).exists() {
            return self.base_folder()?.special_tokens();
        }
        let config = fs::read_to_string(self.path.join(CONFIG)).unwrap_or_default();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
        let companions = Companions::read(&self.path, &config).map_err(families::Error::from)?;
        let (first, second) =
            (SpecialTokens::read(&companions.generation_config()), SpecialTokens::read(&config));
        let mut special_tokens = SpecialTokens {
            bos: first.0.or(second.0),
            eos: first.1.or(second.1).unwrap_or_default(),
            companions,
        };
        if let Some(n_tokens) = self.n_tokens() {
            let beyond = special_tokens.remove_out_of_range(n_tokens);
            if !beyond.is_empty() {
                let ids: Vec<_> = beyond.iter().map(u32::to_string).collect();
                tracing::warn!(
                    "{}: ignoring bos_token_id or eos_token_id {}: the model has only {n_tokens} tokens",
                    self.path.display(),
                    ids.join(" and ")
                );
            }
        }
        Ok(special_tokens)
    }

    /// Reads the model's config.
    ///
    /// # Errors
    ///
    /// If `config.json` can't be read, is of an unsupported architecture, or has invalid sizes.
    pub fn config(&self) -> Result<GptConfig> {
        Ok(self.config_json()?.config().clone())
    }

    fn config_json(&self) -> Result<ConfigJson> {
        let path = self.path.join(CONFIG);
        if !path.exists() && self.is_adapter() {
            return self.base_folder()?.config_json(); // As PEFT writes adapters.
        }
        refuse_lfs_pointer(&path).map_err(families::Error::from)?;
        let text = fs::read_to_string(&path).map_err(io("read", &path))?;
        Ok(ConfigJson::read(&text, &path)?)
    }

    /// Loads the model with the weights of `model.safetensors`: a run's best weights, or its last ones with
    /// `run.keep_weights = "last"`.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or the weights do not match the config.
    pub fn load_model(&self, device: &Device) -> Result<Gpt> {
        self.load_model_with(WeightStorage::Owned, device)
    }

    /// Like [`RunFolder::load_model`], with memory-mapped weights if `storage` asks for them and the file allows it.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`].
    pub fn load_model_with(&self, storage: WeightStorage, device: &Device) -> Result<Gpt> {
        if self.is_adapter() {
            return self.load_with_base(&self.weights_file(), storage, device);
        }
        let Some(path) = Weights::find(&self.path) else {
            return Err(not_a_model(&self.path, WEIGHTS));
        };
        if self.path.join(ADAPTER_CONFIG).is_file() {
            tracing::warn!(
                "{}: ignoring the adapter beside the weights (adapter_config.json)",
                self.path.display()
            );
        }
        let config_json = self.config_json()?;
        let weights = Weights::open(&path).map_err(families::Error::from)?;
        Ok(config_json.load(weights, self.supported(storage), device)?)
    }

    /// The supported storage: on Windows, training can't replace a file that is mapped.
    fn supported(&self, storage: WeightStorage) -> WeightStorage {
        if cfg!(windows) && self.recipe_path().exists() { WeightStorage::Owned } else { storage }
    }

    /// Whether CPU inference memory-maps the matrices of the folder's weights.
    ///
    /// # Errors
    ///
    /// If a file of weights or `config.json` is damaged.
    pub fn is_mapped(&self) -> Result<bool> {
        Weights::find(&self.path).map_or(Ok(false), |path| self.is_file_mapped(&path))
    }

    /// Like [`RunFolder::is_mapped`], for the backup weights of a step.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::is_mapped`].
    pub fn is_backup_mapped(&self, step: u64) -> Result<bool> {
        self.is_file_mapped(&self.backup_path(step))
    }

    fn is_file_mapped(&self, path: &Path) -> Result<bool> {
        let weights = Weights::open(path).map_err(families::Error::from)?;
        Ok(self.supported(WeightStorage::Mapped) == WeightStorage::Mapped
            && self.config_json()?.is_mappable(&weights))
    }

    /// Loads the tokenizer from `tokenizer.json`, or from GPT-2's older pair of files. It
    /// [refuses](Tokenizer::limited_to) texts with tokens that the model lacks.
    ///
    /// # Errors
    ///
    /// If `tokenizer.json`, or `vocab.json` with `merges.txt`, is missing or damaged.
    pub fn load_tokenizer(&self) -> Result<Tokenizer> {
        let [file, vocabulary, merges] = [TOKENIZER, VOCABULARY, MERGES].map(|name| self.path.join(name));
        if !file.exists() && self.is_adapter() {
            return self.base_folder()?.load_tokenizer();
        }
        let has_old_files = !file.exists() && vocabulary.exists() && merges.exists();
        let files = [&file, &vocabulary, &merges];
        files.into_iter().try_for_each(|file| refuse_lfs_pointer(file)).map_err(families::Error::from)?;
        if !file.exists()
            && !vocabulary.exists()
            && let Some(reason) = unsupported_tokenizer(&self.path)
        {
            return Err(Error::OtherModel { path: self.path.clone(), reason });
        }
        let tokenizer = if has_old_files {
            Tokenizer::load_byte_level(&vocabulary, &merges)
        } else {
            Tokenizer::load(&file)
        };
        let tokenizer = tokenizer.map_err(|source| Error::Tokenizer { path: self.path.clone(), source })?;
        Ok(match self.n_tokens() {
            Some(n_tokens) => tokenizer.limited_to(n_tokens),
            None => tokenizer,
        })
    }
}

/// The error for a folder without a model: names its actual contents if recognised, else the missing file.
fn not_a_model(path: &Path, missing: &'static str) -> Error {
    match explain_missing(path, missing) {
        Some(reason) => Error::OtherModel { path: path.to_owned(), reason },
        None => Error::NotAModel { path: path.to_owned(), missing },
    }
}
