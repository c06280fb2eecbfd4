//! A model as one GGUF file, for llama.cpp and what is built on it.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use formats::gguf::{self, TensorInfo, TensorType, Vocabulary};
use model::{Activation, Gpt, GptConfig, Position};
use tokenizer::{SpecialTokens, Tokenizer};

use super::metadata::{metadata, tensors};
use crate::{
    collect::{Weight, collect},
    family::Family,
    names::Mapped,
    registry::NoFamily,
    stored::Stored,
};

/// What llama.cpp rounds a context up to a multiple of.
const CONTEXT_UNIT: usize = 256;

/// Why a model can't be a GGUF file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// llama.cpp has no model with these options.
    #[error(transparent)]
    NoFamily(#[from] NoFamily),

    /// llama.cpp has an option in another form only, which this names.
    #[error("{0}")]
    Option(String),

    /// llama.cpp has no tokenizer that does the same.
    #[error(transparent)]
    Tokenizer(tokenizer::Error),

    /// The file can't be written, or not with these values.
    #[error(transparent)]
    File(#[from] gguf::Error),
}

/// Writes a model and its tokenizer as a GGUF file, with its matrices stored as `ty` where they can be.
///
/// Returns what will not be the same in llama.cpp, a sentence each.
///
/// # Errors
///
/// If llama.cpp has no model with these options, it has no tokenizer that does the same, or the file can't be
/// written.
pub fn export(
    out: &mut impl Write,
    model: &Gpt,
    tokenizer: &Tokenizer,
    special_tokens: &SpecialTokens,
    name: &str,
    ty: TensorType,
) -> Result<Vec<String>, ExportError> {
    let config = model.config();
    let family = Family::of(config)?;
    if let Some(reason) = (family.not_in_llama_cpp)(config) {
        return Err(ExportError::Option(reason));
    }
    let (mut vocabulary, mut notes) =
        vocabulary(tokenizer, special_tokens).map_err(ExportError::Tokenizer)?;
    vocabulary.pad(config.vocab_size);
    let mut metadata = metadata(config, family, name, ty, &vocabulary)?;
    let (keys, left_out) = special_tokens.companions.to_gguf(tokenizer);
    metadata.extend(keys);
    notes.extend(left_out);
    let weights = by_name(family, collect(model));
    let values = |tensor: &TensorInfo| -> gguf::Result<Cow<'_, [f32]>> {
        let (weight, stored) = weights.get(&tensor.name).expect("a model has all tensors of its family");
        let mut numbers = Vec::with_capacity(weight.shape.iter().product());
        weight.chunks().for_each(|chunk| numbers.extend(chunk));
        Ok(stored.apply(numbers, &weight.shape, config.head_dim()).into())
    };
    gguf::write(out, &metadata, &tensors(config, family, ty), values)?;
    notes.extend(differences(config, ty, &vocabulary));
    Ok(notes)
}

/// Each weight by its name in GGUF, and how it lies there.
fn by_name(family: &Family, weights: BTreeMap<String, Weight>) -> BTreeMap<String, (Weight, Stored)> {
    let named = |(key, weight): (String, Weight)| {
        let Mapped { name, stored } =
            family.names.gguf_name(&key).expect("every weight of a family has a name in GGUF");
        (name, (weight, stored))
    };
    weights.into_iter().map(named).collect()
}

/// The vocabulary of a tokenizer whose texts begin and end so, and what will not be the same.
fn vocabulary(
    tokenizer: &Tokenizer,
    special_tokens: &SpecialTokens,
) -> tokenizer::Result<(Vocabulary, Vec<String>)> {
    let (mut vocabulary, differences) = tokenizer.to_gguf()?;
    if !vocabulary.adds_begin {
        vocabulary.begin_of_text = special_tokens.bos.or(vocabulary.begin_of_text);
    }
    if !special_tokens.eos.is_empty() {
        vocabulary.ends_of_text.clone_from(&special_tokens.eos);
    }
    Ok((vocabulary, differences))
}

fn differences(config: &GptConfig, ty: TensorType, vocabulary: &Vocabulary) -> Vec<String> {
    let mut differences = Vec::new();
    if config.feed_forward.activation == Activation::Gelu {
        differences.push(
            "llama.cpp has GPT-2's tanh form of GELU and this model the exact one: its texts may differ"
                .to_owned(),
        );
    }
    let block_size = config.block_size;
    if !block_size.is_multiple_of(CONTEXT_UNIT) {
        let beyond = match config.position.kind {
            Position::Learned => "stops with an error",
            Position::Rope => "goes on at positions the model has not learnt",
        };
        differences.push(format!(
            "llama.cpp rounds the block of {block_size} up and {beyond} beyond it; ask it for fewer tokens, those of \
             the prompt included"
        ));
    }
    let [queries, ..] = config.qkv_widths();
    let widths = BTreeSet::from([config.n_embd, queries, config.n_inner()]);
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
