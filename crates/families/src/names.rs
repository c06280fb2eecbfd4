//! The names of a family's tensors: in the model, in Hugging Face's layout and in GGUF, all from one table.

use model::{GptConfig, NormKind};

use crate::stored::Stored;

/// The tensors of a family and how they lie in its files.
#[derive(Debug)]
pub(crate) struct Names {
    /// What Hugging Face's keys begin with, but for the head's; some files lack it.
    pub(crate) prefix: &'static str,
    /// Ends of keys that old files have for buffers, which are no weights.
    pub(crate) buffers: &'static [&'static str],
    /// How matrices lie in Hugging Face's layout.
    pub(crate) matrices: Matrices,
    /// What the gain and the shift of a norm are called.
    pub(crate) norm_leaves: [&'static str; 2],
    /// The modules, in the order of the forward pass.
    pub(crate) modules: &'static [Module],
}

/// A module of the model: its path, whether files have a bias, and the tensors of its weight, one after the other.
/// `*` stands for the number of a block.
pub(crate) type Module = (&'static str, Bias, &'static [Part]);

/// Hugging Face's name of a tensor, GGUF's, and the order of its rows there.
pub(crate) type Part = (&'static str, &'static str, Rows);

/// Whether files have a bias beside a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bias {
    /// None.
    Never,
    /// Where the model has one.
    Optional,
    /// Always: zeros where the model has none.
    Always,
}

/// The order of a matrix's rows in GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    /// Hugging Face's.
    Same,
    /// The rows of each head in pairs; see [`Stored::Interleaved`].
    Pairs,
}

/// How matrices lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Matrices {
    /// `[in, out]`.
    InOut,
    /// `[in, out]`, but the head `[out, in]`: GPT-2's `Conv1D`.
    InOutButHead,
    /// `[out, in]`, as in memory: `torch.nn.Linear`.
    OutIn,
}

/// Where in a file of weights a parameter lies.
pub(crate) struct Place {
    /// What is stored of it, one or several one after the other.
    pub(crate) parts: Vec<PlacedPart>,
    /// Whether it is stored transposed.
    pub(crate) is_transposed: bool,
}

/// What is stored of a parameter under one key.
pub(crate) struct PlacedPart {
    pub(crate) key: String,
    /// How many outputs it has, the first axis of what is stored; `None` if it has all.
    pub(crate) n_outputs: Option<usize>,
}

impl PlacedPart {
    /// The extents of what is stored under its key.
    pub(crate) fn shape(&self, mut whole: Vec<usize>) -> Vec<usize> {
        if let Some(n_outputs) = self.n_outputs {
            whole[0] = n_outputs;
        }
        whole
    }
}

impl Place {
    /// The shape of all parts together; `dims` is the shape of the parameter.
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
    /// How it lies in GGUF.
    pub(crate) stored: Stored,
}

/// A tensor of a GGUF file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GgufTensor {
    pub(crate) name: String,
    /// The dimensions, the length of a row first.
    pub(crate) dims: Vec<usize>,
}

/// A part of a module, found by a name.
struct Found<'n> {
    module: &'static Module,
    part: &'static Part,
    /// The number of the block, if it is in one.
    layer: Option<&'n str>,
}

impl Names {
    /// Where a parameter lies, by its path in the model.
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

    /// The key of what a file calls `name`, which may lack the prefix of the others, or have one more; `None` for a
    /// buffer that is no weight.
    pub(crate) fn key(&self, name: &str) -> Option<String> {
        let name = without_wrapper(name);
        let is_whole = name == self.head_key() || name.starts_with(self.prefix);
        let key = if is_whole { name.to_owned() } else { format!("{}{name}", self.prefix) };
        (!self.buffers.iter().any(|end| name.ends_with(end))).then_some(key)
    }

    /// The key of the head, where it is not the token embedding.
    pub(crate) fn head_key(&self) -> String {
        self.key_of("head")
    }

    /// The key of the token embedding.
    pub(crate) fn embedding_key(&self) -> String {
        self.key_of("token_embedding")
    }

    /// The key of a module's only weight, outside the blocks.
    fn key_of(&self, path: &str) -> String {
        let module = self.modules.iter().find(|(module, ..)| *module == path);
        let (_, _, parts) = module.unwrap_or_else(|| panic!("there is no {path}"));
        format!("{}.weight", parts[0].0)
    }

    /// The key of the bias that files have beside a weight, where the model has none: it is zero.
    pub(crate) fn zero_bias_key(&self, weight_key: &str, config: &GptConfig) -> Option<String> {
        let name = weight_key.strip_suffix(&format!(".{}", self.norm_leaves[0]))?;
        let &(module, bias, _) = self.find(|part| part.0, name)?.module;
        (bias == Bias::Always && !has_bias(module, config)).then(|| format!("{name}.bias"))
    }

