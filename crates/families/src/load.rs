//! Loading of weights into a model.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::{Module, ModuleMapper, Param},
    prelude::*,
};
use formats::weights::{Maps, Tensor as FileTensor, Weights};
use kernels::{RowBlocks, has_fused_operations};
use model::{Gpt, GptConfig};

use crate::{
    Error, Result,
    gguf::FileType,
    map::{Mapped, mapped, quantised_row_blocks},
    names::{Names, Place, strip_compile_prefix},
    quantization::quantization_of,
};

/// Tolerance of the check that the file has enough values for all parameters.
const MARGIN: usize = 1 << 20;

/// The path of the position embedding, which is always f32.
const POSITION_EMBEDDING: &str = "position_embedding.weight";

/// Where the weights of a loaded model are stored, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    /// In memory; required for training of all weights.
    Owned,
    /// As f32: aligned f32 weights in the memory-mapped file, the others in memory. For weights that are not trained, on
    /// the CPU only: a matrix in another layout becomes row blocks instead of a parameter ([`Gpt::with_row_blocks`]).
    Mapped,
    /// As [`Self::Mapped`], but matrices in f16, bf16 or quantised stay as they are stored.
    AsStored,
    /// As [`Self::Mapped`], but matrices have the types of a GGUF file of this type.
    Quantised(FileType),
}

/// Loads a model. Weights may be f32, f16, bf16 or quantised, and keys may lack the family's prefix. Biases with `without_bias` in
/// their keys are zeros.
///
/// # Errors
///
/// If the file can't be read, or tensors are missing, unexpected, or of the wrong shape or type. All such tensors are
/// named.
pub(crate) fn load(
    config: &GptConfig,
    weights: Weights,
    names: &Names,
    without_bias: Option<&str>,
    storage: WeightStorage,
    device: &Device,
) -> Result<Gpt> {
    let path = weights.path().to_owned();
    if let Some(method) = quantization_of(&weights.names().collect::<Vec<_>>()) {
        return Err(Error::Quantized { path, method: method.to_owned() });
    }
    let mut tensors = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, tensor) in weights.into_tensors() {
        let Some(key) = names.key(&name) else { continue };
        if tensors.insert(key.clone(), tensor).is_some() {
            problems.push(format!("{key} occurs twice, with and without a prefix"));
        }
    }
    let head_key = names.head_key();
    let ignored = take_ignored(&mut tensors, config.tie_embeddings.then_some(&head_key));
    // Checked before memory is allocated.
    let n_stored: usize = tensors.values().map(|tensor| tensor.shape().iter().product::<usize>()).sum();
    let n_params = config.n_params();
    if n_params / 2 > n_stored + MARGIN {
        let problem = format!("the config has {n_params} parameters, but the file only {n_stored}");
        return Err(Error::Weights { path, problems: vec![problem] });
    }
    if config.tie_embeddings {
        let (head, embedding) = (tensors.remove(&head_key), tensors.get(&names.embedding_key()));
        problems.extend(check_tied(&head_key, head, embedding)?);
    }
    drop_zero_biases(names, config, &mut tensors, &mut problems)?;
    let model = config.zeros(device).map_err(|source| Error::Sizes { path: path.clone(), source })?;
    let mut loader = Loader {
        path: Vec::new(),
        names,
        config,
        without_bias,
        tensors,
        problems,
        failure: None,
        storage,
        maps: (storage != WeightStorage::Owned && has_fused_operations(device) && !device.is_autodiff())
            .then(Maps::default),
        blocks: BTreeMap::new(),
    };
    let model = model.map(&mut loader);
    let Loader { tensors, mut problems, failure, mut blocks, .. } = loader;
    if let Some(failure) = failure {
        return Err(failure);
    }
    // Empty tensors are placeholders.
    let (empty, others): (Vec<_>, Vec<_>) = tensors.into_values().partition(is_empty);
    problems.extend(others.iter().map(|tensor| format!("{} is not part of the model", tensor.name())));
    if problems.is_empty() {
        warn_of_ignored(&path, &[ignored, empty].concat());
        Ok(model.with_row_blocks(|path| blocks.remove(path)))
    } else {
        // The most informative problems first.
        problems.sort_by_cached_key(|problem| (problem.ends_with("is missing"), problem.clone()));
        Err(Error::Weights { path, problems })
    }
}

