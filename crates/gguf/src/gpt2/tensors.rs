//! Names of GPT-2's weights in Hugging Face's layout and in GGUF.

/// Parts outside the blocks: Hugging Face's name and GGUF's.
const OUTER: [(&str, &str); 4] =
    [("wte", "token_embd"), ("wpe", "position_embd"), ("ln_f", "output_norm"), ("lm_head", "output")];

/// Parts of a block, and whether they are a `Conv1D`, whose weight is `[in, out]`.
const INNER: [(&str, &str, bool); 6] = [
    ("ln_1", "attn_norm", false),
    ("attn.c_attn", "attn_qkv", true),
    ("attn.c_proj", "attn_output", true),
    ("ln_2", "ffn_norm", false),
    ("mlp.c_fc", "ffn_up", true),
    ("mlp.c_proj", "ffn_down", true),
];

/// A weight of Hugging Face's layout as GGUF has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The tensor's name.
    pub name: String,
    /// Whether the weight is to be transposed first: `[in, out]` becomes rows of inputs, one for each output.
    pub transposed: bool,
}

/// What the weight `key` of `GPT2LMHeadModel`, with `transformer.` before it or without, is in GGUF. `None` for
/// what is no weight of a GPT-2, buffers of old files (`attn.bias`, `attn.masked_bias`) among it.
///
/// ```
/// use gguf::gpt2::tensor_name;
///
/// let qkv = tensor_name("transformer.h.3.attn.c_attn.weight").unwrap();
/// assert_eq!((qkv.name.as_str(), qkv.transposed), ("blk.3.attn_qkv.weight", true));
/// assert_eq!(tensor_name("h.3.attn.bias"), None);
/// ```
pub fn tensor_name(key: &str) -> Option<Mapped> {
    let (module, leaf) = key.rsplit_once('.')?;
    let module = module.strip_prefix("transformer.").unwrap_or(module);
    if !matches!(leaf, "weight" | "bias") {
        return None;
    }
    if let Some((layer, part)) = module.strip_prefix("h.").and_then(|rest| rest.split_once('.')) {
        let layer: u32 = layer.parse().ok()?;
        let &(_, part, conv) = INNER.iter().find(|&&(theirs, ..)| theirs == part)?;
        return Some(Mapped {
            name: format!("blk.{layer}.{part}.{leaf}"),
            transposed: conv && leaf == "weight",
        });
    }
    let &(_, part) = OUTER.iter().find(|&&(theirs, _)| theirs == module)?;
    // Of these only the norm has a bias.
    let known = leaf == "weight" || part == "output_norm";
    known.then(|| Mapped { name: format!("{part}.{leaf}"), transposed: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorType;
    use crate::gpt2::{Config, Vocabulary};

    #[test]
    fn every_tensor_that_llama_cpp_asks_for_is_some_weights_name() {
        let config = Config {
            name: String::new(),
            context_length: 4,
            embedding_length: 6,
            feed_forward_length: 24,
            block_count: 2,
            head_count: 2,
            layer_norm_epsilon: 1e-5,
            tied: false,
            ty: TensorType::F32,
            vocabulary: Vocabulary::from_chars(&['a']),
        };
        let outer = [
            "transformer.wte.weight",
            "wpe.weight",
            "transformer.ln_f.weight",
            "ln_f.bias",
            "lm_head.weight",
        ];
        let inner = (0..2).flat_map(|layer| {
            INNER.into_iter().flat_map(move |(part, ..)| {
                ["weight", "bias"].map(|leaf| format!("transformer.h.{layer}.{part}.{leaf}"))
            })
        });
        let keys = inner.chain(outer.map(str::to_owned));
        let mut names: Vec<String> = keys.map(|key| tensor_name(&key).expect(&key).name).collect();
        let mut wanted: Vec<String> = config.tensors().into_iter().map(|tensor| tensor.name).collect();
        names.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }

    #[test]
    fn only_the_matrices_of_blocks_are_transposed() {
        let transposed = |key: &str| tensor_name(key).unwrap().transposed;
        assert!(transposed("h.0.mlp.c_proj.weight"));
        assert!(!transposed("h.0.mlp.c_proj.bias"));
        assert!(!transposed("h.0.ln_1.weight"));
        assert!(!transposed("lm_head.weight"));
        assert!(!transposed("wte.weight"));
    }

    #[test]
    fn what_is_no_weight_has_no_name() {
        for key in [
            "",
            "wte",
            "wte.bias",
            "h.0.attn.masked_bias",
            "h.x.ln_1.weight",
            "h.0.ln_3.weight",
            "h.0.weight",
        ] {
            assert_eq!(tensor_name(key), None, "{key}");
        }
    }
}
