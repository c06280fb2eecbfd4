//! The weights of a model as a `model.safetensors`, some rows after the others.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    io::Write,
    ops::Range,
    path::Path,
};

use ::fs::atomic;
use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use half::{bf16, f16, vec::HalfFloatVecExt};
use model::{Gpt, GptConfig};
use safetensors::{
    Dtype, SafeTensorError,
    tensor::{Metadata, TensorInfo},
};

use crate::{Error, Result, error::io, layout::Layout};

/// Numbers in memory at once: 4 MiB of f32.
const CHUNK: usize = 1 << 20;

/// What the numbers of a file of ours are stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// As they are.
    F32,
    /// Rounded to 16 bits, as IEEE has them.
    F16,
    /// Rounded to the upper 16 of 32 bits.
    Bf16,
}

impl Precision {
    /// As PyTorch calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// The numbers as they are stored, or the first that can't be.
    fn encode(self, numbers: &[f32]) -> Result<Cow<'_, [u8]>, f32> {
        let fits = |x: f32| match self {
            Self::F32 => true,
            Self::F16 => f16::from_f32(x).is_finite(),
            Self::Bf16 => bf16::from_f32(x).is_finite(),
        };
        if let Some(&x) = numbers.iter().find(|x| x.is_finite() && !fits(**x)) {
            return Err(x);
        }
        Ok(match self {
            Self::F32 => bytemuck::cast_slice(numbers).into(),
            Self::F16 => bytemuck::cast_slice(&Vec::<f16>::from_f32_slice(numbers)).to_vec().into(),
            Self::Bf16 => bytemuck::cast_slice(&Vec::<bf16>::from_f32_slice(numbers)).to_vec().into(),
        })
    }
}

/// Writes the weights of a model, atomically, with few of them in memory beside the model.
///
/// A model without biases gets zeros for those that its layout always has, so that its logits stay the same wherever it
/// is opened.
///
/// # Errors
///
/// If the file can't be written, or a number is too large for the precision.
pub(crate) fn save(model: &Gpt, path: &Path, precision: Precision) -> Result<()> {
    let weights = collect(model);
    let header = header(&weights, precision.dtype())
        .map_err(|reason| Error::Safetensors { path: path.to_owned(), reason })?;
    atomic::write_with(path, |out| {
        out.write_all(&header).map_err(io("write", path))?;
        for (key, weight) in &weights {
            for numbers in weight.chunks() {
                let bytes = precision.encode(&numbers).map_err(|value| {
                    let (path, key) = (path.to_owned(), key.clone());
                    Error::TooLarge { path, key, value, dtype: precision.name() }
                })?;
                out.write_all(&bytes).map_err(io("write", path))?;
            }
        }
        Ok(())
    })
}

/// What comes before the numbers: the length of a JSON object, and that object with the place of each tensor.
fn header(weights: &BTreeMap<String, Weight>, dtype: Dtype) -> Result<Vec<u8>, SafeTensorError> {
    let mut end = 0;
    let place = |(key, weight): (&String, &Weight)| {
        let start = end;
        end += weight.shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (key.clone(), TensorInfo { dtype, shape: weight.shape.clone(), data_offsets: (start, end) })
    };
    let tensors = weights.iter().map(place).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut json = serde_json::to_vec(&Metadata::new(Some(format), tensors)?)?;
    // So the numbers begin at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}

/// A weight of a model, whose numbers are copied from it when they are asked for.
pub(crate) struct Weight {
    /// Its extents, the outermost first.
    pub(crate) shape: Vec<usize>,
    rows: Box<dyn Fn(Range<usize>) -> Vec<f32>>,
}

impl Weight {
    /// Its numbers row by row, some rows at a time.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Vec<f32>> {
        let [n_rows, row_len] = [self.shape[0], self.shape[1..].iter().product()];
        let step = (CHUNK / row_len).max(1);
        (0..n_rows).step_by(step).map(move |start| (self.rows)(start..n_rows.min(start + step)))
    }

    fn zeros(n: usize) -> Self {
        Self { shape: vec![n], rows: Box::new(|rows| vec![0.0; rows.len()]) }
    }
}

/// The weights of a model as its layout has them, biases of zero where only the layout has some; sorted, so that the
/// same weights make the same file.
pub(crate) fn collect(model: &Gpt) -> BTreeMap<String, Weight> {
    let (config, layout) = (model.config(), Layout::of(model.config()));
    let mut collector = Collector { path: Vec::new(), layout, config, weights: BTreeMap::new() };
    model.visit(&mut collector);
    let mut weights = collector.weights;
    if !config.bias {
        add_zero_biases(layout, &mut weights);
    }
    weights
}

struct Collector<'a> {
    path: Vec<String>,
    layout: Layout,
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
        let place = self.layout.place(&self.path.join("."), self.config);
        let value = param.val().detach();
        let whole = place.shape(&value.dims());
        // Of the parameter, the axis that is the first of what is stored.
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

/// A bias of zeros, as long as the last axis of its weight, for each weight that has one in the layout.
fn add_zero_biases(layout: Layout, weights: &mut BTreeMap<String, Weight>) {
    let bias = |(key, weight): (&String, &Weight)| {
        let n = *weight.shape.last().expect("a weight has at least one axis");
        layout.bias_key(key).map(|bias_key| (bias_key, Weight::zeros(n)))
    };
    let biases: Vec<_> = weights.iter().filter_map(bias).collect();
    weights.extend(biases);
}

#[cfg(test)]
#[allow(clippy::cast_precision_loss, reason = "the numbers of tests are small")]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_all_rows_in_order_and_no_more_than_fit() {
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