/// Removes tensors outside the language model: heads for other tasks, and an empty placeholder of a tied head.
fn take_ignored(tensors: &mut BTreeMap<String, FileTensor>, tied_head: Option<&String>) -> Vec<FileTensor> {
    let is_ignored = |key: &str, tensor: &FileTensor| {
        is_task_head(tensor.name()) || (tied_head.is_some_and(|head| head == key) && is_empty(tensor))
    };
    tensors.extract_if(.., |key, tensor| is_ignored(key, tensor)).map(|(_, tensor)| tensor).collect()
}

/// Whether a tensor belongs to a head for another task, which `transformers` ignores too.
fn is_task_head(name: &str) -> bool {
    const MODULES: [&str; 6] =
        ["v_head", "value_head", "score", "classifier", "multiple_choice_head", "reward_head"];
    let name = strip_compile_prefix(name);
    let mut parts = name.split('.');
    let first = parts.next();
    // Some versions of trl put the model into `pretrained_model`, beside the head.
    let module = if first == Some("pretrained_model") { parts.next() } else { first };
    module.is_some_and(|module| MODULES.contains(&module))
}

fn is_empty(tensor: &FileTensor) -> bool {
    tensor.shape().contains(&0)
}

fn warn_of_ignored(path: &Path, tensors: &[FileTensor]) {
    const SHOWN: usize = 3;
    if tensors.is_empty() {
        return;
    }
    let mut names: Vec<&str> = tensors.iter().map(FileTensor::name).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(SHOWN);
    names.truncate(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    tracing::warn!(
        "{}: ignoring tensors that are not part of the language model: {}{more}",
        path.display(),
        names.join(", ")
    );
}

struct Loader<'a> {
    path: Vec<String>,
    names: &'a Names,
    config: &'a GptConfig,
    without_bias: Option<&'a str>,
    tensors: BTreeMap<String, FileTensor>,
    problems: Vec<String>,
    /// The first read error; no more files are read after it.
    failure: Option<Error>,
    storage: WeightStorage,
    /// The mapped files; `None` if weights are loaded into memory.
    maps: Option<Maps>,
    /// Weights that are not parameters, because of their layout or type, by the paths of the parameters.
    blocks: BTreeMap<String, RowBlocks>,
}

