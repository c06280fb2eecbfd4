//! nanoGPT's `ckpt.pt`, which does not say what its tokens are.

use std::path::Path;

use burn::prelude::Device;
use families::{load_nanogpt, load_nanogpt_tokenizer};
use formats::refuse_lfs_pointer;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{Error, Model, Result, check_vocabulary, lookup::refuse_part};

/// Opens nanoGPT's `ckpt.pt`. `tokenizer` is `gpt2`, `byte`, nanoGPT's `meta.pkl` or a `tokenizer.json`; without it, the
/// `meta.pkl` beside the checkpoint counts, or GPT-2's tokenizer where the vocabulary is GPT-2's.
///
/// # Errors
///
/// If the checkpoint or the tokenizer can't be read, they do not belong together, or nothing says what the tokens are.
pub fn open_nanogpt(checkpoint: &Path, tokenizer: Option<&Path>, device: &Device) -> Result<Model> {
    refuse_part(checkpoint)?;
    let gpt = load_nanogpt(checkpoint, device)?;
    let tokenizer = tokenizer_of(checkpoint, tokenizer, gpt.config().vocab_size)?;
    check_vocabulary(&tokenizer, gpt.config())?;
    Ok(Model { special_tokens: SpecialTokens::of(&tokenizer), gpt, tokenizer })
}

fn tokenizer_of(checkpoint: &Path, named: Option<&Path>, vocab_size: usize) -> Result<Tokenizer> {
    /// nanoGPT pads GPT-2's vocabulary up to this.
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
