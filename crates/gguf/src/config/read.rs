//! Sizes from the metadata of a file.

use std::collections::HashMap;

use super::{Biases, Config};
use crate::{Architecture, Error, Gguf, Result, Value};

/// The base of a rotation where a file does not say.
const DEFAULT_FREQ_BASE: f32 = 10_000.0;

impl Config {
    /// The sizes of the model in a file, which has all the tensors that they ask for and no others.
    ///
    /// # Errors
    ///
    /// If a key or a tensor is missing or not what it should be, or the model does something that those of
    /// [`Architecture`] here do not, such as to scale its rotations or to choose among experts.
    pub fn read(file: &Gguf<'_>) -> Result<Self> {
        refuse_what_is_no_whole_model(file)?;
        let found = string(file, "general.architecture")?;
        let architecture =
            Architecture::from_name(found).ok_or_else(|| Error::Architecture { found: found.to_owned() })?;
        let metadata = Metadata { file, architecture };
        metadata.refuse_what_is_not_computed()?;

        let vocab_size = metadata.vocab_size()?;
        let embedding_length = metadata.size("embedding_length")?;
        let head_count = metadata.size("attention.head_count")?;
        let head_count_kv = metadata.size_or("attention.head_count_kv", head_count)?;
        let key_length = match metadata.optional_size("attention.key_length")? {
            Some(key_length) => key_length,
            None => {
                metadata.quotient("embedding_length", embedding_length, "attention.head_count", head_count)?
            }
        };
        metadata.refuse_unlike("attention.value_length", key_length)?;
        metadata.refuse_unlike("attention.value_length_swa", key_length)?;
        metadata.refuse_unlike("rope.dimension_count", key_length)?;
        let rope_freq_base = metadata.float("rope.freq_base")?.filter(|_| architecture.is_rotary());
        let is_llama = architecture == Architecture::Llama;
        let mut config = Self {
            architecture,
            vocab_size,
            context_length: metadata.size("context_length")?,
            embedding_length,
            feed_forward_length: metadata.size("feed_forward_length")?,
            block_count: metadata.size("block_count")?,
            head_count,
            head_count_kv,
            key_length,
            norm_epsilon: 0.0,
            rope_freq_base: rope_freq_base.unwrap_or(DEFAULT_FREQ_BASE),
            tied: file.tensor("output.weight").is_none(),
            biases: Biases {
                attention: is_llama && file.tensor("blk.0.attn_q.bias").is_some(),
                feed_forward: is_llama && file.tensor("blk.0.ffn_up.bias").is_some(),
            },
        };
        let epsilon = metadata.float(config.epsilon_key())?;
        let missing = || Error::MissingKey { key: metadata.key(config.epsilon_key()) };
        config.norm_epsilon = epsilon.ok_or_else(missing)?;
        metadata.quotient("attention.head_count", head_count, "attention.head_count_kv", head_count_kv)?;
        config.check_heads()?;
        config.check_tensors(file)?;
        Ok(config)
    }

    fn check_heads(&self) -> Result<()> {
        let Self { architecture, embedding_length, head_count, head_count_kv, key_length, .. } = *self;
        let reason = if architecture.is_rotary() && key_length % 2 != 0 {
            format!(
                "a rotation turns pairs, and its heads are {key_length} wide (`{architecture}.attention.key_length`)"
            )
        } else if !architecture.is_rotary()
            && (head_count_kv != head_count || Some(embedding_length) != head_count.checked_mul(key_length))
        {
            format!(
                "`{architecture}.attention.head_count` = {head_count} heads of queries and \
                 `{architecture}.attention.head_count_kv` = {head_count_kv} of keys, {key_length} wide, are not the \
                 `{architecture}.embedding_length` = {embedding_length} of a GPT-2's stream"
            )
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { reason })
    }

    /// Compares the tensors that there are with those that there should be.
    fn check_tensors(&self, file: &Gguf<'_>) -> Result<()> {
        // Of a file that has too few tensors the first missing one is looked for before all names take memory.
        let parts = self.block_parts();
        if file.tensors().len() / parts.len() < self.block_count as usize {
            let mut names = (0..self.block_count)
                .flat_map(|layer| parts.iter().map(move |(part, _)| format!("blk.{layer}.{part}.weight")));
            let missing = names.find(|name| file.tensor(name).is_none());
            return missing.map_or(Ok(()), |name| Err(Error::MissingTensor { name }));
        }
        let mut expected: HashMap<String, Vec<usize>> = self.shapes().into_iter().collect();
        for tensor in file.tensors() {
            let name = tensor.name.to_owned();
            let dims = expected.remove(tensor.name).ok_or_else(|| Error::UnknownTensor {
                name: name.clone(),
                architecture: self.architecture,
            })?;
            if tensor.dims != dims {
                return Err(Error::Dims { name, expected: dims, found: tensor.dims.clone() });
            }
        }
        match expected.into_keys().min() {
            Some(name) => Err(Error::MissingTensor { name }),
            None => Ok(()),
        }
    }
}

/// The keys of an architecture.
struct Metadata<'a> {
    file: &'a Gguf<'a>,
    architecture: Architecture,
}

