//! Export of a model to a GGUF file.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::Write,
};

use formats::gguf::{self, TensorInfo, TensorType, Vocabulary};
use model::{Activation, Gpt, GptConfig, Position};
use tokenizer::{SpecialTokens, Tokenizer};

use super::{
    file_type::FileType,
    metadata::{metadata, tensors},
};
use crate::{
    collect::{Weight, collect},
    family::Family,
    names::Mapped,
    registry::NoFamily,
    stored::Stored,
};

/// llama.cpp rounds the context length up to a multiple of this.
const CONTEXT_UNIT: usize = 256;

/// An error while exporting a model to GGUF.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No family has these options.
    #[error(transparent)]
    NoFamily(#[from] NoFamily),

    /// llama.cpp does not support an option.
    #[error("{0}")]
    Option(String),

    /// llama.cpp has no equivalent tokenizer.
    #[error(transparent)]
    Tokenizer(tokenizer::Error),

    /// Writing fails, or a value is not representable.
    #[error(transparent)]
    File(#[from] gguf::Error),
}

/// Writes a model and its tokenizer as a GGUF file of type `ty`.
///
/// Returns a note for each difference in llama.cpp.
///
/// # Errors
///
/// If llama.cpp does not support the model or the tokenizer, or writing fails.
pub fn export(
    out: &mut impl Write,
    model: &Gpt,
    tokenizer: &Tokenizer,
    special_tokens: &SpecialTokens,
    name: &str,
    ty: FileType,
) -> Result<Vec<String>, ExportError> {
    let config = model.config();
    let family = Family::of(config)?;
    if let Some(reason) = (family.unsupported_by_llama_cpp)(config) {
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
        let mut values = Vec::with_capacity(weight.shape.iter().product());
        weight.chunks().for_each(|chunk| values.extend(chunk));
        Ok(stored.apply(values, &weight.shape, config.head_dim()).into())
    };
    let tensors = tensors(config, family, ty);
    gguf::write(out, &metadata, &tensors, values)?;
    notes.extend(differences(config, ty, &tensors, &vocabulary));
    Ok(notes)
}

/// Each weight by its GGUF name, and its layout there.
fn by_name(family: &Family, weights: BTreeMap<String, Weight>) -> BTreeMap<String, (Weight, Stored)> {
    let named = |(key, weight): (String, Weight)| {
        let Mapped { name, stored } =
            family.names.gguf_name(&key).expect("every weight of a family has a name in GGUF");
        (name, (weight, stored))
    };
    weights.into_iter().map(named).collect()
}

/// The vocabulary of a tokenizer with these special tokens, and the differences in llama.cpp.
fn vocabulary(
    tokenizer: &Tokenizer,
    special_tokens: &SpecialTokens,
) -> tokenizer::Result<(Vocabulary, Vec<String>)> {
    let (mut vocabulary, differences) = tokenizer.to_gguf()?;
    if !vocabulary.adds_bos {
        vocabulary.bos = special_tokens.bos.or(vocabulary.bos);
    }
    if !special_tokens.eos.is_empty() {
        vocabulary.eos.clone_from(&special_tokens.eos);
    }
    Ok((vocabulary, differences))
}

fn differences(
    config: &GptConfig,
    ty: FileType,
    tensors: &[TensorInfo],
    vocabulary: &Vocabulary,
) -> Vec<String> {
    let mut differences = Vec::new();
    if config.feed_forward.activation == Activation::Gelu {
        differences.push(
            "llama.cpp uses the tanh form of GELU and this model the exact one: generated texts may differ"
                .to_owned(),
        );
    }
    let block_size = config.block_size;
    if !block_size.is_multiple_of(CONTEXT_UNIT) {
        let beyond = match config.position.kind {
            Position::Learned => "fails",
            Position::Rope => "continues at untrained positions",
        };
        differences.push(format!(
            "llama.cpp rounds the block size of {block_size} up and {beyond} beyond it; limit prompt and \
             generated tokens to {block_size}"
        ));
    }
    differences.extend(replaced_types(ty, tensors));
    let added = vocabulary.eos_added_by_text();
    if !added.is_empty() && !vocabulary.eos.is_empty() {
        let shown = |id: &u32| format!("{id} ({:?})", vocabulary.tokens[*id as usize].text);
        differences.push(format!(
            "llama.cpp recognises EOS tokens by their text and also stops at {}",
            added.iter().map(shown).collect::<Vec<_>>().join(", ")
        ));
    }
    let left_out = vocabulary.eos_left_out();
    if !left_out.is_empty() {
        differences.push(format!(
            "GGUF has only three keys for EOS tokens: llama.cpp does not stop at the tokens {}",
            left_out.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ));
    }
    if let Some(id) = vocabulary.stop_token().filter(|_| vocabulary.eos.is_empty()) {
        let token = &vocabulary.tokens[id as usize].text;
        differences.push(format!(
            "this tokenizer has no EOS token: llama.cpp stops at token {id} ({token:?}) instead"
        ));
    }
    differences
}

/// A note if rows are not a multiple of the block of `ty`, so that matrices have another type.
fn replaced_types(ty: FileType, tensors: &[TensorInfo]) -> Option<String> {
    let block_len = ty.base().block_len();
    let replaced = tensors.iter().filter(|tensor| match tensor.dims[..] {
        [row, _] => !row.is_multiple_of(block_len) && tensor.ty != TensorType::F32,
        _ => false,
    });
    let (widths, types): (BTreeSet<usize>, BTreeSet<TensorType>) =
        replaced.map(|tensor| (tensor.dims[0], tensor.ty)).unzip();
    let listed = |texts: Vec<String>| texts.join(" and ");
    (!widths.is_empty()).then(|| {
        format!(
            "rows of {} weights are not a multiple of {block_len}: these matrices are stored as {} instead of {}",
            listed(widths.iter().map(usize::to_string).collect()),
            listed(types.iter().map(TensorType::to_string).collect()),
            ty.base()
        )
    })
}
