//! Companion data of a model: the chat template, the padding and unknown tokens, and the sampling settings.
//!
//! Import, training and export pass them on unchanged. Only the chat template and the texts of special tokens are used.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use formats::{
    gguf::{Array, Gguf, Value as GgufValue},
    refuse_lfs_pointer,
    weights::Result,
};
use serde_json::{Map, Value, json};

use crate::Tokenizer;

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
/// The folder of named templates, such as `tool_use`.
const NAMED_TEMPLATES: &str = "additional_chat_templates";

/// Keys of `tokenizer_config.json` that are not kept: Kindling writes them, or they only describe how to build the
/// `tokenizer.json`.
const TOKENIZER_KEYS: [&str; 21] = [
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "auto_map",
    "backend",
    "clean_up_tokenization_spaces",
    "errors",
    "from_slow",
    "is_local",
    "legacy",
    "local_files_only",
    "merges_file",
    "model_max_length",
    "name_or_path",
    "sp_model_kwargs",
    "special_tokens_map_file",
    "spaces_between_special_tokens",
    "tokenizer_class",
    "tokenizer_file",
    "vocab_file",
];

/// Keys of `generation_config.json` that are not sampling settings, or have a separate key in GGUF.
const NOT_SETTINGS: [&str; 10] = [
    "_from_model_config",
    "bos_token_id",
    "cache_implementation",
    "do_sample",
    "eos_token_id",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "transformers_version",
    "use_cache",
];

/// Special tokens other than BOS and EOS, and the GGUF keys of their ids (`seperator` is GGUF's spelling).
const TOKENS: [(&str, &str); 4] = [
    ("pad_token", "tokenizer.ggml.padding_token_id"),
    ("unk_token", "tokenizer.ggml.unknown_token_id"),
    ("sep_token", "tokenizer.ggml.seperator_token_id"),
    ("mask_token", "tokenizer.ggml.mask_token_id"),
];

/// GGUF keys of the default chat template and of the names of the others. A named template has the key
/// `tokenizer.chat_template.NAME`.
const GGUF_TEMPLATE: &str = "tokenizer.chat_template";
const GGUF_TEMPLATE_NAMES: &str = "tokenizer.chat_templates";

/// The start of a warning about a template that can't be read.
const LOST_TEMPLATE: &str = "its chat template is";

/// Companion data of a model, as in Hugging Face files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Companions {
    tokenizer_config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    generation_config: Map<String, Value>,
    chat_template: Option<String>,
    named_templates: BTreeMap<String, String>,
    /// From `config.json`.
    pad_token_id: Option<Value>,
}

impl Companions {
    /// Reads the companion files of a folder. Missing files are skipped; an unreadable file is skipped with a warning.
    ///
    /// # Errors
    ///
    /// If a file is a Git LFS pointer.
    pub fn read(folder: &Path, config: &Value) -> Result<Self> {
        let object = |name: &str, lost: &str| read_object(&folder.join(name), lost);
        let mut tokenizer_config = object(TOKENIZER_CONFIG, "its special tokens and chat template are")?;
        tokenizer_config.retain(|key, value| !TOKENIZER_KEYS.contains(&key.as_str()) && !value.is_null());
        Ok(Self {
            tokenizer_config,
            special_tokens_map: object(SPECIAL_TOKENS_MAP, "its special tokens are")?,
            generation_config: object(
                GENERATION_CONFIG,
                "its sampling settings, and BOS and EOS tokens that only it names, are",
            )?,
            chat_template: read_text(&folder.join(CHAT_TEMPLATE), LOST_TEMPLATE)?,
            named_templates: named_templates(folder)?,
            pad_token_id: Some(config["pad_token_id"].clone()).filter(|id| !id.is_null()),
        })
    }

