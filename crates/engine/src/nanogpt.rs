//! Loading of nanoGPT's `ckpt.pt`, which contains no tokenizer.

use std::path::Path;

use burn::prelude::Device;
use families::{load_nanogpt, load_nanogpt_tokenizer};
use formats::refuse_lfs_pointer;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{Error, Model, Result, check_vocabulary, lookup::refuse_part};

/// Loads nanoGPT's `ckpt.pt`. `tokenizer` is `gpt2`, `byte`, nanoGPT's `meta.pkl` or a `tokenizer.json`. The default is
/// the `meta.pkl` beside the checkpoint, or GPT-2's tokenizer if the vocabulary has GPT-2's size.
///
/// # Errors
///
/// If the checkpoint or the tokenizer can't be read, they do not fit together, or the tokenizer is unknown.
pub fn load_nanogpt_model(checkpoint: &Path, tokenizer: Option<&Path>, device: &Device) -> Result<Model> {
    refuse_part(checkpoint)?;
    let gpt = load_nanogpt(checkpoint, device)?;
    let tokenizer = find_tokenizer(checkpoint, tokenizer, gpt.config().vocab_size)?;
    check_vocabulary(&tokenizer, gpt.config())?;
    Ok(Model { special_tokens: SpecialTokens::of(&tokenizer), gpt, tokenizer })
}

fn find_tokenizer(checkpoint: &Path, named: Option<&Path>, vocab_size: usize) -> Result<Tokenizer> {
    /// nanoGPT's padded size of GPT-2's vocabulary.
    const PADDED: usize = 50_304;
    let beside = checkpoint.with_file_name("meta.pkl");
    match named {
        Some(name) if name == Path::new("gpt2") => Ok(Tokenizer::gpt2()),
        Some(name) if name == Path::new("byte") => Ok(Tokenizer::byte()),
        Some(file) if file.extension().is_some_and(|it| it.eq_ignore_ascii_case("pkl")) => {
            Ok(load_nanogpt_tokenizer(file)?)
        }
        Some(file) => {
            refuse_lfs_pointer(file).map_err(families::Error::from)?;
            Tokenizer::load(file).map_err(|source| Error::NamedTokenizer { path: file.to_owned(), source })
        }
        None if beside.is_file() => Ok(load_nanogpt_tokenizer(&beside)?),
        None if (Tokenizer::gpt2().vocab_size()..=PADDED).contains(&vocab_size) => Ok(Tokenizer::gpt2()),
        None => Err(Error::UnnamedTokenizer { path: checkpoint.to_owned(), vocab_size }),
    }
}
