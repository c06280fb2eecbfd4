//! Tensor names of a family in the model, in Hugging Face layout and in GGUF, from one table.

use model::{GptConfig, NormKind};

use crate::stored::Stored;

/// The tensors of a family, and their layout in files.
#[derive(Debug)]
pub(crate) struct Names {
    /// The prefix of all Hugging Face keys except the head's. Some files lack it.
    pub(crate) prefix: &'static str,
    /// Suffixes of the keys of buffers in old files, which are not weights.
    pub(crate) buffers: &'static [&'static str],
    pub(crate) matrices: MatrixLayout,
    /// The names of the gain and the shift of a norm.
    pub(crate) norm_leaves: [&'static str; 2],
    /// The modules, in the order of the forward pass.
    pub(crate) modules: &'static [Module],
}

/// A module of the model: its path, whether files have a bias, and the tensors into which its weight is split. `*`
/// stands for the block index.
pub(crate) type Module = (&'static str, Bias, &'static [Part]);

/// A tensor: its name in Hugging Face layout, its name in GGUF, and its row order in GGUF.
pub(crate) type Part = (&'static str, &'static str, RowOrder);

/// Whether files have a bias for a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    Never,
    /// If the model has one.
    Optional,
    /// Zeros if the model has none.
    Always,
}

/// The order of the rows of a matrix in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// As in Hugging Face layout.
    Same,
    /// RoPE pairs are adjacent rows; see [`Stored::Interleaved`].
    Pairs,
}

/// The layout of matrices in Hugging Face files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MatrixLayout {
    /// `[in, out]`.
    InOut,
    /// `[in, out]` (GPT-2's `Conv1D`), except the head, which is `[out, in]`.
    InOutButHead,
    /// `[out, in]`, as in memory and in `torch.nn.Linear`.
    OutIn,
}

/// The location of a parameter in a weight file.
pub(crate) struct Place {
    /// The tensors into which it is split, in order.
    pub(crate) parts: Vec<PlacedPart>,
    pub(crate) is_transposed: bool,
}

/// The part of a parameter under one key.
pub(crate) struct PlacedPart {
    pub(crate) key: String,
    /// Its number of outputs, which is the length of the first stored axis. `None` for a whole parameter.
    pub(crate) n_outputs: Option<usize>,
}

impl PlacedPart {
    /// The stored shape of this part, from the stored shape of the whole.
    pub(crate) fn shape(&self, mut whole: Vec<usize>) -> Vec<usize> {
        if let Some(n_outputs) = self.n_outputs {
            whole[0] = n_outputs;
        }
        whole
    }
}

impl Place {
    /// The stored shape of all parts together, from the shape of the parameter.
    pub(crate) fn shape(&self, dims: &[usize]) -> Vec<usize> {
        let mut shape = dims.to_vec();
        if self.is_transposed {
            shape.reverse();
        }
        shape
    }
}

/// A tensor's name in another layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) name: String,
    /// Its layout in GGUF.
    pub(crate) stored: Stored,
}

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    /// In GGUF's order: the length of a row first.
    pub(crate) dims: Vec<usize>,
}

/// A tensor of a module, found by its name.
struct Found<'n> {
    module: &'static Module,
    part: &'static Part,
    /// The block index, if it is in a block.
    layer: Option<&'n str>,
}

impl Names {
    /// The location of a parameter, by its path in the model.
    ///
    /// # Panics
    ///
    /// If the family has no such parameter.
    pub(crate) fn place(&self, path: &str, config: &GptConfig) -> Place {
        let unknown = || -> ! { panic!("{path} has no name in {}*", self.prefix) };
        let (name, leaf) = path.rsplit_once('.').unwrap_or_else(|| unknown());
        let found = self.modules.iter().find_map(|module| Some((module, matched(module.0, name)?)));
        let (&(module, _, parts), layer) = found.unwrap_or_else(|| unknown());
        let leaf = match leaf {
            "gamma" => self.norm_leaves[0],
            "beta" => self.norm_leaves[1],
            other => other,
        };
        let part = |(idx, &(key, ..)): (usize, &Part)| PlacedPart {
            key: format!("{}.{leaf}", key.replace('*', layer.unwrap_or_default())),
            n_outputs: (parts.len() > 1).then(|| outputs(module, config)[idx]),
        };
        let is_matrix = leaf == "weight" && is_matrix(module);
        Place {
            parts: parts.iter().enumerate().map(part).collect(),
            is_transposed: is_matrix && !self.is_out_in(module),
        }
    }