    /// Reads companion data from the metadata of a GGUF file with this tokenizer.
    pub fn from_gguf(file: &Gguf<'_>, tokenizer: &Tokenizer) -> Self {
        let mut kept = Self::default();
        for (name, key) in TOKENS {
            let id = file.value(key).and_then(GgufValue::as_u64).and_then(|id| u32::try_from(id).ok());
            if let Some(id) = id.filter(|&id| tokenizer.token_bytes(id).is_some()) {
                kept.tokenizer_config.insert(name.to_owned(), json!(tokenizer.decode(&[id])));
            }
        }
        let text = |key: &str| file.value(key).and_then(GgufValue::as_str).map(str::to_owned);
        let names = file.value(GGUF_TEMPLATE_NAMES).and_then(GgufValue::as_array).and_then(Array::as_strings);
        kept.chat_template = text(GGUF_TEMPLATE);
        for name in names.into_iter().flatten().filter(|name| is_safe_name(name)) {
            if let Some(template) = text(&format!("{GGUF_TEMPLATE}.{name}")) {
                kept.named_templates.insert(name.clone(), template);
            }
        }
        kept
    }

    /// Adds the kept keys to the contents of a new `tokenizer_config.json`.
    pub fn add_to_tokenizer_config(&self, file: &mut Value) {
        for (key, value) in &self.tokenizer_config {
            file[key] = value.clone();
        }
    }

    /// The contents of `generation_config.json`; only `do_sample` if the model came without one.
    pub fn generation_config(&self) -> Value {
        match self.generation_config.is_empty() {
            true => json!({ "do_sample": true }),
            false => Value::Object(self.generation_config.clone()),
        }
    }

    /// Adds the kept keys to the contents of a new `config.json`.
    pub fn add_to_config(&self, file: &mut Value) {
        if let Some(id) = &self.pad_token_id {
            file["pad_token_id"] = id.clone();
        }
    }

