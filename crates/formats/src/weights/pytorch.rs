//! PyTorch pickles.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::BufReader,
    path::Path,
};

use pytorch_reader::{DType, PickleValue, PytorchReader};
use serde::de::DeserializeOwned;
use zip::ZipArchive;

use crate::{
    refuse_lfs_pointer,
    weights::{
        Dtype, Error, Result,
        error::io,
        tensor::{Source, Tensor},
    },
};

/// The tensors of the pickled dictionary, or of the dictionary under `key`. Other objects are an error.
pub(crate) fn tensors(path: &Path, key: Option<&str>) -> Result<Vec<(String, Tensor)>> {
    let unreadable = |reason: String| Error::PyTorch { path: path.to_owned(), reason };
    check_unpacked(path)?;
    let dictionary =
        PytorchReader::read_pickle_data(path, key).map_err(|error| unreadable(error.to_string()))?;
    let PickleValue::Dict(dictionary) = dictionary else {
        return Err(unreadable("it is not a dictionary of tensors".to_owned()));
    };
    let reader = match key {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let tensors = reader.map_err(|error| unreadable(error.to_string()))?.into_tensors();
    refuse_others(path, &dictionary, &tensors)?;
    if tensors.is_empty() {
        return Err(unreadable("it has no tensors".to_owned()));
    }
    // Views may repeat one value many times. The factor of 2 allows tied weights.
    let file_len = std::fs::metadata(path).map_err(io("read", path))?.len();
    let claimed: u64 = tensors.values().map(|tensor| tensor.byte_len() as u64).fold(0, u64::saturating_add);
    if claimed / 2 > file_len {
        return Err(unreadable(format!(
            "its tensors would take {claimed} bytes, but the file has only {file_len}"
        )));
    }
    let tensor = |(name, tensor): (String, pytorch_reader::Tensor)| {
        let shape = tensor.shape().to_vec();
        let dtype = dtype(tensor.dtype());
        let tensor = Tensor::new(path, &name, shape, dtype, Source::Pickle(tensor));
        (name, tensor)
    };
    Ok(tensors.into_iter().map(tensor).collect())
}

/// Reads the value of a key, or the whole pickle, as `T`: for example the `model_args` of nanoGPT.
///
/// # Errors
///
/// If the file is not a pickle, has no such key, or the value is not a `T`.
pub fn read_value<T: DeserializeOwned>(path: &Path, key: Option<&str>) -> Result<T> {
    check_unpacked(path)?;
    PytorchReader::load_config(path, key)
        .map_err(|error| Error::PyTorch { path: path.to_owned(), reason: error.to_string() })
}

/// The keys of the pickled dictionary, or of the dictionary under `key`, each with a description of its value.
///
/// # Errors
///
/// If the file is not a pickle, has no such key, or the value is not a dictionary.
pub fn entries(path: &Path, key: Option<&str>) -> Result<BTreeMap<String, String>> {
    check_unpacked(path)?;
    let unreadable = |reason: String| Error::PyTorch { path: path.to_owned(), reason };
    match PytorchReader::read_pickle_data(path, key).map_err(|error| unreadable(error.to_string()))? {
        PickleValue::Dict(root) => {
            let entries = root.iter().filter(|(key, value)| !is_metadata(key, value));
            Ok(entries.map(|(key, value)| (key.clone(), description(value))).collect())
        }
        other => Err(unreadable(format!("it is {}, not a dictionary", description(&other)))),
    }
}

/// Refuses an archive whose pickle unpacks to more than the size of the file. The pickle is read as a whole, a few
/// bytes of opcodes make many objects, and PyTorch does not compress it.
fn check_unpacked(path: &Path) -> Result<()> {
    refuse_lfs_pointer(path)?;
    let file = File::open(path).map_err(io("open", path))?;
    let file_len = file.metadata().map_err(io("read", path))?.len();
    // The reader reports files that are not archives.
    let Ok(mut archive) = ZipArchive::new(BufReader::new(file)) else { return Ok(()) };
    for idx in 0..archive.len() {
        let Ok(entry) = archive.by_index_raw(idx) else { continue };
        if entry.size() > file_len && entry.name_raw().ends_with(b".pkl") {
            let reason =
                format!("its pickle unpacks to {} bytes, but the file has only {file_len}", entry.size());
            return Err(Error::PyTorch { path: path.to_owned(), reason });
        }
    }
    Ok(())
}

/// Refuses objects other than tensors.
fn refuse_others(
    path: &Path,
    root: &HashMap<String, PickleValue>,
    tensors: &HashMap<String, pytorch_reader::Tensor>,
) -> Result<()> {
    let is_other =
        |(key, value): &(&String, &PickleValue)| !tensors.contains_key(*key) && !is_metadata(key, value);
    let mut others: Vec<_> = root.iter().filter(is_other).collect();
    others.sort_by_key(|(key, _)| *key);
    let Some((key, value)) = others.first() else { return Ok(()) };
    Err(Error::NotATensor { path: path.to_owned(), key: (*key).clone(), what: description(value) })
}

/// Whether it is `_metadata`, an attribute of a `state_dict` with the versions of its modules.
fn is_metadata(key: &str, value: &PickleValue) -> bool {
    key == "_metadata" && matches!(value, PickleValue::Dict(_))
}

/// The Python type of a value.
fn description(value: &PickleValue) -> String {
    match value {
        PickleValue::None => "None".to_owned(),
        PickleValue::Bool(_) => "a bool".to_owned(),
        PickleValue::Int(_) | PickleValue::Float(_) => "a number".to_owned(),
        PickleValue::String(_) | PickleValue::Bytes(_) => "a string".to_owned(),
        PickleValue::List(_) => "a list".to_owned(),
        PickleValue::Dict(_) => "a dictionary".to_owned(),
        PickleValue::Unsupported(name) => format!("the object {name}"),
    }
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::Bf16,
        other => Dtype::Other(format!("{other:?}")),
    }
}
