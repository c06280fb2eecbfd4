//! Reading of the model config from GGUF metadata.

use std::collections::HashMap;

use formats::gguf::{Error as FileError, Gguf, Value};
use model::{AttentionConfig, FeedForwardConfig, GptConfig, NormConfig, Position, PositionConfig};

use super::{
    error::{Error, Result},
    metadata::epsilon_key,
};
use crate::family::Family;

/// The model of a GGUF file.
#[derive(Debug)]
pub struct GgufModel {
    pub family: &'static Family,
    pub config: GptConfig,
    /// A substring of the Hugging Face keys of matrices without bias, if the other matrices have one.
    pub(crate) without_bias: Option<&'static str>,
}

impl GgufModel {
    /// Reads the sizes and options of the model, and checks that the file has exactly the required tensors.
    ///
    /// # Errors
    ///
    /// If a key or a tensor is missing or invalid, or the model uses an unsupported option, such as RoPE scaling or
    /// MoE.
    pub fn read(file: &Gguf<'_>) -> Result<Self> {
        check_file_type(file)?;
        let found = file.string("general.architecture")?;
        let family = Family::of_architecture(found).ok_or_else(|| Error::Architecture {
            found: found.to_owned(),
            supported: Family::architectures_in_words(),
        })?;
        let base = (family.base)();
        let is_rotary = base.position.kind == Position::Rope;
        let metadata = Metadata { file, architecture: family.architecture };
        metadata.check_supported()?;

        let vocab_size = metadata.vocab_size()?;
        let n_embd = metadata.size("embedding_length")?;
        let n_head = metadata.size("attention.head_count")?;
        let n_kv_head = metadata.size_or("attention.head_count_kv", n_head)?;
        let head_dim = match metadata.optional_size("attention.key_length")? {
            Some(key_length) => key_length,
            None => metadata.quotient("embedding_length", n_embd, "attention.head_count", n_head)?,
        };
        metadata.check_equal("attention.value_length", head_dim)?;
        metadata.check_equal("attention.value_length_swa", head_dim)?;
        metadata.check_equal("rope.dimension_count", head_dim)?;
        let rope_theta = metadata.float("rope.freq_base")?.filter(|_| is_rotary);
        let epsilon = epsilon_key(base.norm.kind);
        let missing = || FileError::MissingKey { key: metadata.key(epsilon) };
        let [attention_bias, feed_forward_bias] =
            family.names.optional_biases(|name| file.tensor(name).is_some());
        let mut config = GptConfig {
            vocab_size: vocab_size as usize,
            block_size: metadata.size("context_length")? as usize,
            n_layer: metadata.size("block_count")? as usize,
            n_embd: n_embd as usize,
            bias: base.bias || attention_bias || feed_forward_bias,
            tie_embeddings: file.tensor("output.weight").is_none(),
            attention: AttentionConfig {
                n_head: n_head as usize,
                n_kv_head: Some(n_kv_head as usize).filter(|_| n_kv_head != n_head),
                head_dim: Some(head_dim as usize).filter(|_| Some(n_embd) != head_dim.checked_mul(n_head)),
                ..base.attention
            },
            position: PositionConfig {
                rope_theta: rope_theta.map_or(base.position.rope_theta, shortest),
                ..base.position
            },
            norm: NormConfig {
                epsilon: shortest(metadata.float(epsilon)?.ok_or_else(missing)?),
                ..base.norm
            },
            ..base
        };
        // The default width is left out, as in a recipe.
        let n_inner = metadata.size("feed_forward_length")? as usize;
        let n_inner = Some(n_inner).filter(|&n_inner| config.n_inner() != n_inner);
        config.feed_forward = FeedForwardConfig { n_inner, ..config.feed_forward };
        metadata.quotient("attention.head_count", n_head, "attention.head_count_kv", n_kv_head)?;
        metadata.check_heads(is_rotary, [n_embd, n_head, n_kv_head, head_dim])?;
        let without_bias = match (attention_bias, feed_forward_bias) {
            (true, false) => Some(FEED_FORWARD),
            (false, true) => Some(ATTENTION),
            _ => None,
        };
        let model = Self { family, config: family.pin_family(config), without_bias };
        model.check_tensors(file)?;
        Ok(model)
    }