    /// The tensors of a GGUF file, in the order of the forward pass. Of biases with `without_bias` in their keys there
    /// are none.
    pub(crate) fn gguf_tensors(&self, config: &GptConfig, without_bias: Option<&str>) -> Vec<GgufTensor> {
        let is_in_block = |module: &&Module| module.0.contains('*');
        let is_there = |module: &&Module| module.0 != "head" || !config.tie_embeddings;
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
                let is_left_out = without_bias.is_some_and(|part| key.contains(part));
                let is_biased = match bias {
                    Bias::Never => false,
                    Bias::Optional => has_bias(module, config) && !is_left_out,
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
        after.iter().filter(is_there).for_each(|module| push(module, ""));
        tensors
    }

    /// How many tensors with a weight a block has in GGUF, and their names in one.
    pub(crate) fn gguf_block_weights(&self, layer: usize) -> impl Iterator<Item = String> {
        let inside = self.modules.iter().filter(|module| module.0.contains('*'));
        let parts = inside.flat_map(|&(_, _, parts)| parts);
        parts.map(move |part| format!("{}.weight", part.1.replace('*', &layer.to_string())))
    }

    /// Whether there is a bias in attention and in the feed-forward network of the first block, of those that a file need
    /// not have. `has` says whether it has a tensor.
    pub(crate) fn optional_biases(&self, has: impl Fn(&str) -> bool) -> [bool; 2] {
        ["blocks.*.attention.qkv", "blocks.*.feed_forward.expand"].map(|path| {
            let module = self.modules.iter().find(|(module, ..)| *module == path);
            module.is_some_and(|&(_, bias, parts)| {
                let is_biased = |part: &Part| has(&format!("{}.bias", part.1.replace('*', "0")));
                bias == Bias::Optional && parts.iter().any(is_biased)
            })
        })
    }

    /// The GGUF name of a key of Hugging Face's layout. `None` for what is no tensor of this family.
    pub(crate) fn gguf_name(&self, key: &str) -> Option<Mapped> {
        let (name, leaf) = key.rsplit_once('.')?;
        let found = self.find(|part| part.0, name)?;
        self.mapped(&found, found.part.1, leaf)
    }

    /// The key in Hugging Face's layout of a tensor of a GGUF file.
    pub(crate) fn key_of_gguf(&self, name: &str) -> Option<Mapped> {
        let (name, leaf) = name.rsplit_once('.')?;
        let found = self.find(|part| part.1, name)?;
        self.mapped(&found, found.part.0, leaf)
    }

    fn mapped(&self, found: &Found<'_>, pattern: &str, leaf: &str) -> Option<Mapped> {
        let &(module, bias, _) = found.module;
        let is_known = leaf == "weight" || (leaf == "bias" && bias != Bias::Never);
        let name = format!("{}.{leaf}", pattern.replace('*', found.layer.unwrap_or_default()));
        let stored = match found.part.2 {
            // A bias lies as the rows of its matrix do.
            Rows::Pairs => Stored::Interleaved,
            Rows::Same if leaf == "weight" && is_matrix(module) && !self.is_out_in(module) => {
                Stored::Transposed
            }
            Rows::Same => Stored::AsIs,
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

    /// Whether a matrix lies as `[out, in]`.
    fn is_out_in(&self, module: &str) -> bool {
        match self.matrices {
            Matrices::InOut => false,
            Matrices::InOutButHead => module == "head",
            Matrices::OutIn => true,
        }
    }
}

/// What `torch.compile` puts before every key of a model that it saves.
const COMPILED: &str = "_orig_mod.";

/// A name without what `torch.compile` puts before it.
pub(crate) fn without_wrapper(name: &str) -> &str {
    name.strip_prefix(COMPILED).unwrap_or(name)
}

/// Whether a name is of a pattern, and the number that it has for `*`.
fn matched<'n>(pattern: &str, name: &'n str) -> Option<Option<&'n str>> {
    let Some((before, after)) = pattern.split_once('*') else { return (pattern == name).then_some(None) };
    let layer = name.strip_prefix(before)?.strip_suffix(after)?;
    let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(Some(layer))
}

/// Whether a module is a linear layer.
fn is_matrix(module: &str) -> bool {
    module == "head" || [".qkv", ".project", ".expand"].iter().any(|end| module.ends_with(end))
}

/// Whether a module of a model has a bias.
fn has_bias(module: &str, config: &GptConfig) -> bool {
    match module {
        "token_embedding" | "position_embedding" | "head" => false,
        module if module.ends_with(".qkv") => config.has_qkv_bias(),
        module if is_matrix(module) => config.bias,
        module if module.ends_with("query_norm") || module.ends_with("key_norm") => false,
        _ => config.bias && config.norm.kind == NormKind::LayerNorm,
    }
}

/// The outputs of each tensor of a module that is stored as several.
fn outputs(module: &str, config: &GptConfig) -> Vec<usize> {
    if module.ends_with(".qkv") { config.qkv_widths().to_vec() } else { vec![config.n_inner(); 2] }
}

/// GGUF's dimensions of one of the `n_parts` tensors of a weight.
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
