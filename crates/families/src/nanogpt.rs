//! nanoGPT files: `ckpt.pt`, and `meta.pkl` with a character vocabulary.

use std::{collections::BTreeMap, path::Path};

use burn::prelude::Device;
use formats::weights::{Tensor, Weights, entries, read_value};
use model::{Activation, AttentionConfig, FeedForwardConfig, Gpt, GptConfig};
use serde::Deserialize;
use tokenizer::Tokenizer;

use crate::{
    Error, Result,
    error::first_few,
    gpt2,
    load::{WeightStorage, load},
    names::{MatrixLayout, Names},
    shell::{python, quoted},
};

/// GPT-2's names, with all matrices as `[out, in]`.
const NAMES: Names = Names { matrices: MatrixLayout::OutIn, ..gpt2::NAMES };

/// `model_args` of a `ckpt.pt`.
#[derive(Debug, Deserialize)]
struct Arguments {
    n_layer: usize,
    n_head: usize,
    n_embd: usize,
    block_size: usize,
    /// Missing in old files, whose layers all have biases.
    bias: Option<bool>,
    vocab_size: usize,
    dropout: Option<f64>,
    /// Not a key of nanoGPT; the conversion commands of this file write it.
    activation: Option<String>,
}

/// The required keys.
const REQUIRED: [&str; 5] = ["n_layer", "n_head", "n_embd", "block_size", "vocab_size"];

/// `meta.pkl`.
#[derive(Debug, Deserialize)]
struct Meta {
    stoi: BTreeMap<String, u32>,
}

/// Checks that a file is a nanoGPT checkpoint, without reading its weights.
///
/// # Errors
///
/// If the file is damaged or from another program; the error tells how to convert it.
pub fn check_nanogpt(path: &Path) -> Result<()> {
    match other_checkpoint(path)? {
        Some(reason) => Err(Error::OtherModel { path: path.to_owned(), reason }),
        None => Ok(()),
    }
}

/// Loads the model of a `ckpt.pt`.
///
/// # Errors
///
/// If the file is damaged or not a nanoGPT checkpoint, or its weights do not match its `model_args`.
pub fn load_nanogpt(path: &Path, device: &Device) -> Result<Gpt> {
    check_nanogpt(path)?;
    let arguments: Arguments = read_value(path, Some("model_args"))?;
    let weights = Weights::open_under(path, "model")?;
    // Files without `bias` are from versions with the tanh form of GELU, which minGPT and build-nanogpt have too.
    let default = if arguments.bias.is_none() { Activation::GeluTanh } else { Activation::Gelu };
    let activation = match arguments.activation {
        None => default,
        Some(name) => serde_json::from_value(name.clone().into()).map_err(|_| Error::Config {
            path: path.to_owned(),
            reason: format!("`activation` is {name:?}; only gelu, gelu_tanh and relu2 are supported"),
        })?,
    };
    let Arguments { n_layer, n_head, n_embd, block_size, vocab_size, .. } = arguments;
    let gpt2 = GptConfig::gpt2();
    let config = GptConfig {
        vocab_size,
        block_size,
        n_layer,
        n_embd,
        dropout: arguments.dropout.unwrap_or_default(),
        bias: arguments.bias.unwrap_or_else(|| has_biases(&weights)),
        tie_embeddings: is_tied(&weights)?,
        attention: AttentionConfig { n_head, ..gpt2.attention },
        feed_forward: FeedForwardConfig { activation, ..gpt2.feed_forward },
        ..gpt2
    };
    config.check().map_err(|source| Error::Sizes { path: path.to_owned(), source })?;
    load(&config, weights, &NAMES, None, WeightStorage::Owned, device)
}

/// Whether the head equals the token embedding, as in nanoGPT, unlike minGPT.
fn is_tied(weights: &Weights) -> Result<bool> {
    let tensor = |key: &str| {
        let name = weights.names().find(|name| NAMES.key(name).as_deref() == Some(key))?;
        weights.get(name)
    };
    let (head, embedding) = (tensor(&NAMES.head_key()), tensor(&NAMES.embedding_key()));
    let (Some(head), Some(embedding)) = (head, embedding) else { return Ok(true) };
    Ok(head.shape() != embedding.shape() || head.read()? == embedding.read()?)
}

fn has_biases(weights: &Weights) -> bool {
    weights.names().any(|name| name.ends_with("ln_f.bias"))
}

