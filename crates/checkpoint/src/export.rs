//! Writes a model as a single file, atomically.

use std::{fs::File, io::BufWriter, path::Path};

use ::fs::atomic;
use families::gguf::{ExportError, FileType, export, export_adapter};
use formats::weights::{FloatType, WriteError};
use model::Gpt;
use tokenizer::{SpecialTokens, Tokenizer};

use crate::{Error, Result, error::io};

/// Writes the weights of a model as a safetensors file.
///
/// # Errors
///
/// If the file can't be written, or a value is out of range for `ty`.
pub(crate) fn save_weights(model: &Gpt, path: &Path, ty: FloatType) -> Result<()> {
    save_with(path, |out| families::write_safetensors(model, out, ty))
}

/// Writes the low-rank updates of a model as a safetensors file.
///
/// # Errors
///
/// If the file can't be written.
pub(crate) fn save_adapter(model: &Gpt, path: &Path) -> Result<()> {
    save_with(path, |out| families::write_adapter(model, out))
}

fn save_with(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<&mut File>) -> Result<(), WriteError>,
) -> Result<()> {
    atomic::write_with(path, |out| {
        write(out).map_err(|error| match error {
            WriteError::Header(reason) => Error::Safetensors { path: path.to_owned(), reason },
            WriteError::TooLarge { name, value, ty } => {
                Error::TooLarge { path: path.to_owned(), key: name, value, dtype: ty }
            }
            WriteError::Io(source) => io("write", path)(source),
        })
    })
}

/// Writes the low-rank updates of a model as a GGUF adapter, with matrices of type `ty`.
///
/// # Errors
///
/// If llama.cpp does not support the architecture options, a layer has several updates, or the file exists or can't be
/// written.
///
/// # Panics
///
/// If the model has no low-rank updates.
pub fn export_gguf_adapter(model: &Gpt, name: &str, ty: FileType, path: &Path) -> Result<()> {
    atomic::create_with(path, |out| export_adapter(out, model, name, ty).map_err(|error| failed(path, error)))
}

/// Writes a model and its tokenizer as a GGUF file of type `ty`.
///
/// Returns notes for the user, one for each difference in llama.cpp.
///
/// # Errors
///
/// If llama.cpp does not support the architecture options or the tokenizer, or the file exists or can't be written.
pub fn export_gguf(
    model: &Gpt,
    tokenizer: &Tokenizer,
    special_tokens: &SpecialTokens,
    name: &str,
    ty: FileType,
    path: &Path,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    atomic::create_with(path, |out| -> Result<()> {
        notes =
            export(out, model, tokenizer, special_tokens, name, ty).map_err(|error| failed(path, error))?;
        Ok(())
    })?;
    Ok(notes)
}

fn failed(path: &Path, error: ExportError) -> Error {
    let path = path.to_owned();
    match error {
        ExportError::NoFamily(source) => Error::NoFamily { path, source: Box::new(source) },
        ExportError::Option(reason) => Error::GgufOption { path, reason },
        ExportError::Tokenizer(source) => Error::GgufTokenizer { path, source },
        ExportError::File(source) => Error::Gguf { path, source },
    }
}
