//! Weights and optimizer state as the files of a checkpoint, in Burn's record format.

use std::collections::BTreeMap;

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    optim::GradientsParams,
    prelude::*,
    store::RecordError,
    tensor::{Bytes, DType},
};
use burn_pack::{Scalar, Writer};

use crate::{Error, optimizer_command::ParameterState};

/// A tensor that is read from its device when it is written. Until then it is a handle: updates create new tensors and
/// leave it unchanged. Its name is empty until the caller sets it.
pub(crate) fn deferred<const D: usize>(tensor: Tensor<D>) -> burn_pack::Tensor {
    let (dtype, shape) = (tensor.dtype(), tensor.shape());
    let size_bytes = shape.num_elements() * dtype.size();
    let read = move || match tensor.try_to_data() {
        Ok(data) => Ok(data.into_parts().0),
        Err(error) => {
            Err(burn_pack::Error::IoError(format!("cannot read a tensor from the device: {error}")))
        }
    };
    burn_pack::Tensor::deferred(String::new(), dtype, shape, None, size_bytes, read)
}

/// The elements of a tensor of f32.
///
/// # Errors
///
/// If it can't be read from its device.
///
/// # Panics
///
/// If it has another type.
pub(crate) fn values(tensor: &burn_pack::Tensor) -> Result<Vec<f32>, Error> {
    assert_eq!(tensor.dtype, DType::F32, "the type of {}", tensor.name);
    let bytes = tensor.to_bytes().map_err(RecordError::from)?;
    let data = TensorData::from_bytes(bytes, tensor.shape.clone(), DType::F32);
    Ok(data.try_into_vec().expect("the elements are f32"))
}

/// A tensor with the name, shape and parameter of another, and these elements.
pub(crate) fn with_values(of: &burn_pack::Tensor, values: Vec<f32>) -> burn_pack::Tensor {
    let bytes = Bytes::from_elems(values);
    burn_pack::Tensor::new(of.name.clone(), DType::F32, of.shape.clone(), of.param_id, bytes)
}

/// The parameters of a module, in module order.
#[derive(Default)]
pub(crate) struct Parameters {
    path: Vec<String>,
    is_lora_only: bool,
    pub(crate) names: Vec<(ParamId, String)>,
    pub(crate) tensors: Vec<burn_pack::Tensor>,
    /// Each parameter as its own gradient, so that Burn passes all of them to an optimizer.
    pub(crate) as_gradients: GradientsParams,
}

impl Parameters {
    /// Collects the parameters of a module without gradient recording.
    pub(crate) fn of<M: Module>(module: &M) -> Self {
        let mut parameters = Self::default();
        module.visit(&mut parameters);
        parameters
    }

    /// Like [`Parameters::of`], of low-rank updates alone.
    pub(crate) fn of_lora<M: Module>(module: &M) -> Self {
        let mut parameters = Self { is_lora_only: true, ..Self::default() };
        module.visit(&mut parameters);
        parameters
    }
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.is_lora_only && self.path.iter().all(|part| part != "lora") {
            return;
        }
        let name = self.path.join(".");
        let mut tensor = deferred(param.transform_for_save().val());
        (tensor.name, tensor.param_id) = (name.clone(), Some(param.id.val()));
        self.tensors.push(tensor);
        self.names.push((param.id, name));
        self.as_gradients.register(param.id, param.val());
    }
}

/// The optimizer's file, in the format of Burn's `OptimizerRecord`. Tensors are sorted by name, so that equal states
/// give equal files.
pub(crate) fn optimizer_file(names: Vec<(ParamId, String)>, states: Vec<Option<ParameterState>>) -> Writer {
    assert_eq!(names.len(), states.len(), "each parameter has one state");
    let mut tensors = Vec::new();
    let (mut scalars, mut paths) = (BTreeMap::new(), BTreeMap::new());
    for ((id, path), state) in names.into_iter().zip(states) {
        let Some(state) = state else { continue };
        let id = id.val();
        paths.insert(id.to_string(), path);
        scalars.insert(format!("{id}.__rank"), Scalar::from(state.rank));
        scalars.extend(state.scalars.into_iter().map(|(name, value)| (format!("{id}.{name}"), value)));
        for (name, mut tensor) in state.tensors {
            (tensor.name, tensor.param_id) = (format!("{id}.{name}"), Some(id));
            tensors.push(tensor);
        }
    }
    sorted_writer(tensors, scalars, paths)
}

/// A file whose tensors are sorted by name.
pub(crate) fn sorted_writer(
    mut tensors: Vec<burn_pack::Tensor>,
    scalars: BTreeMap<String, Scalar>,
    paths: BTreeMap<String, String>,
) -> Writer {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let writer = Writer::new(tensors);
    let writer = scalars.iter().fold(writer, |writer, (name, value)| writer.with_scalar(name, *value));
    paths.iter().fold(writer, |writer, (id, path)| writer.with_metadata(id, path))
}
