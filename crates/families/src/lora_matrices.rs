//! The matrices of an adapter as updates of a model.

use std::{collections::BTreeMap, path::Path};

use burn::prelude::*;
use formats::weights::Tensor as FileTensor;
use model::{Gpt, Lora};

use crate::{Error, Result, lora_module::LoraModule};

/// The matrices of an adapter in a file.
pub(crate) struct LoraMatrices<'a> {
    pub(crate) path: &'a Path,
    /// A `[R, C_in]` and B `[rows, R]`, by their keys.
    pub(crate) tensors: BTreeMap<String, FileTensor>,
    /// The keys of A and B of a module.
    pub(crate) keys: &'a dyn Fn(&LoraModule) -> [String; 2],
    /// The factor of B · A for a module and a rank.
    pub(crate) scale: &'a dyn Fn(&LoraModule, usize) -> f64,
}

impl LoraMatrices<'_> {
    /// The model with the updates.
    ///
    /// # Errors
    ///
    /// If a matrix can't be read or does not fit the model, or there are none. All such matrices are named.
    pub(crate) fn add_to(mut self, model: Gpt, device: &Device) -> Result<Gpt> {
        let mut updates: BTreeMap<String, Vec<Lora>> = BTreeMap::new();
        let mut problems = Vec::new();
        for module in LoraModule::all(model.config()) {
            let [a_key, b_key] = (self.keys)(&module);
            let (a, b) = match (self.tensors.remove(&a_key), self.tensors.remove(&b_key)) {
                (Some(a), Some(b)) => (a, b),
                (None, None) => continue,
                (Some(_), None) => {
                    problems.push(format!("{b_key} is missing"));
                    continue;
                }
                (None, Some(_)) => {
                    problems.push(format!("{a_key} is missing"));
                    continue;
                }
            };
            let (rank, [n_rows, n_in]) = (a.shape().first().copied().unwrap_or_default(), module.shape);
            if rank == 0 || a.shape() != [rank, n_in] || b.shape() != [n_rows, rank] {
                problems.push(format!(
                    "{} and {} are matrices of {:?} and {:?}, which do not fit {n_rows} x {n_in} weights",
                    a.name(),
                    b.name(),
                    a.shape(),
                    b.shape()
                ));
                continue;
            }
            let matrix = |tensor: &FileTensor, shape: [usize; 2]| -> Result<Tensor<2>> {
                Ok(Tensor::from_data(TensorData::new(tensor.read()?, shape), device))
            };
            let (a, b) = (matrix(&a, [rank, n_in])?, matrix(&b, [n_rows, rank])?);
            let lora = Lora::new(a, b, module.first_row, (self.scale)(&module, rank));
            updates.entry(module.path).or_default().push(lora);
        }
        let others = self.tensors.into_values();
        problems.extend(others.map(|other| format!("{} is not a matrix of a linear layer", other.name())));
        if updates.is_empty() && problems.is_empty() {
            problems.push("it has no matrices".to_owned());
        }
        match problems.is_empty() {
            true => Ok(model.with_lora(updates)),
            false => Err(Error::Adapter { path: self.path.to_owned(), problems }),
        }
    }
}
