//! The run folder: one place knows what is where.
//!
//! ```text
//! runs/NAME/
//!   recipe.toml               what was asked for, resolved
//!   config.json               sizes, in the layout of Hugging Face's that has the model's parts, else in our own
//!   model.safetensors         the best weights so far, in the same layout
//!   model.step-00002000....   better ones that a resume with another recipe has undone the steps of
//!   tokenizer.json            with tokenizer_config.json and generation_config.json beside it, and of a model from elsewhere
//!                             its chat_template.jinja and special_tokens_map.json
//!   checkpoints/step-00002000 what training goes on from
//!   metrics.jsonl             one object a line
//!   loss.svg, loss.png        its losses as a picture
//!   samples.txt               what it wrote as it learned
//!   sessions.jsonl            when it was begun and gone on with, and what was changed then
//!   README.md                 the model's card, when it is trained
//!   run.lock                  who trains it
//! ```

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ::fs::atomic;
use burn::prelude::Device;
use families::{Described, Family, Memory, adapter, config_to_json, other_contents, unread_tokenizer};
use formats::{
    refuse_lfs_pointer,
    weights::{FloatType, Weights},
};
use model::{Gpt, GptConfig};
use tokenizer::{Companions, SpecialTokens, Tokenizer};

use crate::{Error, Result, error::io, export::save_weights};

/// The name of the file of weights.
pub const WEIGHTS: &str = "model.safetensors";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
/// Before there was one file for it: the tokens and their ids, and the merges.
const VOCABULARY: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const RECIPE: &str = "recipe.toml";
const METRICS: &str = "metrics.jsonl";
const SAMPLES: &str = "samples.txt";
const CARD: &str = "README.md";