impl<'a> Metadata<'a> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.file.value(&self.key(name))
    }

    fn wrong(&self, name: &str, expected: &'static str, found: &Value) -> Error {
        Error::Value { key: self.key(name), expected, found: found.to_string() }
    }

    /// A size that there has to be, which is not zero.
    fn size(&self, name: &str) -> Result<u32> {
        self.optional_size(name)?.ok_or_else(|| Error::MissingKey { key: self.key(name) })
    }

    fn size_or(&self, name: &str, default: u32) -> Result<u32> {
        let size = self.optional_size(name)?.unwrap_or(default);
        if size == 0 { Err(Error::MissingKey { key: self.key(name) }) } else { Ok(size) }
    }

    fn optional_size(&self, name: &str) -> Result<Option<u32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_u64().and_then(|size| u32::try_from(size).ok()) {
            Some(0) | None => {
                Err(self.wrong(name, "a number from 1 to 4294967295, the same for all blocks", value))
            }
            size => Ok(size),
        }
    }

    /// One size by another that it has to be a multiple of.
    fn quotient(&self, name: &str, size: u32, divisor_name: &str, divisor: u32) -> Result<u32> {
        if size.is_multiple_of(divisor) {
            return Ok(size / divisor);
        }
        let [name, divisor_name] = [self.key(name), self.key(divisor_name)];
        let reason = format!("`{name}` = {size} is not a multiple of `{divisor_name}` = {divisor}");
        Err(Error::Unsupported { reason })
    }

    /// A number that is positive in the single precision that it is in in llama.cpp.
    fn float(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "it is of single precision in llama.cpp")]
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.wrong(name, "a positive number", value)),
        }
    }

    /// Rows of the token embedding, which the metadata need not say.
    fn vocab_size(&self) -> Result<u32> {
        let name = "token_embd.weight";
        let embedding =
            self.file.tensor(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        let rows = embedding.dims.get(1).and_then(|&rows| u32::try_from(rows).ok());
        let Some(vocab_size) = rows.filter(|&rows| rows > 0) else {
            let reason = format!("its token embedding is {:?}, which are no rows of tokens", embedding.dims);
            return Err(Error::Unsupported { reason });
        };
        self.refuse_unlike("vocab_size", vocab_size)?;
        Ok(vocab_size)
    }

    /// Refuses a size that is there and another one.
    fn refuse_unlike(&self, name: &str, expected: u32) -> Result<()> {
        match self.optional_size(name)? {
            Some(found) if found != expected => {
                let reason = format!("`{}` is {found}, and only {expected} is supported", self.key(name));
                Err(Error::Unsupported { reason })
            }
            _ => Ok(()),
        }
    }

    /// Refuses keys and tensors that ask for what the architecture here does not do.
    fn refuse_what_is_not_computed(&self) -> Result<()> {
        let unsupported = |reason: String| Err(Error::Unsupported { reason });
        for name in ["expert_count", "expert_used_count"] {
            if self.value(name).is_some_and(|value| value.as_u64() != Some(0)) {
                return unsupported(format!("it chooses among experts (`{}`)", self.key(name)));
            }
        }
        let factor = self.value("rope.scaling.factor").and_then(Value::as_f64);
        let scales = |value: &Value| match value {
            // Linear by a factor of one is none.
            Value::String(kind) => kind != "none" && !(kind == "linear" && factor == Some(1.0)),
            value => value.as_f64() != Some(1.0),
        };
        for name in ["rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"] {
            if let Some(value) = self.value(name).filter(|value| scales(value)) {
                return unsupported(format!("its rotations are scaled (`{}` is {value})", self.key(name)));
            }
        }
        if self.file.tensor("rope_freqs.weight").is_some() {
            return unsupported("its rotations are scaled (by the tensor \"rope_freqs.weight\")".to_owned());
        }
        if let Some(window) = self.optional_size("attention.sliding_window")?
            && window < self.size("context_length")?
        {
            return unsupported(format!("attention reaches back {window} tokens, and not to the beginning"));
        }
        if self.value("attention.causal").and_then(Value::as_bool) == Some(false) {
            return unsupported("its attention sees what is to come".to_owned());
        }
        Ok(())
    }
}

/// Refuses files of other kinds, and parts of a model that is in several.
fn refuse_what_is_no_whole_model(file: &Gguf<'_>) -> Result<()> {
    if let Some(found) = file.value("general.type").and_then(Value::as_str).filter(|&ty| ty != "model") {
        let (what, advice) = match found {
            "adapter" => (
                "a LoRA adapter",
                "; merge it with the model that it was trained on first, with llama.cpp's llama-export-lora",
            ),
            "mmproj" => ("a projector of images or sounds", "; name the file of the language model"),
            "imatrix" => ("an importance matrix", "; name the file of the language model"),
            _ => ("another file", ""),
        };
        return Err(Error::OtherType { what, found: found.to_owned(), advice });
    }
    let size = |key: &str| file.value(key).and_then(Value::as_u64);
    match size("split.count") {
        Some(count) if count > 1 => {
            Err(Error::Split { number: size("split.no").unwrap_or(0).saturating_add(1), count })
        }
        _ => Ok(()),
    }
}

/// A text that there has to be.
pub(crate) fn string<'a>(file: &'a Gguf<'_>, key: &str) -> Result<&'a str> {
    let value = file.value(key).ok_or_else(|| Error::MissingKey { key: key.to_owned() })?;
    value.as_str().ok_or_else(|| Error::Value {
        key: key.to_owned(),
        expected: "a text",
        found: value.to_string(),
    })
}
