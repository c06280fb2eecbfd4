//! The sizes of a model as metadata, and the tensors that follow from them.

mod read;

pub(crate) use read::string;

use crate::{Architecture, Error, Result, TensorInfo, TensorType, Value, Vocabulary};

/// The sizes of a model, and what else decides what it computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the model is made of.
    pub architecture: Architecture,
    /// Rows of the token embedding.
    pub vocab_size: u32,
    /// Longest input, in tokens.
    pub context_length: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Width of the feed-forward networks.
    pub feed_forward_length: u32,
    /// Number of residual blocks; llama.cpp loads at most 512.
    pub block_count: u32,
    /// Number of attention heads in each block.
    pub head_count: u32,
    /// Number of heads of keys and values, each of which serves a group of queries; as many as heads in a GPT-2.
    pub head_count_kv: u32,
    /// Width of a head.
    pub key_length: u32,
    /// What a norm adds to the variance, or to the mean of the squares.
    pub norm_epsilon: f32,
    /// The base of the angles that positions turn by; of no meaning to a GPT-2.
    pub rope_freq_base: f32,
    /// Whether the output head is the token embedding.
    pub tied: bool,
    /// Which matrices of a Llama have biases; all of a GPT-2 have them, and none of a Qwen3.
    pub biases: Biases,
}

/// Which matrices of the blocks of a Llama have biases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Biases {
    /// Those of queries, keys, values and the output of attention.
    pub attention: bool,
    /// Those of the feed-forward network.
    pub feed_forward: bool,
}

/// The version of ggml's block formats, `GGML_QUANT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

impl Config {
    /// The keys and values of a model called `name` with its matrices in `ty`, in the converter's order.
    ///
    /// # Errors
    ///
    /// If llama.cpp would not load the vocabulary, or it has not a token for each row of the embedding.
    pub fn metadata(
        &self,
        name: &str,
        ty: TensorType,
        vocabulary: &Vocabulary,
    ) -> Result<Vec<(String, Value)>> {
        let n_tokens = vocabulary.tokens.len();
        if n_tokens != self.vocab_size as usize {
            let reason = format!("it has {n_tokens} tokens, and the embedding {} rows", self.vocab_size);
            return Err(Error::Vocabulary { reason });
        }
        let mut keys: Vec<(String, Value)> = Vec::new();
        let mut push = |key: &str, value: Value| keys.push((key.to_owned(), value));
        push("general.architecture", self.architecture.name().into());
        push("general.type", "model".into());
        push("general.name", name.into());
        let arch = |key: &str| format!("{}.{key}", self.architecture);
        push(&arch("block_count"), self.block_count.into());
        push(&arch("context_length"), self.context_length.into());
        push(&arch("embedding_length"), self.embedding_length.into());
        push(&arch("feed_forward_length"), self.feed_forward_length.into());
        push(&arch("attention.head_count"), self.head_count.into());
        if self.architecture.is_rotary() {
            push(&arch("attention.head_count_kv"), self.head_count_kv.into());
            push(&arch("rope.freq_base"), self.rope_freq_base.into());
        }
        push(&arch(self.epsilon_key()), self.norm_epsilon.into());
        if self.architecture.is_rotary() {
            push(&arch("attention.key_length"), self.key_length.into());
            push(&arch("attention.value_length"), self.key_length.into());
        }
        push("general.file_type", ty.file_type().into());
        if self.architecture == Architecture::Llama {
            push(&arch("vocab_size"), self.vocab_size.into());
            push(&arch("rope.dimension_count"), self.key_length.into());
        }
        push("general.quantization_version", QUANTIZATION_VERSION.into());
        keys.extend(vocabulary.metadata()?);
        Ok(keys)
    }

    /// The tensors that llama.cpp asks for, in the order of the forward pass, as they are stored when `ty` is asked for.
    pub fn tensors(&self, ty: TensorType) -> Vec<TensorInfo> {
        let info = |(name, dims): (String, Vec<usize>)| {
            // The converter keeps positions in single precision, whatever the type of the matrices is.
            let ty = if name == "position_embd.weight" { TensorType::F32 } else { ty.stored(&dims) };
            TensorInfo { name, dims, ty }
        };
        self.shapes().into_iter().map(info).collect()
    }