impl Loader<'_> {
    /// Fills a parameter with the values of its tensors.
    fn loaded<const D: usize>(
        &mut self,
        param: Param<Tensor<D>>,
        place: &Place,
        tensors: &[FileTensor],
    ) -> Result<Param<Tensor<D>>> {
        if let Some(maps) = &mut self.maps {
            let path = self.path.join(".");
            let may_be_packed = D == 2 && path != POSITION_EMBEDDING;
            let found = match self.storage {
                WeightStorage::Quantised(ty) if may_be_packed && ty != FileType::F32 => {
                    let (names, config) = (self.names, self.config);
                    let format = |part: usize, n_in: usize| {
                        // A layout of our own has no names in GGUF: all its matrices have the base type.
                        let name = names.gguf_name(&place.parts[part].key).map(|mapped| mapped.name);
                        ty.tensor_type(&name.unwrap_or_default(), &[n_in, 1], config).format()
                    };
                    let blocks = quantised_row_blocks(tensors, place.is_transposed, maps, format)?;
                    Some(Mapped::Blocks(blocks))
                }
                storage => {
                    let accepts_packed = may_be_packed && storage == WeightStorage::AsStored;
                    let accepts = |format: Option<_>| format.is_none() || accepts_packed;
                    mapped(tensors, place.is_transposed, accepts, maps, &param.val().device())?
                }
            };
            match found {
                Some(Mapped::Tensor(tensor)) => return Ok(param.map(|_| tensor)),
                Some(Mapped::Blocks(blocks)) => {
                    self.blocks.insert(path, blocks);
                    return Ok(param); // Later replaced by the blocks.
                }
                None => {}
            }
        }
        let data = TensorData::new(concatenated(tensors)?, place.shape(&param.val().dims()));
        Ok(param.map(|old| {
            let new = Tensor::<D>::from_data(data, &old.device());
            // Made contiguous once, or every product would copy it.
            let new = match place.is_transposed {
                true => Tensor::from_data(new.transpose().into_data(), &old.device()),
                false => new,
            };
            new.set_require_grad(old.is_require_grad())
        }))
    }

    /// Removes the tensor of a key. Reports a problem if it is missing or has another shape.
    fn take(&mut self, key: &str, shape: &[usize]) -> Option<FileTensor> {
        if self.without_bias.is_some_and(|part| key.contains(part) && key.ends_with(".bias")) {
            let n_zeros = shape.iter().product();
            let zeros = move || vec![0.0; n_zeros];
            return Some(FileTensor::packed(Path::new(""), key, shape.to_vec(), zeros, |zeros| zeros));
        }
        let Some(tensor) = self.tensors.remove(key) else {
            self.problems.push(format!("{key} is missing"));
            return None;
        };
        if tensor.shape() != shape {
            let problem = format!("{key} is {:?} in the file and {shape:?} in the model", tensor.shape());
            self.problems.push(problem);
            return None;
        }
        Some(tensor)
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let place = self.names.place(&self.path.join("."), self.config);
        let shape = place.shape(&param.val().dims());
        let mut tensors = Vec::with_capacity(place.parts.len());
        for part in &place.parts {
            tensors.extend(self.take(&part.key, &part.shape(shape.clone())));
        }
        // After a problem, shapes are still checked, but no values are read.
        if self.failure.is_some() || !self.problems.is_empty() {
            return param;
        }
        let unloaded = param.clone();
        self.loaded(param, &place, &tensors).unwrap_or_else(|failure| {
            self.failure = Some(failure);
            unloaded
        })
    }
}

/// The values of all tensors, concatenated.
fn concatenated(tensors: &[FileTensor]) -> formats::weights::Result<Vec<f32>> {
    let [first, others @ ..] = tensors else { return Ok(Vec::new()) };
    let mut values = first.read()?;
    for tensor in others {
        values.extend(tensor.read()?);
    }
    Ok(values)
}

/// A tied head may be stored, but must equal the token embedding; otherwise it belongs to another model.
fn check_tied(
    head_key: &str,
    head: Option<FileTensor>,
    embedding: Option<&FileTensor>,
) -> Result<Option<String>> {
    let (Some(head), Some(embedding)) = (head, embedding) else { return Ok(None) };
    if head.shape() == embedding.shape() && head.has_same_values(embedding)? {
        return Ok(None);
    }
    Ok(Some(format!(
        "{head_key} differs from the token embedding, but config.json has tie_word_embeddings = true"
    )))
}

/// Removes biases that the model does not have, and reports those that are not zero.
fn drop_zero_biases(
    names: &Names,
    config: &GptConfig,
    tensors: &mut BTreeMap<String, FileTensor>,
    problems: &mut Vec<String>,
) -> Result<()> {
    let keys: Vec<_> = tensors.keys().filter_map(|key| names.zero_bias_key(key, config)).collect();
    for key in keys {
        if let Some(tensor) = tensors.remove(&key)
            && tensor.read()?.iter().any(|&x| x != 0.0)
        {
            problems.push(format!("{key} is not zero, but the model has no biases"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_heads_are_recognised() {
        for name in [
            "v_head.summary.weight",
            "pretrained_model.v_head.summary.bias",
            "score.weight",
            "_orig_mod.score.weight",
        ] {
            assert!(is_task_head(name), "{name}");
        }
        for name in ["lm_head.weight", "transformer.h.0.attn.c_attn.weight", "h.0.score.weight", "scores"] {
            assert!(!is_task_head(name), "{name}");
        }
    }
}
