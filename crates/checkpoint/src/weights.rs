//! `model.safetensors`: the weights of a model under Hugging Face's names.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    prelude::*,
    tensor::DType,
};
use model::Gpt;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{
    Error, Result, atomic,
    error::io,
    hugging_face::{HEAD_KEY, PREFIX, is_mask, key},
};

/// Writes the weights of a model, in f32, atomically.
///
/// A model without biases gets zeros for those that a GPT-2 always has, so that its logits stay the same
/// wherever it is opened.
///
/// # Errors
///
/// If the file can't be written.
pub(crate) fn save(model: &Gpt, path: &Path) -> Result<()> {
    let mut collector = Collector { path: Vec::new(), tensors: BTreeMap::new() };
    model.visit(&mut collector);
    let mut tensors = collector.tensors;
    if !model.config().bias {
        add_zero_biases(&mut tensors);
    }

    let views = tensors.iter().map(|(key, (shape, bytes))| {
        let view =
            TensorView::new(Dtype::F32, shape.clone(), bytes).expect("the bytes are those of the shape");
        (key.as_str(), view)
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = safetensors::serialize(views, Some(metadata))
        .map_err(|reason| Error::Safetensors { path: path.to_owned(), reason })?;
    atomic::write_file(path, &bytes)
}

/// Gives a model the weights of a file, which may hold f32, f16 or bf16, with or without the prefix
/// `transformer.`
///
/// # Errors
///
/// If the file can't be read, or a tensor is missing, left over, of another shape or of another kind; every
/// such tensor is named.
pub(crate) fn load(model: Gpt, path: &Path) -> Result<Gpt> {
    let bytes = fs::read(path).map_err(io("read", path))?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|reason| Error::Safetensors { path: path.to_owned(), reason })?;
    let mut tensors: HashMap<String, TensorView<'_>> = file
        .tensors()
        .into_iter()
        .filter(|(key, _)| !is_mask(key))
        .map(|(key, view)| match key == HEAD_KEY || key.starts_with(PREFIX) {
            true => (key, view),
            false => (format!("{PREFIX}{key}"), view),
        })
        .collect();

    let mut problems = Vec::new();
    let config = model.config();
    if config.tie_embeddings {
        tensors.remove(HEAD_KEY); // The same numbers as the token embedding, stored twice by some.
    }
    if !config.bias {
        drop_zero_biases(&mut tensors, &mut problems);
    }
    let mut loader = Loader { path: Vec::new(), tensors, problems };
    let model = model.map(&mut loader);
    let Loader { tensors, mut problems, .. } = loader;
    problems.extend(tensors.keys().map(|key| format!("{key} has no place in the model")));
    if problems.is_empty() {
        Ok(model)
    } else {
        problems.sort();
        Err(Error::Weights { path: path.to_owned(), problems })
    }
}

/// Shape and little-endian f32 of each key; sorted, so that the same weights make the same file.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

struct Collector {
    path: Vec<String>,
    tensors: Tensors,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let key = key(&self.path.join("."));
        let value = param.val();
        let value = if key == HEAD_KEY { value.transpose() } else { value };
        let data = value.into_data().convert::<f32>();
        self.tensors.insert(key, (data.shape().to_vec(), data.as_bytes().to_vec()));
    }
}

struct Loader<'a> {
    path: Vec<String>,
    tensors: HashMap<String, TensorView<'a>>,
    problems: Vec<String>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let key = key(&self.path.join("."));
        let Some(view) = self.tensors.remove(&key) else {
            self.problems.push(format!("{key} is missing"));
            return param;
        };
        let mut shape = param.val().dims();
        if key == HEAD_KEY {
            shape.reverse();
        }
        if view.shape() != shape {
            self.problems.push(format!("{key} is {:?} in the file and {shape:?} in the model", view.shape()));
            return param;
        }
        let Some(dtype) = float_dtype(view.dtype()) else {
            self.problems.push(format!("{key} is {:?}; F32, F16 and BF16 can be read", view.dtype()));
            return param;
        };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), shape, dtype).convert::<f32>();
        let transpose = key == HEAD_KEY;
        param.map(|old| {
            let new = Tensor::<D>::from_data(data, &old.device());
            let new = if transpose { new.transpose() } else { new };
            // A parameter goes on asking for its gradient.
            new.set_require_grad(old.is_require_grad())
        })
    }
}

fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}

/// Every `x.weight` but those of the embeddings and the head has an `x.bias` as long as its last axis.
fn add_zero_biases(tensors: &mut Tensors) {
    let biases: Vec<_> = tensors
        .iter()
        .filter(|(key, _)| has_bias(key))
        .map(|(key, (shape, _))| {
            let n = *shape.last().expect("a weight has at least one axis");
            (bias_key(key), (vec![n], vec![0; n * size_of::<f32>()]))
        })
        .collect();
    tensors.extend(biases);
}

/// Takes the biases out of the weights of a model that has none, and reports those that are not zero.
fn drop_zero_biases(tensors: &mut HashMap<String, TensorView<'_>>, problems: &mut Vec<String>) {
    let keys: Vec<_> = tensors.keys().filter(|key| has_bias(key)).map(|key| bias_key(key)).collect();
    for key in keys {
        if let Some(view) = tensors.remove(&key)
            && view.data().iter().any(|&byte| byte != 0)
        {
            problems.push(format!("{key} is not zero and the model has no biases"));
        }
    }
}

fn has_bias(key: &str) -> bool {
    let embeddings = ["transformer.wte.weight", "transformer.wpe.weight", HEAD_KEY];
    key.ends_with(".weight") && !embeddings.contains(&key)
}

fn bias_key(weight_key: &str) -> String {
    format!("{}.bias", weight_key.trim_end_matches(".weight"))
}
