//! Names of weights in Hugging Face's layout and in GGUF, and how the numbers lie in either.

use crate::Architecture;

/// A part of a model: Hugging Face's name of it, GGUF's, and how its weight is stored.
type Part = (&'static str, &'static str, Stored);

/// The names of an architecture.
struct Names {
    /// What Hugging Face's keys begin with, but for the head's.
    prefix: &'static str,
    /// What precedes the number of a block in Hugging Face's keys.
    blocks: &'static str,
    /// Parts outside the blocks.
    outer: &'static [(&'static str, &'static str)],
    /// Parts of a block.
    inner: &'static [Part],
    /// Which parts have biases, if the model has any.
    biased: Biased,
}

/// Which parts have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Biased {
    /// Those of a block, and the last norm.
    WithNorms,
    /// Those of a block that are matrices.
    Matrices,
    /// None.
    Nothing,
}

/// The head, which has the same names in all of them.
const HEAD: (&str, &str) = ("lm_head", "output");

const GPT2: Names = Names {
    prefix: "transformer.",
    blocks: "h.",
    outer: &[("wte", "token_embd"), ("wpe", "position_embd"), ("ln_f", "output_norm")],
    inner: &[
        ("ln_1", "attn_norm", Stored::AsIs),
        ("attn.c_attn", "attn_qkv", Stored::Transposed),
        ("attn.c_proj", "attn_output", Stored::Transposed),
        ("ln_2", "ffn_norm", Stored::AsIs),
        ("mlp.c_fc", "ffn_up", Stored::Transposed),
        ("mlp.c_proj", "ffn_down", Stored::Transposed),
    ],
    biased: Biased::WithNorms,
};

const LLAMA: Names = Names {
    prefix: "model.",
    blocks: "layers.",
    outer: &[("embed_tokens", "token_embd"), ("norm", "output_norm")],
    inner: &[
        ("input_layernorm", "attn_norm", Stored::AsIs),
        ("self_attn.q_proj", "attn_q", Stored::Interleaved),
        ("self_attn.k_proj", "attn_k", Stored::Interleaved),
        ("self_attn.v_proj", "attn_v", Stored::AsIs),
        ("self_attn.o_proj", "attn_output", Stored::AsIs),
        ("post_attention_layernorm", "ffn_norm", Stored::AsIs),
        ("mlp.gate_proj", "ffn_gate", Stored::AsIs),
        ("mlp.up_proj", "ffn_up", Stored::AsIs),
        ("mlp.down_proj", "ffn_down", Stored::AsIs),
    ],
    biased: Biased::Matrices,
};

const QWEN3: Names = Names {
    inner: &[
        ("input_layernorm", "attn_norm", Stored::AsIs),
        ("self_attn.q_proj", "attn_q", Stored::AsIs),
        ("self_attn.k_proj", "attn_k", Stored::AsIs),
        ("self_attn.v_proj", "attn_v", Stored::AsIs),
        ("self_attn.q_norm", "attn_q_norm", Stored::AsIs),
        ("self_attn.k_norm", "attn_k_norm", Stored::AsIs),
        ("self_attn.o_proj", "attn_output", Stored::AsIs),
        ("post_attention_layernorm", "ffn_norm", Stored::AsIs),
        ("mlp.gate_proj", "ffn_gate", Stored::AsIs),
        ("mlp.up_proj", "ffn_up", Stored::AsIs),
        ("mlp.down_proj", "ffn_down", Stored::AsIs),
    ],
    biased: Biased::Nothing,
    ..LLAMA
};

/// How a weight of Hugging Face's layout lies in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// As it is.
    AsIs,
    /// The other way round: a `Conv1D` is `[in, out]`, and GGUF has rows of inputs, one for each output.
    Transposed,
    /// With the rows of each head in another order. A rotation turns pairs of rows: in Hugging Face's layout, a row of
    /// the first half of a head and the one as far into the second half; in GGUF's of a Llama, as in Meta's, neighbours.
    Interleaved,
}

impl Stored {
    /// Hugging Face's shape of a tensor of `dims`, which are GGUF's.
    pub fn shape(self, dims: &[usize]) -> Vec<usize> {
        match self {
            Self::Transposed => dims.to_vec(),
            Self::AsIs | Self::Interleaved => dims.iter().rev().copied().collect(),
        }
    }

    /// Numbers of Hugging Face's layout, of `shape` there, as GGUF has them. Heads are `head_dim` wide.
    ///
    /// # Panics
    ///
    /// If there are fewer numbers than `shape` says, or rows that make no whole heads of an even width.
    pub fn apply(self, values: Vec<f32>, shape: &[usize], head_dim: usize) -> Vec<f32> {
        match self {
            Self::AsIs => values,
            Self::Transposed => transposed(&values, shape[1]),
            Self::Interleaved => {
                let half = head_dim / 2;
                reordered(&values, shape, head_dim, |row| (row % 2) * half + row / 2)
            }
        }
    }