/// Describes a checkpoint of another program, and how to convert it. `None` for nanoGPT.
fn other_checkpoint(path: &Path) -> Result<Option<String>> {
    let file = format!("{:?}", path.display().to_string());
    let root = entries(path, None)?;
    if root.contains_key("model_args") {
        let arguments = entries(path, Some("model_args"))?;
        let missing = REQUIRED.into_iter().find(|&key| !arguments.contains_key(key));
        return Ok(missing.map(|key| match arguments.contains_key("dim") {
            true => format!(
                "is a llama2.c checkpoint (its model_args have dim, but no {key}), not a nanoGPT one; convert it with \
                 llama2.c: python export.py FOLDER --version -1 --checkpoint {}",
                quoted(&path.display().to_string())
            ),
            false => format!(
                "is not a nanoGPT checkpoint: its model_args have no {key}; they need {}",
                REQUIRED.join(", ")
            ),
        }));
    }
    let config = root.get("config").and_then(|config| config.strip_prefix("the object "));
    if let Some(class) = config.filter(|_| root.contains_key("model")) {
        let name = class.rsplit('.').next().unwrap_or(class);
        let code = format!(
            "import torch; {name} = type({name:?}, (), {{}}); c = torch.load({file}, weights_only=False); \
             c[\"model_args\"] = vars(c.pop(\"config\")); torch.save(c, \"ckpt.pt\")"
        );
        return Ok(Some(format!(
            "is a checkpoint like build-nanogpt's: its config is an object of the class {class}, which is not \
             supported. Convert it: {}",
            python(&code)
        )));
    }
    if root.values().all(|what| what.starts_with("the object torch")) && !root.is_empty() {
        return Ok(Some(bare_state_dict(path, &file)?));
    }
    Ok(Some(format!(
        "is not a nanoGPT checkpoint: it has no model_args, but {}",
        first_few(&root.into_keys().collect::<Vec<_>>(), ", ")
    )))
}

/// Describes a state dict without a config, and how to convert it. The number of heads can't be derived from it.
fn bare_state_dict(path: &Path, file: &str) -> Result<String> {
    const WHAT: &str = "is a bare state dict without the sizes of the model";
    let weights = Weights::open(path)?;
    let shape = |key: &str| {
        let name = weights.names().find(|name| NAMES.key(name).as_deref() == Some(key))?;
        weights.get(name).map(Tensor::shape)
    };
    let n_layer =
        (0..).take_while(|layer| shape(&format!("transformer.h.{layer}.ln_1.weight")).is_some()).count();
    let embeddings = (shape(&NAMES.embedding_key()), shape("transformer.wpe.weight"));
    let is_linear = match shape("transformer.h.0.attn.c_attn.weight") {
        Some(&[n_out, n_in]) => n_out > n_in,
        _ => true,
    };
    let (Some(&[vocab_size, n_embd]), Some(&[block_size, _])) = embeddings else {
        return Ok(format!(
            "{WHAT}; name it pytorch_model.bin, put its config.json into the same folder, and give the folder"
        ));
    };
    if !is_linear {
        return Ok(format!(
            "{WHAT}; name it pytorch_model.bin, put GPT-2's config.json into the same folder, and give the folder"
        ));
    }
    let code = format!(
        "import torch; torch.save({{\"model\": torch.load({file}), \"model_args\": \
         {{\"n_layer\": {n_layer}, \"n_head\": N_HEAD, \"n_embd\": {n_embd}, \"block_size\": {block_size}, \
         \"vocab_size\": {vocab_size}, \"bias\": {}, \"activation\": \"gelu\"}}}}, \"ckpt.pt\")",
        if has_biases(&weights) { "True" } else { "False" }
    );
    Ok(format!(
        "{WHAT}. Convert it, with the number of heads instead of N_HEAD, and for minGPT with gelu_tanh instead of \
         gelu: {}",
        python(&code)
    ))
}

/// Loads the character tokenizer of a `meta.pkl`.
///
/// # Errors
///
/// If the file is damaged, or its ids are not 0, 1, 2, ... in the order of code points.
pub fn load_nanogpt_tokenizer(path: &Path) -> Result<Tokenizer> {
    let Meta { stoi } = read_value(path, None)?;
    let unusable = || Error::Config {
        path: path.to_owned(),
        reason: "`stoi` does not map characters in the order of code points to 0, 1, 2, ...".to_owned(),
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
