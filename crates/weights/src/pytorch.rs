//! PyTorch's pickles.

use std::{collections::HashMap, path::Path};

use pytorch_reader::{DType, PickleValue, PytorchError, PytorchReader};
use serde::de::DeserializeOwned;

use crate::{
    Dtype, Error, Result,
    tensor::{Source, Tensor},
};

/// Where training programs put the weights among other things.
const NESTED: [&str; 2] = ["model", "state_dict"];

/// The tensors of a file: of the pickled dictionary itself, or of the one that training programs keep in it. In the
/// first case there is nothing else in it.
pub(crate) fn tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let unreadable =
        |reason: &PytorchError| Error::PyTorch { path: path.to_owned(), reason: reason.to_string() };
    let PickleValue::Dict(root) =
        PytorchReader::read_pickle_data(path, None).map_err(|error| unreadable(&error))?
    else {
        return Err(Error::PyTorch {
            path: path.to_owned(),
            reason: "it is no dictionary of tensors".into(),
        });
    };
    let nested = NESTED.into_iter().find(|key| matches!(root.get(*key), Some(PickleValue::Dict(_))));
    let reader = match nested {
        Some(key) => PytorchReader::with_top_level_key(path, key),
        None => PytorchReader::new(path),
    };
    let tensors = reader.map_err(|error| unreadable(&error))?.into_tensors();
    if nested.is_none() {
        refuse_others(path, &root, &tensors)?;
    }
    if tensors.is_empty() {
        return Err(Error::PyTorch { path: path.to_owned(), reason: "it has no tensors".into() });
    }
    let tensor = |(name, tensor): (String, pytorch_reader::Tensor)| {
        let shape = tensor.shape().to_vec();
        let dtype = dtype(tensor.dtype());
        let tensor = Tensor::new(path, &name, shape, dtype, Source::Pickle(tensor));
        (name, tensor)
    };
    Ok(tensors.into_iter().map(tensor).collect())
}

/// What a pickle has under a key beside its tensors, such as the settings that nanoGPT saves with its weights.
///
/// # Errors
///
/// If the file is no pickle, has no such key, or has something else there than `T`.
pub fn read_value<T: DeserializeOwned>(path: &Path, key: Option<&str>) -> Result<T> {
    PytorchReader::load_config(path, key)
        .map_err(|error| Error::PyTorch { path: path.to_owned(), reason: error.to_string() })
}

/// A file of weights has no business with anything else.
fn refuse_others(
    path: &Path,
    root: &HashMap<String, PickleValue>,
    tensors: &HashMap<String, pytorch_reader::Tensor>,
) -> Result<()> {
    let mut others: Vec<_> = root.iter().filter(|(key, _)| !tensors.contains_key(*key)).collect();
    others.sort_by_key(|(key, _)| *key);
    let Some((key, value)) = others.first() else { return Ok(()) };
    let what = match value {
        PickleValue::None => "None".to_owned(),
        PickleValue::Bool(_) => "a bool".to_owned(),
        PickleValue::Int(_) | PickleValue::Float(_) => "a number".to_owned(),
        PickleValue::String(_) | PickleValue::Bytes(_) => "a string".to_owned(),
        PickleValue::List(_) => "a list".to_owned(),
        PickleValue::Dict(_) => "a dictionary".to_owned(),
        PickleValue::Unsupported(name) => format!("the object {name}"),
    };
    Err(Error::NotATensor { path: path.to_owned(), key: (*key).clone(), what })
}

fn dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::Bf16,
        other => Dtype::Other(format!("{other:?}")),
    }
}
