//! The weights of a file, in a model.

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
    map::{blocks, tensor},
    names::{Names, Place, without_wrapper},
    quantization::quantization_of,
};

/// Parameters of a model that is not worth a second thought.
const MARGIN: usize = 1 << 20;

/// Where the weights of a model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// In memory of its own, as training needs them.
    Own,
    /// In the file, where that has them as f32 and aligned; the others in memory of its own. This is for inference on the CPU: a
    /// matrix stored in another layout becomes row blocks and is no parameter ([`Gpt::with_row_blocks`]).
    Mapped,
}

/// A model of these sizes with the weights of a file, which may hold f32, f16 or bf16, with or without the prefix of
/// most keys. Biases of the keys with `without_bias` in them are not looked for: they are zeros.
///
/// # Errors
///
/// If the file can't be read, or a tensor is missing, left over, of another shape or of another kind; every
/// such tensor is named.
pub(crate) fn load(
    config: &GptConfig,
    weights: Weights,
    names: &Names,
    without_bias: Option<&str>,
    memory: Memory,
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
            problems.push(format!("{key} is there twice, with and without a prefix"));
        }
    }
    let head_key = names.head_key();
    let ignored = take_ignored(&mut tensors, config.tie_embeddings.then_some(&head_key));
    // Before memory is asked for.
    let n_held: usize = tensors.values().map(|tensor| tensor.shape().iter().product::<usize>()).sum();
    let n_params = config.n_params();
    if n_params / 2 > n_held + MARGIN {
        let problem = format!("the sizes make {n_params} parameters, and the file holds {n_held}");
        return Err(Error::Weights { path, problems: vec![problem] });
    }
    if config.tie_embeddings {
        let (head, embedding) = (tensors.remove(&head_key), tensors.get(&names.embedding_key()));
        problems.extend(untied(&head_key, head, embedding)?);
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
        maps: (memory == Memory::Mapped && has_fused_operations(device) && !device.is_autodiff())
            .then(Maps::default),
        blocks: BTreeMap::new(),
    };
    let model = model.map(&mut loader);
    let Loader { tensors, mut problems, failure, mut blocks, .. } = loader;
    if let Some(failure) = failure {
        return Err(failure.into());
    }
    // Zero-sized placeholders that nothing asked for.
    let (empty, others): (Vec<_>, Vec<_>) = tensors.into_values().partition(is_empty);
    problems.extend(others.iter().map(|tensor| format!("{} has no place in the model", tensor.name())));
    if problems.is_empty() {
        warn_of_ignored(&path, &[ignored, empty].concat());
        Ok(model.with_row_blocks(|path| blocks.remove(path)))
    } else {
        // Those that say most first.
        problems.sort_by_cached_key(|problem| (problem.ends_with("is missing"), problem.clone()));
        Err(Error::Weights { path, problems })
    }
}

/// Takes out what is no part of a language model: heads for other tasks, and a placeholder in place of a tied head.
fn take_ignored(tensors: &mut BTreeMap<String, FileTensor>, tied_head: Option<&String>) -> Vec<FileTensor> {
    let is_ignored = |key: &str, tensor: &FileTensor| {
        is_on_top(tensor.name()) || (tied_head.is_some_and(|head| head == key) && is_empty(tensor))
    };
    tensors.extract_if(.., |key, tensor| is_ignored(key, tensor)).map(|(_, tensor)| tensor).collect()
}

/// Tensors of a file that `transformers` passes over too, as no part of the language model: what was trained on top of it.
fn is_on_top(name: &str) -> bool {
    const MODULES: [&str; 6] =
        ["v_head", "value_head", "score", "classifier", "multiple_choice_head", "reward_head"];
    let name = without_wrapper(name);
    let mut parts = name.split('.');
    let first = parts.next();
    // trl keeps the model beside the head in some versions.
    let module = if first == Some("pretrained_model") { parts.next() } else { first };
    module.is_some_and(|module| MODULES.contains(&module))
}

fn is_empty(tensor: &FileTensor) -> bool {
    tensor.shape().contains(&0)
}

/// Names tensors as the file does.
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
        "{}: {}{more} left out, as no part of the language model",
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
    /// The first file that could not be read; the rest is not tried.
    failure: Option<formats::weights::Error>,
    /// The files whose tensors are used where they lie, if any are.
    maps: Option<Maps>,
    /// Weights that lie otherwise than their parameters do, by the paths of these.
    blocks: BTreeMap<String, RowBlocks>,
}

impl Loader<'_> {
    /// The parameter with the numbers of its tensors.
    fn loaded<const D: usize>(
        &mut self,
        param: Param<Tensor<D>>,
        place: &Place,
        tensors: &[FileTensor],
    ) -> formats::weights::Result<Param<Tensor<D>>> {
        if let Some(maps) = &mut self.maps {
            match tensors {
                [whole] if !place.is_transposed => {
                    if let Some(mapped) = tensor(whole, maps, &param.val().device())? {
                        return Ok(param.map(|_| mapped));
                    }
                }
                parts if D == 2 => {
                    if let Some(blocks) = blocks(parts, place.is_transposed, maps)? {
                        self.blocks.insert(self.path.join("."), blocks);
                        return Ok(param); // It gives way to the blocks.
                    }
                }
                _ => {}
            }
        }
        let data = TensorData::new(joined(tensors)?, place.shape(&param.val().dims()));
        Ok(param.map(|old| {
            let new = Tensor::<D>::from_data(data, &old.device());
            // Laid out anew, or every product with it would do that first.
            let new = match place.is_transposed {
                true => Tensor::from_data(new.transpose().into_data(), &old.device()),
                false => new,
            };
            // A parameter goes on asking for its gradient.
            new.set_require_grad(old.is_require_grad())
        }))
    }

    /// The tensor of a key, if it is there and has this shape.
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
        // Once something is wrong, the shapes of the others are still worth telling and their numbers are not.
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

/// The numbers of some tensors, one after the other.
fn joined(tensors: &[FileTensor]) -> formats::weights::Result<Vec<f32>> {
    let [first, others @ ..] = tensors else { return Ok(Vec::new()) };
    let mut numbers = first.read()?;
    for tensor in others {
        numbers.extend(tensor.read()?);
    }
    Ok(numbers)
}

/// The same numbers as the token embedding are stored twice by some; others are those of another model.
fn untied(
    head_key: &str,
    head: Option<FileTensor>,
    embedding: Option<&FileTensor>,
) -> Result<Option<String>> {
    let (Some(head), Some(embedding)) = (head, embedding) else { return Ok(None) };
    if head.shape() == embedding.shape() && head.has_numbers_of(embedding)? {
        return Ok(None);
    }
    Ok(Some(format!(
        "{head_key} is not the token embedding, and config.json has tie_word_embeddings for true"
    )))
}

/// Takes out the biases that the model lacks, and reports those that are not zero.
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
            problems.push(format!("{key} is not zero and the model has no biases"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_trained_on_top_is_told_from_the_model() {
        for name in [
            "v_head.summary.weight",
            "pretrained_model.v_head.summary.bias",
            "score.weight",
            "_orig_mod.score.weight",
        ] {
            assert!(is_on_top(name), "{name}");
        }
        for name in ["lm_head.weight", "transformer.h.0.attn.c_attn.weight", "h.0.score.weight", "scores"] {
            assert!(!is_on_top(name), "{name}");
        }
    }
}