    /// Checks that the file has exactly the tensors of the model, with the right dimensions.
    fn check_tensors(&self, file: &Gguf<'_>) -> Result<()> {
        let Self { family, config, without_bias } = self;
        // A huge `block_count` must not allocate a name for each tensor: search for the first missing one instead.
        let n_weights = family.names.gguf_block_weights(0).count();
        if file.tensors().len() / n_weights < config.n_layer {
            let mut names = (0..config.n_layer).flat_map(|layer| family.names.gguf_block_weights(layer));
            let missing = names.find(|name| file.tensor(name).is_none());
            return missing.map_or(Ok(()), |name| Err(Error::MissingTensor { name }));
        }
        let expected = family.names.gguf_tensors(config, *without_bias).into_iter();
        let mut expected: HashMap<String, Vec<usize>> =
            expected.map(|tensor| (tensor.name, tensor.dims)).collect();
        for tensor in file.tensors() {
            let dims = expected.remove(tensor.name).ok_or_else(|| Error::UnknownTensor {
                name: shortened(tensor.name),
                architecture: family.architecture,
            })?;
            if tensor.dims != dims {
                let name = tensor.name.to_owned();
                return Err(Error::Dims { name, expected: dims, found: tensor.dims.clone() });
            }
        }
        match expected.into_keys().min() {
            Some(name) => Err(Error::MissingTensor { name }),
            None => Ok(()),
        }
    }
}

/// A substring of all Hugging Face keys of attention, and of no others.
const ATTENTION: &str = ".self_attn.";

/// A substring of all Hugging Face keys of feed-forward networks, and of no others.
const FEED_FORWARD: &str = ".mlp.";

/// Converts via the shortest decimal: the f32 0.000009999999747378752 becomes 1e-5.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(number.into())
}

/// The name, shortened if it is long.
fn shortened(name: &str) -> String {
    const SHOWN: usize = 60;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// The metadata keys of an architecture.
struct Metadata<'a> {
    file: &'a Gguf<'a>,
    architecture: &'static str,
}