    /// The opposite of [`apply`](Self::apply): numbers of a GGUF file in the order of Hugging Face's layout, where they
    /// have `shape`.
    ///
    /// # Panics
    ///
    /// As [`apply`](Self::apply).
    pub fn undo(self, values: Vec<f32>, shape: &[usize], head_dim: usize) -> Vec<f32> {
        match self {
            Self::AsIs => values,
            Self::Transposed => transposed(&values, shape[0]),
            Self::Interleaved => {
                let half = head_dim / 2;
                reordered(&values, shape, head_dim, |row| (row % half) * 2 + row / half)
            }
        }
    }
}

/// A matrix of rows of `n_cols`, column by column.
fn transposed(values: &[f32], n_cols: usize) -> Vec<f32> {
    (0..n_cols).flat_map(|col| values[col..].iter().step_by(n_cols).copied()).collect()
}

/// A matrix whose rows, in each head for itself, are those at `source`.
fn reordered(values: &[f32], shape: &[usize], head_dim: usize, source: impl Fn(usize) -> usize) -> Vec<f32> {
    // A bias has one number a row.
    let [n_rows, n_cols] = [shape[0], shape.get(1).copied().unwrap_or(1)];
    assert!(
        head_dim.is_multiple_of(2) && n_rows.is_multiple_of(head_dim),
        "{n_rows} rows make no heads of {head_dim}"
    );
    let row = |row: usize| {
        let (head, row) = (row / head_dim, row % head_dim);
        &values[(head * head_dim + source(row)) * n_cols..][..n_cols]
    };
    (0..n_rows).flat_map(row).copied().collect()
}

/// What a weight is called in the other layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The name.
    pub name: String,
    /// How it lies in GGUF.
    pub stored: Stored,
}

impl Architecture {
    fn names(self) -> Names {
        match self {
            Self::Gpt2 => GPT2,
            Self::Llama => LLAMA,
            Self::Qwen3 => QWEN3,
        }
    }

    /// What the weight `key` of Hugging Face's layout, with `transformer.` or `model.` before it or without, is in GGUF.
    /// `None` for what is no weight of this architecture, buffers of old files (`attn.bias`, `attn.masked_bias`) among
    /// it.
    ///
    /// ```
    /// use gguf::{Architecture, Stored};
    ///
    /// let qkv = Architecture::Gpt2.tensor_name("transformer.h.3.attn.c_attn.weight").unwrap();
    /// assert_eq!((qkv.name.as_str(), qkv.stored), ("blk.3.attn_qkv.weight", Stored::Transposed));
    /// assert_eq!(Architecture::Gpt2.tensor_name("h.3.attn.bias"), None);
    /// ```
    pub fn tensor_name(self, key: &str) -> Option<Mapped> {
        let Names { prefix, blocks, outer, inner, .. } = self.names();
        let (module, leaf) = key.rsplit_once('.')?;
        let module = module.strip_prefix(prefix).unwrap_or(module);
        if let Some((layer, part)) = module.strip_prefix(blocks).and_then(|rest| rest.split_once('.')) {
            let layer: u32 = layer.parse().ok()?;
            let &(_, part, stored) = inner.iter().find(|&&(theirs, ..)| theirs == part)?;
            let stored = self.checked(part, leaf, true, stored)?;
            return Some(Mapped { name: format!("blk.{layer}.{part}.{leaf}"), stored });
        }
        let &(_, part) = outer.iter().chain([&HEAD]).find(|&&(theirs, _)| theirs == module)?;
        let stored = self.checked(part, leaf, false, Stored::AsIs)?;
        Some(Mapped { name: format!("{part}.{leaf}"), stored })
    }