/// A run's folder, or any folder with a model in Hugging Face layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes a new folder, with those above it.
    ///
    /// # Errors
    ///
    /// If something of that name is there already, or the folder can't be made.
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

    /// Makes a new folder that appears as a whole, filled by a function.
    ///
    /// # Errors
    ///
    /// If something of that name is there already, or the folder can't be made or filled.
    pub fn create_with(path: &Path, fill: impl FnOnce(&Self) -> Result<()>) -> Result<Self> {
        if path.exists() {
            return Err(Error::Exists { path: path.to_owned() });
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io("create", parent))?;
        }
        atomic::fill_folder(path, |partial| fill(&Self { path: partial.to_owned() }))?;
        Ok(Self { path: path.to_owned() })
    }

    /// A folder, without a look at what is there.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// A folder that is there.
    ///
    /// # Errors
    ///
    /// If it holds no model: no `config.json`.
    pub fn open(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned() };
        fs::metadata(path).map_err(io("open", path))?;
        if !folder.path.join(CONFIG).is_file() {
            return Err(not_a_model(path, CONFIG));
        }
        Ok(folder)
    }

    /// The run in `runs` whose weights or metrics changed last, if there is any.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::all`].
    pub fn newest(runs: &Path) -> Result<Option<Self>> {
        Ok(Self::all(runs)?.pop())
    }

    /// The runs in `runs`, the one whose weights or metrics changed last at the end.
    ///
    /// # Errors
    ///
    /// If `runs` is there and can't be listed.
    pub fn all(runs: &Path) -> Result<Vec<Self>> {
        let entries = match fs::read_dir(runs) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io("list", runs))?,
        };
        let is_run = |path: &PathBuf| {
            path.join(WEIGHTS).is_file() && path.join(CONFIG).is_file() && !atomic::is_temporary(path)
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_run);
        let mut found: Vec<Self> = paths.map(|path| Self { path }).collect();
        found.sort_by_cached_key(|run| (run.changed(), run.path.clone()));
        Ok(found)
    }

    /// When its weights or metrics changed last.
    pub fn changed(&self) -> Option<SystemTime> {
        let times =
            [WEIGHTS, METRICS, CONFIG].map(|name| fs::metadata(self.path.join(name)).ok()?.modified().ok());
        times.into_iter().flatten().max()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its last part, the run's name.
    pub fn name(&self) -> String {
        self.path.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Where the metrics go, one JSON object a line.
    pub fn metrics_path(&self) -> PathBuf {
        self.path.join(METRICS)
    }

    /// Where samples go.
    pub fn samples_path(&self) -> PathBuf {
        self.path.join(SAMPLES)
    }

    /// Where the model's card is.
    pub fn card_path(&self) -> PathBuf {
        self.path.join(CARD)
    }

    /// Where the resolved recipe is.
    pub fn recipe_path(&self) -> PathBuf {
        self.path.join(RECIPE)
    }

    /// Where the checkpoints are.
    pub fn checkpoints_path(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Writes what describes the model: sizes, tokenizer and, of a model that was trained here, recipe.
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

    /// Writes the model's card.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_card(&self, card: &str) -> Result<()> {
        Ok(atomic::write_file(&self.card_path(), card.as_bytes())?)
    }

    /// Writes a picture, under a name in the run's folder.
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
        let pretty = |value: &serde_json::Value| format!("{value:#}\n");
        let write = |name: &str, text: &str| atomic::write_file(&self.path.join(name), text.as_bytes());
        write(TOKENIZER, &tokenizer.to_json())?;
        let mut tokenizer_config = tokenizer.hugging_face_config(config.block_size);
        special_tokens.name_in(&mut tokenizer_config, tokenizer);
        special_tokens.companions.lay_over_tokenizer_config(&mut tokenizer_config);
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
        // Last: a folder with this file is a model to whoever opens it.
        Ok(write(CONFIG, &pretty(&config_to_json(config, special_tokens, precision.name())))?)
    }

    /// Writes the weights, atomically, over those there.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn save_weights(&self, model: &Gpt) -> Result<()> {
        save_weights(model, &self.path.join(WEIGHTS), FloatType::F32)
    }

    /// Keeps a copy of the weights, as those of a step, which no later ones are written over.
    ///
    /// # Errors
    ///
    /// If the copy can't be written.
    pub fn keep_weights(&self, step: u64) -> Result<PathBuf> {
        let weights = self.path.join(WEIGHTS);
        let copy = self.kept_path(step);
        let mut from = fs::File::open(&weights).map_err(io("open", &weights))?;
        atomic::write_with(&copy, |file| {
            std::io::copy(&mut from, file).map(|_| ()).map_err(io("write", &copy))
        })?;
        Ok(copy)
    }

    /// The steps whose weights [`RunFolder::keep_weights`] has kept, in order.
    pub fn kept_steps(&self) -> Vec<u64> {
        let step = |entry: fs::DirEntry| -> Option<u64> {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("model.step-")?.strip_suffix(".safetensors")?.parse().ok()
        };
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut steps: Vec<u64> = entries.filter_map(step).collect();
        steps.sort_unstable();
        steps
    }

    /// The model with the weights that were kept of a step.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`].
    pub fn open_kept_model(&self, step: u64, memory: Memory, device: &Device) -> Result<Gpt> {
        let weights = Weights::open(&self.kept_path(step)).map_err(families::Error::from)?;
        Ok(self.described()?.load(weights, self.possible(memory), device)?)
    }

    /// Where the weights are that were kept of a step.
    pub fn kept_path(&self, step: u64) -> PathBuf {
        self.path.join(format!("model.step-{step:08}.safetensors"))
    }

    /// Makes a new folder with a model and its tokenizer in Hugging Face layout, and nothing else.
    ///
    /// # Errors
    ///
    /// If no layout has the parts of the model, something of that name is there already, or a file can't be written.
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

    /// Makes a new folder with a model and its tokenizer, as a run has them.
    ///
    /// # Errors
    ///
    /// If something of that name is there already, or a file can't be written.
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

    /// The first of `runs/STEM`, `runs/STEM-2`, `runs/STEM-3`, ... that is not there yet.
    pub fn next_path(runs: &Path, stem: &str) -> PathBuf {
        let name = |number: u32| if number == 1 { stem.to_owned() } else { format!("{stem}-{number}") };
        let mut paths = (1..).map(|number| runs.join(name(number)));
        paths.find(|path| !path.exists()).expect("some number is free")
    }

    /// How many tokens `config.json` says that the model has.
    fn n_tokens(&self) -> Option<usize> {
        let text = fs::read_to_string(self.path.join(CONFIG)).ok()?;
        let file: serde_json::Value = serde_json::from_str(&text).ok()?;
        file["vocab_size"].as_u64()?.try_into().ok()
    }

    /// The BOS token and the EOS tokens, by `generation_config.json` or else `config.json`; none where neither
    /// says so, or names one that the model lacks, of which there is a warning. So there is of a companion file that can't be
    /// read.
    ///
    /// # Errors
    ///
    /// If a companion file is a Git LFS pointer.
    pub fn special_tokens(&self) -> Result<SpecialTokens> {
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
            let beyond = special_tokens.take_beyond(n_tokens);
            if !beyond.is_empty() {
                let ids: Vec<_> = beyond.iter().map(u32::to_string).collect();
                tracing::warn!(
                    "{}: bos_token_id or eos_token_id is {}, and the model has {n_tokens} tokens; it counts as none",
                    self.path.display(),
                    ids.join(" and ")
                );
            }
        }
        Ok(special_tokens)
    }

    /// The sizes of the model.
    ///
    /// # Errors
    ///
    /// If `config.json` can't be read, describes another kind of model, or sizes that can't work.
    pub fn config(&self) -> Result<GptConfig> {
        Ok(self.described()?.config().clone())
    }

    fn described(&self) -> Result<Described> {
        let path = self.path.join(CONFIG);
        refuse_lfs_pointer(&path).map_err(families::Error::from)?;
        let text = fs::read_to_string(&path).map_err(io("read", &path))?;
        Ok(Described::read(&text, &path)?)
    }

    /// The model with the weights of `model.safetensors`: the best of a run, or its last if its recipe says so.
    ///
    /// # Errors
    ///
    /// If a file is missing, damaged or does not fit the other.
    pub fn load_model(&self, device: &Device) -> Result<Gpt> {
        self.open_model(Memory::Own, device)
    }

    /// As [`RunFolder::load_model`], with the weights in their file where `memory` says so and it can be.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::load_model`].
    pub fn open_model(&self, memory: Memory, device: &Device) -> Result<Gpt> {
        let Some(path) = Weights::find(&self.path) else {
            return Err(not_a_model(&self.path, WEIGHTS));
        };
        if adapter(&self.path).is_some() {
            tracing::warn!(
                "{}: the adapter beside the weights (adapter_config.json) is left out",
                self.path.display()
            );
        }
        let described = self.described()?;
        let weights = Weights::open(&path).map_err(families::Error::from)?;
        Ok(described.load(weights, self.possible(memory), device)?)
    }

    /// Where weights can be: Windows does not let training replace a file that is mapped.
    fn possible(&self, memory: Memory) -> Memory {
        if cfg!(windows) && self.recipe_path().exists() { Memory::Own } else { memory }
    }

    /// Whether inference on the CPU uses the matrices of `model.safetensors`, or of the file in its place, where they lie.
    ///
    /// # Errors
    ///
    /// If a file of weights or `config.json` is damaged.
    pub fn is_mapped(&self) -> Result<bool> {
        Weights::find(&self.path).map_or(Ok(false), |path| self.is_file_mapped(&path))
    }

    /// As [`RunFolder::is_mapped`], of the weights that were kept of a step.
    ///
    /// # Errors
    ///
    /// As [`RunFolder::is_mapped`].
    pub fn is_kept_mapped(&self, step: u64) -> Result<bool> {
        self.is_file_mapped(&self.kept_path(step))
    }

    fn is_file_mapped(&self, path: &Path) -> Result<bool> {
        let weights = Weights::open(path).map_err(families::Error::from)?;
        Ok(self.possible(Memory::Mapped) == Memory::Mapped && self.described()?.is_mappable(&weights))
    }

    /// The tokenizer: a `tokenizer.json`, or GPT-2's older pair of files. Tokens that the model lacks are
    /// [refused](Tokenizer::limited_to) in texts.
    ///
    /// # Errors
    ///
    /// If neither `tokenizer.json` nor `vocab.json` and `merges.txt` are there, or they are damaged.
    pub fn load_tokenizer(&self) -> Result<Tokenizer> {
        let [file, vocabulary, merges] = [TOKENIZER, VOCABULARY, MERGES].map(|name| self.path.join(name));
        let is_in_two = !file.exists() && vocabulary.exists() && merges.exists();
        let files = [&file, &vocabulary, &merges];
        files.into_iter().try_for_each(|file| refuse_lfs_pointer(file)).map_err(families::Error::from)?;
        if !file.exists()
            && !vocabulary.exists()
            && let Some(reason) = unread_tokenizer(&self.path)
        {
            return Err(Error::OtherModel { path: self.path.clone(), reason });
        }
        let tokenizer =
            if is_in_two { Tokenizer::load_byte_level(&vocabulary, &merges) } else { Tokenizer::load(&file) };
        let tokenizer = tokenizer.map_err(|source| Error::Tokenizer { path: self.path.clone(), source })?;
        Ok(match self.n_tokens() {
            Some(n_tokens) => tokenizer.limited_to(n_tokens),
            None => tokenizer,
        })
    }
}

/// Why a folder is no model: the error that names what is there, or else the missing file.
fn not_a_model(path: &Path, missing: &'static str) -> Error {
    match other_contents(path, missing) {
        Some(reason) => Error::OtherModel { path: path.to_owned(), reason },
        None => Error::NotAModel { path: path.to_owned(), missing },
    }
}