    /// The key of a tensor called `name` in a file, which may lack the prefix or have that of `torch.compile`. `None`
    /// for buffers.
    pub(crate) fn key(&self, name: &str) -> Option<String> {
        let name = strip_compile_prefix(name);
        let is_whole = name == self.head_key() || name.starts_with(self.prefix);
        let key = if is_whole { name.to_owned() } else { format!("{}{name}", self.prefix) };
        (!self.buffers.iter().any(|end| name.ends_with(end))).then_some(key)
    }

    /// The key of an untied head.
    pub(crate) fn head_key(&self) -> String {
        self.key_of("head")
    }

    pub(crate) fn embedding_key(&self) -> String {
        self.key_of("token_embedding")
    }

    /// The key of the only weight of a module outside the blocks.
    fn key_of(&self, path: &str) -> String {
        let module = self.modules.iter().find(|(module, ..)| *module == path);
        let (_, _, parts) = module.unwrap_or_else(|| panic!("there is no {path}"));
        format!("{}.weight", parts[0].0)
    }

    /// The key of the bias of a weight, if files have one and the model does not.
    pub(crate) fn zero_bias_key(&self, weight_key: &str, config: &GptConfig) -> Option<String> {
        let name = weight_key.strip_suffix(&format!(".{}", self.norm_leaves[0]))?;
        let &(module, bias, _) = self.find(|part| part.0, name)?.module;
        (bias == Bias::Always && !has_bias(module, config)).then(|| format!("{name}.bias"))
    }

    /// The tensors of a GGUF file, in the order of the forward pass, without biases that have `without_bias` in their
    /// keys.
    pub(crate) fn gguf_tensors(&self, config: &GptConfig, without_bias: Option<&str>) -> Vec<GgufTensor> {
        let is_in_block = |module: &&Module| module.0.contains('*');
        let is_stored = |module: &&Module| module.0 != "head" || !config.tie_embeddings;
        let first = self.modules.iter().position(|module| is_in_block(&module)).unwrap_or_default();
        let (before, rest) = self.modules.split_at(first);
        let n_in_block = rest.iter().take_while(is_in_block).count();
        let (inside, after) = rest.split_at(n_in_block);
        let mut tensors = Vec::new();
        let mut push = |&(module, bias, parts): &Module, layer: &str| {
            for (idx, &(key, name, _)) in parts.iter().enumerate() {
                let name = name.replace('*', layer);
                let dims = gguf_dims(module, idx, parts.len(), config);
                let n_outputs = dims.last().copied();
                tensors.push(GgufTensor { name: format!("{name}.weight"), dims });
                let is_excluded = without_bias.is_some_and(|part| key.contains(part));
                let is_biased = match bias {
                    Bias::Never => false,
                    Bias::Optional => has_bias(module, config) && !is_excluded,
                    Bias::Always => true,
                };
                if let Some(n_outputs) = n_outputs.filter(|_| is_biased) {
                    tensors.push(GgufTensor { name: format!("{name}.bias"), dims: vec![n_outputs] });
                }
            }
        };
        before.iter().for_each(|module| push(module, ""));
        for layer in 0..config.n_layer {
            inside.iter().for_each(|module| push(module, &layer.to_string()));
        }
        after.iter().filter(is_stored).for_each(|module| push(module, ""));
        tensors
    }

    /// The names of all weights of a block in GGUF, without biases.
    pub(crate) fn gguf_block_weights(&self, layer: usize) -> impl Iterator<Item = String> {
        let inside = self.modules.iter().filter(|module| module.0.contains('*'));
        let parts = inside.flat_map(|&(_, _, parts)| parts);
        parts.map(move |part| format!("{}.weight", part.1.replace('*', &layer.to_string())))
    }

    /// Whether a GGUF file has the optional biases of attention and of the feed-forward network, judged by the first
    /// block. `has` tells whether the file has a tensor.
    pub(crate) fn optional_biases(&self, has: impl Fn(&str) -> bool) -> [bool; 2] {
        ["blocks.*.attention.qkv", "blocks.*.feed_forward.expand"].map(|path| {
            let module = self.modules.iter().find(|(module, ..)| *module == path);
            module.is_some_and(|&(_, bias, parts)| {
                let is_biased = |part: &Part| has(&format!("{}.bias", part.1.replace('*', "0")));
                bias == Bias::Optional && parts.iter().any(is_biased)
            })
        })
    }

