//! What nanoGPT saves: `ckpt.pt`, and the `meta.pkl` of a corpus of characters.

use std::{collections::BTreeMap, path::Path};

use burn::prelude::Device;
use model::{Activation, Gpt, GptConfig};
use serde::Deserialize;
use tokenizer::Tokenizer;
use weights::{Weights, read_value};

use crate::{Error, Result, layout::Layout, weights::load};

/// `model_args` of a `ckpt.pt`.
#[derive(Debug, Deserialize)]
struct Arguments {
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    block_size: usize,
    bias: bool,
    vocab_size: usize,
    dropout: f64,
}

/// `meta.pkl`.
#[derive(Debug, Deserialize)]
struct Meta {
    /// The id of each character.
    stoi: BTreeMap<String, u32>,
}

/// The model in a `ckpt.pt`.
///
/// # Errors
///
/// If the file is damaged or none of nanoGPT's, or its weights are not those that its settings ask for.
pub fn load_nanogpt(path: &Path, device: &Device) -> Result<Gpt> {
    let Arguments { n_layer, n_head, n_embd, block_size, bias, vocab_size, dropout } =
        read_value(path, Some("model_args"))?;
    let config = GptConfig {
        vocab_size,
        block_size,
        n_layer,
        n_head,
        n_embd,
        dropout,
        bias,
        tie_embeddings: true,
        activation: Activation::Gelu,
        ..GptConfig::gpt2()
    };
    config.check().map_err(|source| Error::Sizes { path: path.to_owned(), source })?;
    load(&config, Weights::open_under(path, "model")?, Layout::NanoGpt, device)
}

/// The tokenizer in a `meta.pkl`, which has one id for each character.
///
/// # Errors
///
/// If the file is damaged, or its ids are not 0, 1, 2, ... of characters in the order of their code points.
pub fn load_nanogpt_tokenizer(path: &Path) -> Result<Tokenizer> {
    let Meta { stoi } = read_value(path, None)?;
    let unusable = || Error::Config {
        path: path.to_owned(),
        reason: "`stoi` does not give 0, 1, 2, ... to characters in the order of their code points"
            .to_owned(),
    };
    let mut characters = Vec::with_capacity(stoi.len());
    for (text, id) in stoi {
        let mut chars = text.chars();
        let (Some(character), None) = (chars.next(), chars.next()) else { return Err(unusable()) };
        if usize::try_from(id) != Ok(characters.len()) {
            return Err(unusable());
        }
        characters.push(character);
    }
    Tokenizer::from_chars(characters).map_err(|source| Error::Tokenizer { path: path.to_owned(), source })
}