    fn epsilon_key(&self) -> &'static str {
        if self.architecture.is_rotary() {
            "attention.layer_norm_rms_epsilon"
        } else {
            "attention.layer_norm_epsilon"
        }
    }

    /// Names and dimensions of all tensors.
    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (n_embd, n_tokens) = (self.embedding_length as usize, self.vocab_size as usize);
        let mut shapes = vec![("token_embd.weight".to_owned(), vec![n_embd, n_tokens])];
        let mut push = |part: &str, dims: &[usize]| {
            shapes.push((format!("{part}.weight"), dims.to_vec()));
            if let (true, Some(&n_out)) = (self.is_biased(part), dims.last()) {
                shapes.push((format!("{part}.bias"), vec![n_out]));
            }
        };
        let parts = self.block_parts();
        for layer in 0..self.block_count {
            for (part, dims) in &parts {
                push(&format!("blk.{layer}.{part}"), dims);
            }
        }
        push("output_norm", &[n_embd]);
        if !self.tied {
            shapes.push(("output.weight".to_owned(), vec![n_embd, n_tokens]));
        }
        if self.architecture == Architecture::Gpt2 {
            shapes.insert(1, ("position_embd.weight".to_owned(), vec![n_embd, self.context_length as usize]));
        }
        shapes
    }

    /// Whether a part of a block or the last norm has a bias.
    fn is_biased(&self, part: &str) -> bool {
        let Biases { attention, feed_forward } = self.biases;
        let name = part.rsplit('.').next().unwrap_or(part);
        match self.architecture {
            Architecture::Gpt2 => true,
            Architecture::Llama if name.ends_with("_norm") => false,
            Architecture::Llama => {
                (attention && name.starts_with("attn_")) || (feed_forward && name.starts_with("ffn_"))
            }
            Architecture::Qwen3 => false,
        }
    }

    /// The parts of a block, and the dimensions of their weights.
    fn block_parts(&self) -> Vec<(&'static str, Vec<usize>)> {
        let [n_embd, n_ff] = [self.embedding_length as usize, self.feed_forward_length as usize];
        let head_dim = self.key_length as usize;
        let [queries, keys] = [self.head_count, self.head_count_kv].map(|heads| heads as usize * head_dim);
        if !self.architecture.is_rotary() {
            return vec![
                ("attn_norm", vec![n_embd]),
                ("attn_qkv", vec![n_embd, 3 * n_embd]),
                ("attn_output", vec![n_embd, n_embd]),
                ("ffn_norm", vec![n_embd]),
                ("ffn_up", vec![n_embd, n_ff]),
                ("ffn_down", vec![n_ff, n_embd]),
            ];
        }
        let mut parts = vec![
            ("attn_norm", vec![n_embd]),
            ("attn_q", vec![n_embd, queries]),
            ("attn_k", vec![n_embd, keys]),
            ("attn_v", vec![n_embd, keys]),
        ];
        if self.architecture == Architecture::Qwen3 {
            parts.extend([("attn_q_norm", vec![head_dim]), ("attn_k_norm", vec![head_dim])]);
        }
        parts.extend([
            ("attn_output", vec![queries, n_embd]),
            ("ffn_norm", vec![n_embd]),
            ("ffn_gate", vec![n_embd, n_ff]),
            ("ffn_up", vec![n_embd, n_ff]),
            ("ffn_down", vec![n_ff, n_embd]),
        ]);
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn tiny(architecture: Architecture) -> Config {
        let head_count_kv = if architecture.is_rotary() { 2 } else { 4 };
        Config {
            architecture,
            vocab_size: 3,
            context_length: 7,
            embedding_length: 64,
            feed_forward_length: 80,
            block_count: 2,
            head_count: 4,
            head_count_kv,
            key_length: 16,
            norm_epsilon: 1e-5,
            rope_freq_base: 10_000.0,
            tied: false,
            biases: Biases::default(),
        }
    }

    #[test]
    fn tensors_have_the_types_that_their_rows_allow() {
        let tensors = tiny(Architecture::Gpt2).tensors(TensorType::Q8_0);
        let of = |name: &str| tensors.iter().find(|tensor| tensor.name == name).unwrap();
        let expected = [
            ("token_embd.weight", vec![64, 3], TensorType::Q8_0),
            ("position_embd.weight", vec![64, 7], TensorType::F32),
            ("blk.1.attn_qkv.weight", vec![64, 192], TensorType::Q8_0),
            ("blk.1.attn_qkv.bias", vec![192], TensorType::F32),
            ("blk.1.ffn_up.weight", vec![64, 80], TensorType::Q8_0),
            ("blk.1.ffn_down.weight", vec![80, 64], TensorType::F16),
            ("blk.1.ffn_norm.weight", vec![64], TensorType::F32),
            ("output.weight", vec![64, 3], TensorType::Q8_0),
        ];
        for (name, dims, ty) in expected {
            assert_eq!((&of(name).dims, of(name).ty), (&dims, ty), "{name}");
        }
        assert_eq!(tensors.len(), 2 + 2 * 12 + 3);
    }

    #[test]
    fn heads_of_keys_are_fewer_and_a_head_may_be_wider_than_its_part_of_the_stream() {
        let config = Config { key_length: 24, ..tiny(Architecture::Qwen3) };
        let tensors = config.tensors(TensorType::F32);
        let of = |name: &str| &tensors.iter().find(|tensor| tensor.name == name).unwrap().dims;
        assert_eq!(of("blk.0.attn_q.weight"), &[64, 96]);
        assert_eq!(of("blk.0.attn_k.weight"), &[64, 48]);
        assert_eq!(of("blk.0.attn_v.weight"), &[64, 48]);
        assert_eq!(of("blk.0.attn_q_norm.weight"), &[24]);
        assert_eq!(of("blk.0.attn_output.weight"), &[96, 64]);
        assert_eq!(tensors.len(), 1 + 2 * 11 + 2);
        let llama = Config { tied: true, ..tiny(Architecture::Llama) };
        assert_eq!(llama.tensors(TensorType::F32).len(), 1 + 2 * 9 + 1);
    }

    #[test]
    fn every_tensor_is_some_weight_and_the_other_way_round() {
        let biased =
            Config { biases: Biases { attention: true, feed_forward: true }, ..tiny(Architecture::Llama) };
        assert_eq!(
            biased.tensors(TensorType::F32).len(),
            tiny(Architecture::Llama).tensors(TensorType::F32).len() + 2 * 7
        );
        for config in Architecture::ALL.map(tiny).into_iter().chain([biased]) {
            let architecture = config.architecture;
            for tensor in config.tensors(TensorType::F32) {
                let key = architecture.key(&tensor.name).expect(&tensor.name);
                assert_eq!(architecture.tensor_name(&key.name).unwrap().name, tensor.name);
            }
        }
    }

    #[test]
    fn a_tied_head_is_not_stored() {
        let names = |config: Config| -> Vec<String> {
            config.tensors(TensorType::F32).into_iter().map(|tensor| tensor.name).collect()
        };
        let own = names(tiny(Architecture::Gpt2));
        let tied = names(Config { tied: true, ..tiny(Architecture::Gpt2) });
        assert!(own.contains(&"output.weight".to_owned()) && !tied.contains(&"output.weight".to_owned()));
        assert_eq!(tied.len() + 1, own.len());
    }

    #[test]
    fn sizes_are_unsigned_and_epsilon_is_single_precision() {
        let vocabulary = Vocabulary::from_chars(&['a', 'b', 'c']);
        let metadata = tiny(Architecture::Gpt2).metadata("tiny", TensorType::Q8_0, &vocabulary).unwrap();
        let of = |wanted: &str| &metadata.iter().find(|(key, _)| key == wanted).unwrap().1;
        assert_eq!(of("gpt2.context_length"), &Value::U32(7));
        assert_eq!(of("gpt2.attention.head_count"), &Value::U32(4));
        assert_eq!(of("gpt2.attention.layer_norm_epsilon"), &Value::F32(1e-5));
        assert_eq!(of("general.file_type"), &Value::U32(7));
    }

    #[test]
    fn a_vocabulary_of_another_size_is_refused() {
        let vocabulary = Vocabulary::from_chars(&['a', 'b']);
        let error = tiny(Architecture::Llama).metadata("tiny", TensorType::F32, &vocabulary).unwrap_err();
        assert!(error.to_string().contains("2 tokens, and the embedding 3 rows"), "{error}");
    }
}