    /// The GGUF name of a Hugging Face key. `None` for tensors outside the family.
    pub(crate) fn gguf_name(&self, key: &str) -> Option<Mapped> {
        let (name, leaf) = key.rsplit_once('.')?;
        let found = self.find(|part| part.0, name)?;
        self.mapped(&found, found.part.1, leaf)
    }

    /// The Hugging Face key of a GGUF tensor. `None` for tensors outside the family.
    pub(crate) fn key_from_gguf(&self, name: &str) -> Option<Mapped> {
        let (name, leaf) = name.rsplit_once('.')?;
        let found = self.find(|part| part.1, name)?;
        self.mapped(&found, found.part.0, leaf)
    }

    fn mapped(&self, found: &Found<'_>, pattern: &str, leaf: &str) -> Option<Mapped> {
        let &(module, bias, _) = found.module;
        let is_known = leaf == "weight" || (leaf == "bias" && bias != Bias::Never);
        let name = format!("{}.{leaf}", pattern.replace('*', found.layer.unwrap_or_default()));
        let stored = match found.part.2 {
            // A bias has the order of the rows of its matrix.
            RowOrder::Pairs => Stored::Interleaved,
            RowOrder::Same if leaf == "weight" && is_matrix(module) && !self.is_out_in(module) => {
                Stored::Transposed
            }
            RowOrder::Same => Stored::AsIs,
        };
        is_known.then_some(Mapped { name, stored })
    }

    fn find<'n>(&self, side: impl Fn(&'static Part) -> &'static str, name: &'n str) -> Option<Found<'n>> {
        self.modules.iter().find_map(|module| {
            module.2.iter().find_map(|part| {
                let layer = matched(side(part), name)?;
                Some(Found { module, part, layer })
            })
        })
    }

    /// Whether a matrix is stored as `[out, in]`.
    fn is_out_in(&self, module: &str) -> bool {
        match self.matrices {
            MatrixLayout::InOut => false,
            MatrixLayout::InOutButHead => module == "head",
            MatrixLayout::OutIn => true,
        }
    }
}

/// The prefix of all keys of a model saved after `torch.compile`.
const COMPILE_PREFIX: &str = "_orig_mod.";

/// A name without the prefix of `torch.compile`.
pub(crate) fn strip_compile_prefix(name: &str) -> &str {
    name.strip_prefix(COMPILE_PREFIX).unwrap_or(name)
}

/// Matches a name against a pattern, and returns the block index for `*`.
fn matched<'n>(pattern: &str, name: &'n str) -> Option<Option<&'n str>> {
    let Some((before, after)) = pattern.split_once('*') else { return (pattern == name).then_some(None) };
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(Some(layer))
}

/// Whether a module is a linear layer, by its path.
fn is_matrix(module: &str) -> bool {
    module == "head" || [".qkv", ".project", ".expand"].iter().any(|end| module.ends_with(end))
}

/// Whether a module of the model has a bias.
fn has_bias(module: &str, config: &GptConfig) -> bool {
    match module {
        "token_embedding" | "position_embedding" | "head" => false,
        module if module.ends_with(".qkv") => config.has_qkv_bias(),
        module if is_matrix(module) => config.bias,
        module if module.ends_with("query_norm") || module.ends_with("key_norm") => false,
        _ => config.bias && config.norm.kind == NormKind::LayerNorm,
    }
}

/// The number of outputs of each tensor of a split module.
fn outputs(module: &str, config: &GptConfig) -> Vec<usize> {
    if module.ends_with(".qkv") { config.qkv_widths().to_vec() } else { vec![config.n_inner(); 2] }
}

/// The GGUF dimensions of tensor `idx` of a weight that is split into `n_parts`.
fn gguf_dims(module: &str, idx: usize, n_parts: usize, config: &GptConfig) -> Vec<usize> {
    let [queries, keys, values] = config.qkv_widths();
    let n_outputs = |whole: usize| if n_parts > 1 { outputs(module, config)[idx] } else { whole };
    match module.strip_prefix("blocks.*.").unwrap_or(module) {
        "token_embedding" | "head" => vec![config.n_embd, config.vocab_size],
        "position_embedding" => vec![config.n_embd, config.block_size],
        "attention.qkv" => {
            vec![config.n_embd, n_outputs(queries.saturating_add(keys).saturating_add(values))]
        }
        "attention.project" => vec![queries, config.n_embd],
        "attention.query_norm" | "attention.key_norm" => vec![config.head_dim()],
        "feed_forward.expand" => vec![config.n_embd, n_outputs(config.expanded_width())],
        "feed_forward.project" => vec![config.n_inner(), config.n_embd],
        _ => vec![config.n_embd],
    }
}