    /// The files that are kept unchanged: their paths within the model folder and their text.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        if !self.special_tokens_map.is_empty() {
            let mut map = Value::Object(self.special_tokens_map.clone());
            map.sort_all_objects(); // As without serde_json's feature `preserve_order`.
            files.push((SPECIAL_TOKENS_MAP.into(), format!("{map:#}\n")));
        }
        files.extend(self.chat_template.iter().map(|template| (CHAT_TEMPLATE.into(), template.clone())));
        let named = self.named_templates.iter();
        files.extend(named.map(|(name, template)| {
            (Path::new(NAMED_TEMPLATES).join(format!("{name}.jinja")), template.clone())
        }));
        files
    }

    /// The metadata for a GGUF file, and a note for each item that GGUF has no key for.
    pub fn to_gguf(&self, tokenizer: &Tokenizer) -> (Vec<(String, GgufValue)>, Vec<String>) {
        let (mut keys, mut notes) = (Vec::new(), Vec::new());
        for (name, key) in TOKENS {
            match self.token(name).map(|text| (text, tokenizer.id_of(text))) {
                Some((_, Some(id))) => keys.push((key.to_owned(), id.into())),
                Some((text, None)) => {
                    notes.push(format!("{name} {text:?} is not a token of the model; left out"));
                }
                None => {}
            }
        }
        if self.token("pad_token").is_none() {
            let ids = [self.pad_token_id.as_ref(), self.generation_config.get("pad_token_id")];
            let id = ids.into_iter().flatten().find_map(|id| u32::try_from(id.as_u64()?).ok());
            let id = id.filter(|&id| (id as usize) < tokenizer.vocab_size());
            keys.extend(id.map(|id| (TOKENS[0].1.to_owned(), id.into())));
        }
        if let Some(text) = self.token("cls_token") {
            notes.push(format!("GGUF has no key for cls_token {text:?}; left out"));
        }
        let (default, named) = self.templates();
        keys.extend(default.map(|template| (GGUF_TEMPLATE.to_owned(), template.into())));
        if !named.is_empty() {
            let names: Vec<String> = named.keys().map(|&name| name.to_owned()).collect();
            keys.push((GGUF_TEMPLATE_NAMES.to_owned(), names.into()));
        }
        keys.extend(named.into_iter().map(|(name, text)| (format!("{GGUF_TEMPLATE}.{name}"), text.into())));
        let is_setting = |key: &&str| !NOT_SETTINGS.contains(key);
        let settings: Vec<&str> =
            self.generation_config.keys().map(String::as_str).filter(is_setting).collect();
        if !settings.is_empty() {
            notes.push(format!(
                "GGUF has no keys for {} of {GENERATION_CONFIG}; left out",
                settings.join(", ")
            ));
        }
        (keys, notes)
    }

    /// The companion data of a model fine-tuned on conversations in a format: its chat template, and no text of an EOS token
    /// beside the ids in [`SpecialTokens`](crate::SpecialTokens).
    #[must_use]
    pub fn with_chat_template(mut self, template: String) -> Self {
        self.tokenizer_config.remove("chat_template");
        for file in [&mut self.tokenizer_config, &mut self.special_tokens_map] {
            file.remove("eos_token");
        }
        self.chat_template = Some(template);
        self
    }

    /// The default chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.templates().0
    }

    /// The text of a special token such as `pad_token`.
    pub(crate) fn token(&self, name: &str) -> Option<&str> {
        let files = [&self.tokenizer_config, &self.special_tokens_map];
        let value = files.into_iter().find_map(|file| file.get(name).filter(|value| !value.is_null()))?;
        value.as_str().or(value["content"].as_str())
    }

    /// The default chat template and the named ones. Template files take precedence over `tokenizer_config.json`.
    fn templates(&self) -> (Option<&str>, BTreeMap<&str, &str>) {
        let mut named: BTreeMap<&str, &str> = BTreeMap::new();
        let mut default = None;
        match self.tokenizer_config.get("chat_template") {
            Some(Value::String(template)) => default = Some(template.as_str()),
            Some(Value::Array(templates)) => {
                for template in templates {
                    match (template["name"].as_str(), template["template"].as_str()) {
                        (Some("default"), Some(text)) => default = Some(text),
                        (Some(name), Some(text)) => _ = named.insert(name, text),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        named.extend(self.named_templates.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        named.retain(|name, _| is_safe_name(name));
        (self.chat_template.as_deref().or(default), named)
    }
}

/// Whether a name is safe in a file name and in a GGUF key.
fn is_safe_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn named_templates(folder: &Path) -> Result<BTreeMap<String, String>> {
    let entries = fs::read_dir(folder.join(NAMED_TEMPLATES)).into_iter().flatten().flatten();
    let named = |path: PathBuf| -> Option<(String, PathBuf)> {
        let name = path.file_name()?.to_str()?.strip_suffix(".jinja").filter(|name| is_safe_name(name))?;
        Some((name.to_owned(), path))
    };
    let mut templates = BTreeMap::new();
    for (name, path) in entries.filter_map(|entry| named(entry.path())) {
        if let Some(text) = read_text(&path, LOST_TEMPLATE)? {
            templates.insert(name, text);
        }
    }
    Ok(templates)
}

/// Reads a JSON object; empty if the file is missing. If it is unreadable, warns that `lost` is left out.
fn read_object(path: &Path, lost: &str) -> Result<Map<String, Value>> {
    let Some(text) = read_text(path, lost)? else { return Ok(Map::new()) };
    Ok(serde_json::from_str(&text).unwrap_or_else(|error| {
        warn_of_lost(path, &format!("is not a valid JSON object ({error})"), lost);
        Map::new()
    }))
}

/// Reads a text file; `None` if it is missing. If it is unreadable, warns that `lost` is left out.
fn read_text(path: &Path, lost: &str) -> Result<Option<String>> {
    refuse_lfs_pointer(path)?;
    match fs::read_to_string(path) {
        Ok(text) => return Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !path.is_symlink() => {}
        Err(error) => warn_of_lost(path, &format!("can't be read ({error})"), lost),
    }
    Ok(None)
}

fn warn_of_lost(path: &Path, problem: &str, lost: &str) {
    tracing::warn!("{} {problem}; {lost} left out", path.display());
}