impl<'a> Metadata<'a> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn value(&self, name: &str) -> Option<&'a Value> {
        self.file.value(&self.key(name))
    }

    fn wrong(&self, name: &str, expected: &'static str, found: &Value) -> Error {
        FileError::Value { key: self.key(name), expected, found: found.to_string() }.into()
    }

    /// A required size, which is not zero.
    fn size(&self, name: &str) -> Result<u32> {
        Ok(self.optional_size(name)?.ok_or_else(|| FileError::MissingKey { key: self.key(name) })?)
    }

    fn size_or(&self, name: &str, default: u32) -> Result<u32> {
        let size = self.optional_size(name)?.unwrap_or(default);
        if size == 0 { Err(FileError::MissingKey { key: self.key(name) }.into()) } else { Ok(size) }
    }

    fn optional_size(&self, name: &str) -> Result<Option<u32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_u64().and_then(|size| u32::try_from(size).ok()) {
            Some(0) | None => {
                Err(self.wrong(name, "an integer from 1 to 4294967295, the same for all blocks", value))
            }
            size => Ok(size),
        }
    }

    /// The quotient of two sizes; the first must be a multiple of the second.
    fn quotient(&self, name: &str, size: u32, divisor_name: &str, divisor: u32) -> Result<u32> {
        if size.is_multiple_of(divisor) {
            return Ok(size / divisor);
        }
        let [name, divisor_name] = [self.key(name), self.key(divisor_name)];
        let reason = format!("`{name}` = {size} is not a multiple of `{divisor_name}` = {divisor}");
        Err(Error::Unsupported { reason })
    }

    /// A number that is positive in single precision, which llama.cpp uses.
    fn float(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "llama.cpp uses single precision")]
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number.is_finite() && number > 0.0 => Ok(Some(number)),
            _ => Err(self.wrong(name, "a positive number", value)),
        }
    }

    /// The number of rows of the token embedding; the key is optional in metadata.
    fn vocab_size(&self) -> Result<u32> {
        let name = "token_embd.weight";
        let embedding =
            self.file.tensor(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned() })?;
        let rows = embedding.dims.get(1).and_then(|&rows| u32::try_from(rows).ok());
        let Some(vocab_size) = rows.filter(|&rows| rows > 0) else {
            let reason = format!("its token embedding has the invalid dimensions {:?}", embedding.dims);
            return Err(Error::Unsupported { reason });
        };
        self.check_equal("vocab_size", vocab_size)?;
        Ok(vocab_size)
    }

    /// Refuses a size that is present but differs from `expected`.
    fn check_equal(&self, name: &str, expected: u32) -> Result<()> {
        match self.optional_size(name)? {
            Some(found) if found != expected => {
                let reason = format!("`{}` is {found}; only {expected} is supported", self.key(name));
                Err(Error::Unsupported { reason })
            }
            _ => Ok(()),
        }
    }

    /// Refuses odd head sizes for RoPE, and heads of a GPT-2 that do not add up to its width.
    fn check_heads(&self, is_rotary: bool, [n_embd, n_head, n_kv_head, head_dim]: [u32; 4]) -> Result<()> {
        let architecture = self.architecture;
        let reason = if is_rotary && head_dim % 2 != 0 {
            format!("RoPE needs an even head size; `{architecture}.attention.key_length` is {head_dim}")
        } else if !is_rotary && (n_kv_head != n_head || Some(n_embd) != n_head.checked_mul(head_dim)) {
            format!(
                "a GPT-2 with `{architecture}.embedding_length` = {n_embd} can't have \
                 `{architecture}.attention.head_count` = {n_head} query heads and \
                 `{architecture}.attention.head_count_kv` = {n_kv_head} key heads of size {head_dim}"
            )
        } else {
            return Ok(());
        };
        Err(Error::Unsupported { reason })
    }

    /// Refuses keys and tensors of unsupported options.
    fn check_supported(&self) -> Result<()> {
        let unsupported = |reason: String| Err(Error::Unsupported { reason });
        for name in ["expert_count", "expert_used_count"] {
            if self.value(name).is_some_and(|value| value.as_u64() != Some(0)) {
                return unsupported(format!("it is a mixture of experts (`{}`)", self.key(name)));
            }
        }
        let factor = self.value("rope.scaling.factor").and_then(Value::as_f64);
        let scales = |value: &Value| match value {
            // Linear scaling by 1 has no effect.
            Value::String(kind) => kind != "none" && !(kind == "linear" && factor == Some(1.0)),
            value => value.as_f64() != Some(1.0),
        };
        for name in ["rope.scaling.type", "rope.scaling.factor", "rope.scale_linear"] {
            if let Some(value) = self.value(name).filter(|value| scales(value)) {
                return unsupported(format!("it uses RoPE scaling (`{}` is {value})", self.key(name)));
            }
        }
        if self.file.tensor("rope_freqs.weight").is_some() {
            return unsupported("it uses RoPE scaling (the tensor \"rope_freqs.weight\")".to_owned());
        }
        if let Some(window) = self.optional_size("attention.sliding_window")?
            && window < self.size("context_length")?
        {
            return unsupported(format!("it uses sliding-window attention over {window} tokens"));
        }
        if self.value("attention.causal").and_then(Value::as_bool) == Some(false) {
            return unsupported("its attention is not causal".to_owned());
        }
        Ok(())
    }
}

/// Refuses files other than models, and parts of a split model.
fn check_file_type(file: &Gguf<'_>) -> Result<()> {
    if let Some(found) = file.value("general.type").and_then(Value::as_str).filter(|&ty| ty != "model") {
        let (what, advice) = match found {
            "adapter" => ("a LoRA adapter", "; give its base model, and this file with --adapter"),
            "mmproj" => ("a multimodal projector", "; give the file of the language model"),
            "imatrix" => ("an importance matrix", "; give the file of the language model"),
            _ => ("another kind of file", ""),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_values_convert_via_the_shortest_decimal() {
        assert_eq!(shortest(1e-5), 1e-5);
        assert_eq!(shortest(1e6), 1e6);
        assert_eq!(shortest(f32::MIN_POSITIVE), 1.175_494_4e-38);
    }
}
