//! The weights of a model by their names in files, read a few rows at a time.

use std::{collections::BTreeMap, io::Write, ops::Range};

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use formats::weights::{FloatType, WriteError, write};
use model::{Gpt, GptConfig};

use crate::{names::Names, registry::names};

/// Values that are copied at a time: 4 MiB of f32.
const CHUNK: usize = 1 << 20;

/// Writes the weights of a model as a safetensors file, copying only a few rows at a time.
///
/// Biases that the family always has, but the model lacks, are written as zeros; the logits stay the same.
///
/// # Errors
///
/// If `out` fails, or `ty` can't represent a value.
///
/// # Panics
///
/// If a weight is not a parameter: the model was not loaded with [`WeightStorage::Owned`](crate::WeightStorage::Owned).
pub fn write_safetensors(model: &Gpt, out: &mut impl Write, ty: FloatType) -> Result<(), WriteError> {
    let weights = collect(model);
    let shapes = weights.iter().map(|(key, weight)| (key.clone(), weight.shape.clone())).collect();
    write(out, &shapes, ty, |key| weights[key].chunks())
}

/// A weight of a model; its values are copied on demand.
pub(crate) struct Weight {
    /// Outermost dimension first.
    pub(crate) shape: Vec<usize>,
    rows: Box<dyn Fn(Range<usize>) -> Vec<f32>>,
}

impl Weight {
    /// The values in row-major order, a few rows at a time.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Vec<f32>> {
        let [n_rows, row_len] = [self.shape[0], self.shape[1..].iter().product()];
        let step = (CHUNK / row_len).max(1);
        (0..n_rows).step_by(step).map(move |start| (self.rows)(start..n_rows.min(start + step)))
    }

    fn zeros(n: usize) -> Self {
        Self { shape: vec![n], rows: Box::new(|rows| vec![0.0; rows.len()]) }
    }
}

/// The weights of a model in the layout of its family, with zeros for biases that only the layout has. They are sorted,
/// so that equal weights make equal files.
///
/// # Panics
///
/// If a weight is not a parameter: a model to be written is loaded with [`WeightStorage::Owned`].
///
/// [`WeightStorage::Owned`]: crate::WeightStorage::Owned
pub(crate) fn collect(model: &Gpt) -> BTreeMap<String, Weight> {
    assert!(!model.has_row_blocks(), "a model whose weights are not parameters can't be written");
    let (config, names) = (model.config(), names(model.config()));
    let mut collector = Collector { path: Vec::new(), names, config, weights: BTreeMap::new() };
    model.visit(&mut collector);
    let mut weights = collector.weights;
    add_zero_biases(names, config, &mut weights);
    weights
}

struct Collector<'a> {
    path: Vec<String>,
    names: &'a Names,
    config: &'a GptConfig,
    weights: BTreeMap<String, Weight>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let place = self.names.place(&self.path.join("."), self.config);
        let value = param.val().detach();
        let whole = place.shape(&value.dims());
        // The axis of the parameter that is the first stored axis.
        let axis = if place.is_transposed { D - 1 } else { 0 };
        let is_transposed = place.is_transposed;
        let mut start = 0;
        for part in place.parts {
            let (value, first) = (value.clone(), start);
            let shape = part.shape(whole.clone());
            start += shape[0];
            let rows = move |rows: Range<usize>| {
                let value = value.clone().narrow(axis, first + rows.start, rows.len());
                let value = if is_transposed { value.transpose() } else { value };
                value.into_data().convert::<f32>().try_into_vec().expect("it was converted to f32")
            };
            self.weights.insert(part.key, Weight { shape, rows: Box::new(rows) });
        }
    }
}

/// Adds a zero bias for each weight that has one only in files. Its length is the last axis of the weight.
fn add_zero_biases(names: &Names, config: &GptConfig, weights: &mut BTreeMap<String, Weight>) {
    let bias = |(key, weight): (&String, &Weight)| {
        let n = *weight.shape.last().expect("a weight has at least one axis");
        names.zero_bias_key(key, config).map(|bias_key| (bias_key, Weight::zeros(n)))
    };
    let biases: Vec<_> = weights.iter().filter_map(bias).collect();
    weights.extend(biases);
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "the values of tests are small")]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_all_rows_in_order() {
        for (shape, expected) in [
            (vec![5, CHUNK / 2], vec![(0, 2), (2, 4), (4, 5)]),
            (vec![2, CHUNK + 1], vec![(0, 1), (1, 2)]),
            (vec![3, 7], vec![(0, 3)]),
            (vec![CHUNK + 1], vec![(0, CHUNK), (CHUNK, CHUNK + 1)]),
        ] {
            let rows = |rows: Range<usize>| vec![rows.start as f32, rows.end as f32];
            let weight = Weight { shape, rows: Box::new(rows) };
            let expected: Vec<_> = expected.into_iter().map(|(start, end)| rows(start..end)).collect();
            assert_eq!(weight.chunks().collect::<Vec<_>>(), expected, "{:?}", weight.shape);
        }
    }
}
