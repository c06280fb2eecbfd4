//! A model as a file of its own, which is there whole or not at all.

use std::path::Path;

use ::fs::atomic;
use families::gguf::{ExportError, export};
use formats::{
    gguf::TensorType,
    weights::{FloatType, WriteError},
};
use model::Gpt;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{Error, Result, error::io};

/// Writes the weights of a model as a safetensors file.
///
/// # Errors
///
/// If the file can't be written, or a value is too large for the type.
pub(crate) fn save_weights(model: &Gpt, path: &Path, ty: FloatType) -> Result<()> {
    atomic::write_with(path, |out| {
        families::write_safetensors(model, out, ty).map_err(|error| match error {
            WriteError::Header(reason) => Error::Safetensors { path: path.to_owned(), reason },
            WriteError::TooLarge { name, value, ty } => {
                Error::TooLarge { path: path.to_owned(), key: name, value, dtype: ty }
            }
            WriteError::Io(source) => io("write", path)(source),
        })
    })
}

/// Writes a model and its tokenizer as a GGUF file, with its matrices stored as `ty` where they can be.
///
/// Returns what will not be the same in llama.cpp, a sentence each.
///
/// # Errors
///
/// If llama.cpp has no model with these options, it has no tokenizer that does the same, or the file can't be
/// written.
pub fn export_gguf(
    model: &Gpt,
    tokenizer: &Tokenizer,
    special_tokens: &SpecialTokens,
    name: &str,
    ty: TensorType,
    path: &Path,
) -> Result<Vec<String>> {
    let failed = |error: ExportError| {
        let path = path.to_owned();
        match error {
            ExportError::NoFamily(source) => Error::NoFamily { path, source: Box::new(source) },
            ExportError::Option(reason) => Error::GgufParts { path, reason },
            ExportError::Tokenizer(source) => Error::GgufTokenizer { path, source },
            ExportError::File(source) => Error::Gguf { path, source },
        }
    };
    let mut notes = Vec::new();
    atomic::write_with(path, |out| -> Result<()> {
        notes = export(out, model, tokenizer, special_tokens, name, ty).map_err(failed)?;
        Ok(())
    })?;
    Ok(notes)
}