    /// The opposite of [`tensor_name`](Self::tensor_name): Hugging Face's key of a tensor.
    ///
    /// ```
    /// use gguf::{Architecture, Stored};
    ///
    /// let query = Architecture::Llama.key("blk.3.attn_q.weight").unwrap();
    /// assert_eq!(query.name, "model.layers.3.self_attn.q_proj.weight");
    /// assert_eq!(query.stored, Stored::Interleaved);
    /// ```
    pub fn key(self, name: &str) -> Option<Mapped> {
        let Names { prefix, blocks, outer, inner, .. } = self.names();
        let (part, leaf) = name.rsplit_once('.')?;
        if let Some((layer, part)) = part.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            let layer: u32 = layer.parse().ok()?;
            let &(module, _, stored) = inner.iter().find(|&&(_, ours, _)| ours == part)?;
            let stored = self.checked(part, leaf, true, stored)?;
            return Some(Mapped { name: format!("{prefix}{blocks}{layer}.{module}.{leaf}"), stored });
        }
        let &(module, _) = outer.iter().chain([&HEAD]).find(|&&(_, ours)| ours == part)?;
        let stored = self.checked(part, leaf, false, Stored::AsIs)?;
        let prefix = if (module, part) == HEAD { "" } else { prefix };
        Some(Mapped { name: format!("{prefix}{module}.{leaf}"), stored })
    }

    /// How the `leaf` of a part lies, if the part has one.
    fn checked(self, part: &str, leaf: &str, is_inner: bool, stored: Stored) -> Option<Stored> {
        match leaf {
            "weight" => Some(stored),
            "bias" => match self.names().biased {
                // Outside the blocks only the norm has one.
                Biased::WithNorms if is_inner || part == "output_norm" => Some(Stored::AsIs),
                // A bias lies as the rows of its matrix do.
                Biased::Matrices if is_inner && !part.ends_with("_norm") => Some(stored),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for architecture in Architecture::ALL {
            let Names { prefix, blocks, outer, inner, biased } = architecture.names();
            let inner = inner.iter().flat_map(|(part, ..)| {
                let is_biased = match biased {
                    Biased::WithNorms => true,
                    Biased::Matrices => !part.ends_with("norm"),
                    Biased::Nothing => false,
                };
                let leaves: &[&str] = if is_biased { &["weight", "bias"] } else { &["weight"] };
                leaves.iter().map(move |leaf| format!("{prefix}{blocks}17.{part}.{leaf}"))
            });
            let outer = outer.iter().map(|(part, _)| format!("{prefix}{part}.weight"));
            let keys: Vec<String> = inner.chain(outer).chain(["lm_head.weight".to_owned()]).collect();
            for key in keys {
                let there = architecture.tensor_name(&key).expect(&key);
                let back = architecture.key(&there.name).expect(&there.name);
                assert_eq!((back.name, back.stored), (key.clone(), there.stored));
                let bare = key.strip_prefix(prefix).unwrap_or(&key);
                assert_eq!(architecture.tensor_name(bare).map(|mapped| mapped.name), Some(there.name));
            }
        }
    }

    #[test]
    fn only_the_matrices_of_blocks_are_transposed() {
        let stored = |key: &str| Architecture::Gpt2.tensor_name(key).unwrap().stored;
        assert_eq!(stored("h.0.mlp.c_proj.weight"), Stored::Transposed);
        for key in ["h.0.mlp.c_proj.bias", "h.0.ln_1.weight", "lm_head.weight", "wte.weight"] {
            assert_eq!(stored(key), Stored::AsIs, "{key}");
        }
    }

    #[test]
    fn what_is_no_weight_has_no_name() {
        use Architecture::{Gpt2, Llama, Qwen3};
        for (architecture, key) in [
            (Gpt2, ""),
            (Gpt2, "wte"),
            (Gpt2, "wte.bias"),
            (Gpt2, "h.0.attn.masked_bias"),
            (Gpt2, "h.x.ln_1.weight"),
            (Gpt2, "h.0.ln_3.weight"),
            (Gpt2, "h.0.weight"),
            (Llama, "transformer.wte.weight"),
            (Llama, "model.layers.0.input_layernorm.bias"),
            (Qwen3, "model.layers.0.self_attn.q_proj.bias"),
            (Llama, "model.layers.0.self_attn.q_norm.weight"),
            (Qwen3, "model.layers.0.self_attn.rotary_emb.inv_freq"),
            (Qwen3, "model.norm.bias"),
        ] {
            assert_eq!(architecture.tensor_name(key), None, "{key}");
        }
        for (architecture, name) in [
            (Llama, "rope_freqs.weight"),
            (Llama, "blk.0.ffn_gate_inp.weight"),
            (Qwen3, "blk.0.attn_q.bias"),
            (Gpt2, "blk.0.attn_q.weight"),
        ] {
            assert_eq!(architecture.key(name), None, "{name}");
        }
    }

    /// A matrix whose numbers say their row and column.
    fn numbered([n_rows, n_cols]: [usize; 2]) -> Vec<f32> {
        (0..n_rows).flat_map(|row| (0..n_cols).map(move |col| (10 * row + col) as f32)).collect()
    }

    #[test]
    fn pairs_of_a_rotation_become_neighbours_in_each_head() {
        // Two heads, six wide.
        let shape = [12, 3];
        let values = numbered(shape);
        let stored = Stored::Interleaved.apply(values.clone(), &shape, 6);
        let rows: Vec<f32> = stored.iter().step_by(3).map(|value| value / 10.0).collect();
        assert_eq!(rows, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(stored[3..6], [30.0, 31.0, 32.0]);
        assert_eq!(Stored::Interleaved.undo(stored, &shape, 6), values);
        assert_eq!(Stored::Interleaved.shape(&[3, 12]), shape);
        let bias: Vec<f32> = (0_u8..6).map(f32::from).collect();
        let stored = Stored::Interleaved.apply(bias.clone(), &[6], 6);
        assert_eq!(stored, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(Stored::Interleaved.undo(stored, &[6], 6), bias);
    }

    #[test]
    fn a_transposed_matrix_comes_back() {
        let shape = [2, 5];
        let stored = Stored::Transposed.apply(numbered(shape), &shape, 1);
        assert_eq!(stored[..4], [0.0, 10.0, 1.0, 11.0]);
        assert_eq!(Stored::Transposed.undo(stored, &shape, 1), numbered(shape));
        assert_eq!(Stored::Transposed.shape(&[2, 5]), shape);
    }
}
