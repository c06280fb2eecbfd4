//! A model as one GGUF file, for llama.cpp and what is built on it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use ::fs::atomic;
use ::gguf::{self, Biases, Config, Mapped, Stored, TensorInfo, TensorType, Vocabulary};
use model::{Activation, Gpt, GptConfig, Position};
use tokenizer::Tokenizer;

use super::kind;
use crate::{
    Architecture, Error, Marks, Result,
    weights::{Weight, collect},
};

/// What llama.cpp rounds a context up to a multiple of.
const CONTEXT_UNIT: u32 = 256;

/// Writes a model and its tokenizer as a GGUF file, atomically, with its matrices stored as `ty` where they can be.
///
/// Returns what will not be the same in llama.cpp, a sentence each.
///
/// # Errors
///
/// If llama.cpp has no model with these parts, it has no tokenizer that does the same, or the file can't be
/// written.
pub fn export_gguf(
    model: &Gpt,
    tokenizer: &Tokenizer,
    marks: &Marks,
    name: &str,
    ty: TensorType,
    path: &Path,
) -> Result<Vec<String>> {
    let failed = |source: gguf::Error| Error::Gguf { path: path.to_owned(), source };
    let sizes = model.config();
    let architecture =
        Architecture::of(sizes).map_err(|source| Error::NoLayout { path: path.to_owned(), source })?;
    if let Some(reason) = other_part(architecture, sizes) {
        return Err(Error::GgufParts { path: path.to_owned(), reason });
    }
    let kind = kind(architecture);
    let is_llama = architecture == Architecture::Llama;
    let size = |size: usize| u32::try_from(size).expect("a model's sizes are below 2^32");
    let (mut vocabulary, mut notes) = vocabulary(tokenizer, marks)
        .map_err(|source| Error::GgufTokenizer { path: path.to_owned(), source })?;
    vocabulary.pad(sizes.vocab_size);
    let config = Config {
        architecture: kind,
        vocab_size: size(vocabulary.tokens.len()),
        context_length: size(sizes.block_size),
        embedding_length: size(sizes.n_embd),
        feed_forward_length: size(sizes.n_inner()),
        block_count: size(sizes.n_layer),
        head_count: size(sizes.n_head),
        head_count_kv: size(sizes.n_kv_head()),
        key_length: size(sizes.head_dim()),
        norm_epsilon: single(sizes.norm_epsilon),
        rope_freq_base: single(sizes.rope_theta),
        tied: sizes.tie_embeddings,
        biases: Biases { attention: sizes.bias && is_llama, feed_forward: sizes.bias && is_llama },
    };
    let mut metadata = config.metadata(name, ty, &vocabulary).map_err(failed)?;
    let (keys, left_out) = marks.companions.to_gguf(tokenizer);
    metadata.extend(keys);
    notes.extend(left_out);
    let weights = by_name(kind, collect(model));
    atomic::write_with(path, |out| {
        let values = |tensor: &TensorInfo| -> gguf::Result<Cow<'_, [f32]>> {
            let (weight, stored) =
                weights.get(&tensor.name).expect("a model has all tensors of its architecture");
            let mut numbers = Vec::with_capacity(weight.shape.iter().product());
            weight.chunks().for_each(|chunk| numbers.extend(chunk));
            Ok(stored.apply(numbers, &weight.shape, sizes.head_dim()).into())
        };
        gguf::write(out, &metadata, &config.tensors(ty), values).map_err(failed)
    })?;
    notes.extend(differences(sizes, &config, ty, &vocabulary));
    Ok(notes)
}

/// What llama.cpp has in another form, and no way to say so.
fn other_part(architecture: Architecture, config: &GptConfig) -> Option<String> {
    match architecture {
        Architecture::Gpt2 if config.activation == Activation::Relu2 => Some(
            "llama.cpp's GPT-2 has the tanh form of GELU, and this model `activation` = \"relu2\"".to_owned(),
        ),
        _ => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "GGUF has these numbers in single precision")]
fn single(number: f64) -> f32 {
    number as f32
}

/// Each weight by its name in GGUF, and how it lies there.
fn by_name(
    kind: gguf::Architecture,
    weights: BTreeMap<String, Weight>,
) -> BTreeMap<String, (Weight, Stored)> {
    let named = |(key, weight): (String, Weight)| {
        let Mapped { name, stored } =
            kind.tensor_name(&key).expect("every weight of an architecture has a name in GGUF");
        (name, (weight, stored))
    };
    weights.into_iter().map(named).collect()
}

/// The vocabulary of a tokenizer whose texts begin and end so, and what will not be the same.
fn vocabulary(tokenizer: &Tokenizer, marks: &Marks) -> tokenizer::Result<(Vocabulary, Vec<String>)> {
    let (mut vocabulary, differences) = tokenizer.to_gguf()?;
    if !vocabulary.adds_begin {
        vocabulary.begin_of_text = marks.begin.or(vocabulary.begin_of_text);
    }
    if !marks.ends.is_empty() {
        vocabulary.ends_of_text.clone_from(&marks.ends);
    }
    Ok((vocabulary, differences))
}

fn differences(sizes: &GptConfig, config: &Config, ty: TensorType, vocabulary: &Vocabulary) -> Vec<String> {
    let mut differences = Vec::new();
    if sizes.activation == Activation::Gelu {
        differences.push(
            "llama.cpp has GPT-2's tanh form of GELU and this model the exact one: its texts may differ"
                .to_owned(),
        );
    }
    let block_size = config.context_length;
    if !block_size.is_multiple_of(CONTEXT_UNIT) {
        let beyond = match sizes.position {
            Position::Learned => "stops with an error",
            Position::Rope => "goes on at positions the model has not learnt",
        };
        differences.push(format!(
            "llama.cpp rounds the block of {block_size} up and {beyond} beyond it; ask it for fewer tokens, those of \
             the prompt included"
        ));
    }
    let [queries, ..] = sizes.qkv_widths();
    let widths = BTreeSet::from([sizes.n_embd, queries, sizes.n_inner()]);
    let odd: Vec<_> = widths.iter().filter(|width| !width.is_multiple_of(32)).map(usize::to_string).collect();
    if ty == TensorType::Q8_0 && !odd.is_empty() {
        differences.push(format!(
            "rows of {} weights are no whole blocks of 32: those are stored as f16 and not as q8_0",
            odd.join(" and ")
        ));
    }
    let added = vocabulary.ends_added();
    if !added.is_empty() && !vocabulary.ends_of_text.is_empty() {
        let shown = |id: &u32| format!("{id} ({:?})", vocabulary.tokens[*id as usize].text);
        differences.push(format!(
            "llama.cpp takes tokens for ends of texts by what they are called, and so texts end there at {} too",
            added.iter().map(shown).collect::<Vec<_>>().join(", ")
        ));
    }
    let left_out = vocabulary.ends_left_out();
    if !left_out.is_empty() {
        differences.push(format!(
            "a GGUF file has no room for more than three ends of texts: llama.cpp goes on behind the tokens {}",
            left_out.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    if let Some(id) = vocabulary.stop_token().filter(|_| vocabulary.ends_of_text.is_empty()) {
        let token = &vocabulary.tokens[id as usize].text;
        differences.push(format!(
            "this tokenizer has no end of text, and llama.cpp takes token {id} ({token:?}) for it: texts end there"
        ));
    }
    differences
}
