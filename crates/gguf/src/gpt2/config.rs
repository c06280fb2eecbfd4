//! The sizes of a GPT-2 as metadata, and the tensors that follow from them.

use super::Vocabulary;
use crate::{Result, TensorInfo, TensorType, Value};

/// A GPT-2 in GGUF, but for its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What the model is called.
    pub name: String,
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
    /// What layer norm adds to the variance.
    pub layer_norm_epsilon: f32,
    /// Whether the output head is the token embedding.
    pub tied: bool,
    /// The type that matrices are stored in, where they can be.
    pub ty: TensorType,
    /// The tokens, one for each row of the token embedding.
    pub vocabulary: Vocabulary,
}

/// The version of ggml's block formats, `GGML_QUANT_VERSION`.
const QUANTIZATION_VERSION: u32 = 2;

impl Config {
    /// The keys and values, in the converter's order.
    ///
    /// # Errors
    ///
    /// If llama.cpp would not load the vocabulary.
    pub fn metadata(&self) -> Result<Vec<(String, Value)>> {
        let keys: [(&str, Value); 11] = [
            ("general.architecture", "gpt2".into()),
            ("general.type", "model".into()),
            ("general.name", self.name.as_str().into()),
            ("gpt2.block_count", self.block_count.into()),
            ("gpt2.context_length", self.context_length.into()),
            ("gpt2.embedding_length", self.embedding_length.into()),
            ("gpt2.feed_forward_length", self.feed_forward_length.into()),
            ("gpt2.attention.head_count", self.head_count.into()),
            ("gpt2.attention.layer_norm_epsilon", self.layer_norm_epsilon.into()),
            ("general.file_type", self.ty.file_type().into()),
            ("general.quantization_version", QUANTIZATION_VERSION.into()),
        ];
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
        Ok(keys.chain(self.vocabulary.metadata()?).collect())
    }

    /// The tensors that llama.cpp asks for, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<TensorInfo> {
        let [n_embd, n_ff] = [self.embedding_length as usize, self.feed_forward_length as usize];
        let (n_tokens, n_positions) = (self.vocabulary.tokens.len(), self.context_length as usize);
        let mut tensors = vec![
            self.tensor("token_embd.weight".to_owned(), &[n_embd, n_tokens]),
            // The converter keeps it in single precision, whatever the type of the matrices is.
            TensorInfo {
                name: "position_embd.weight".to_owned(),
                dims: vec![n_embd, n_positions],
                ty: TensorType::F32,
            },
        ];
        for layer in 0..self.block_count {
            let parts = [
                ("attn_norm", None, n_embd),
                ("attn_qkv", Some(n_embd), 3 * n_embd),
                ("attn_output", Some(n_embd), n_embd),
                ("ffn_norm", None, n_embd),
                ("ffn_up", Some(n_embd), n_ff),
                ("ffn_down", Some(n_ff), n_embd),
            ];
            for (part, n_in, n_out) in parts {
                let dims = n_in.into_iter().chain([n_out]).collect::<Vec<_>>();
                tensors.push(self.tensor(format!("blk.{layer}.{part}.weight"), &dims));
                tensors.push(self.tensor(format!("blk.{layer}.{part}.bias"), &[n_out]));
            }
        }
        tensors.push(self.tensor("output_norm.weight".to_owned(), &[n_embd]));
        tensors.push(self.tensor("output_norm.bias".to_owned(), &[n_embd]));
        if !self.tied {
            tensors.push(self.tensor("output.weight".to_owned(), &[n_embd, n_tokens]));
        }
        tensors
    }

    fn tensor(&self, name: String, dims: &[usize]) -> TensorInfo {
        TensorInfo { name, dims: dims.to_vec(), ty: self.ty.stored(dims) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Config {
        Config {
            name: "tiny".to_owned(),
            context_length: 7,
            embedding_length: 64,
            feed_forward_length: 80,
            block_count: 2,
            head_count: 4,
            layer_norm_epsilon: 1e-5,
            tied: false,
            ty: TensorType::Q8_0,
            vocabulary: Vocabulary::from_chars(&['a', 'b', 'c']),
        }
    }

    #[test]
    fn tensors_have_the_types_that_their_rows_allow() {
        let tensors = tiny().tensors();
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
    fn a_tied_head_is_not_stored() {
        let tied = Config { tied: true, ..tiny() };
        assert!(tied.tensors().iter().all(|tensor| tensor.name != "output.weight"));
        assert_eq!(tied.tensors().len() + 1, tiny().tensors().len());
    }

    #[test]
    fn sizes_are_unsigned_and_epsilon_is_single_precision() {
        let metadata = tiny().metadata().unwrap();
        let of = |wanted: &str| &metadata.iter().find(|(key, _)| key == wanted).unwrap().1;
        assert_eq!(of("gpt2.context_length"), &Value::U32(7));
        assert_eq!(of("gpt2.attention.head_count"), &Value::U32(4));
        assert_eq!(of("gpt2.attention.layer_norm_epsilon"), &Value::F32(1e-5));
        assert_eq!(of("general.file_type"), &Value::U32(7));
    }
}
