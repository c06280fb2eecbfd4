//! LoRA adapters as GGUF files.
//!
//! A file has `general.type` = `adapter` and `adapter.type` = `lora`. For each updated weight, such as
//! `blk.0.attn_q.weight`, it has A `[R, C_in]` with the suffix `.lora_a` and B `[C_out, R]` with `.lora_b`, rows outermost.
//! The rows of B have the order of the weight's rows in GGUF. llama.cpp's `llama-adapter.cpp` multiplies B · A by
//! `adapter.lora.alpha` / R, or by 1 without the key.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use burn::prelude::*;
use bytes::Bytes;
use formats::{
    gguf::{self, Gguf, TensorInfo, TensorType, TensorView, Value},
    refuse_lfs_pointer,
    weights::Tensor as FileTensor,
};
use fs::Map;
use model::Gpt;

use super::{Error as GgufError, ExportError, FileType};
use crate::{
    Error, Family, Result,
    error::io,
    lora_matrices::LoraMatrices,
    lora_module::{LoraModule, updated_modules},
    names::Names,
    stored::Stored,
};

const ARCHITECTURE: &str = "general.architecture";
const FILE_KIND: &str = "general.type";
const ADAPTER_KIND: &str = "adapter.type";
const ALPHA: &str = "adapter.lora.alpha";
/// Key of adapters that start to work at certain tokens only.
const INVOCATION: &str = "adapter.alora.invocation_tokens";

/// The name of a weight in GGUF, and the order of its rows there.
fn weight(names: &Names, module: &LoraModule) -> (String, Stored) {
    let mapped = names.gguf_name(&format!("{}.weight", module.name));
    let mapped = mapped.expect("every weight of a family has a name in GGUF");
    // Both layouts of a matrix have the same A and B.
    let rows = if mapped.stored == Stored::Interleaved { Stored::Interleaved } else { Stored::AsIs };
    (mapped.name, rows)
}

fn keys(weight: &str) -> [String; 2] {
    ["lora_a", "lora_b"].map(|matrix| format!("{weight}.{matrix}"))
}

/// Writes the low-rank updates of a model as a GGUF adapter called `name`, with matrices of type `ty`.
///
/// # Errors
///
/// If llama.cpp does not support the model, a layer has several updates, or writing fails.
///
/// # Panics
///
/// If the model has no low-rank updates.
pub fn export_adapter(
    out: &mut impl Write,
    model: &Gpt,
    name: &str,
    ty: FileType,
) -> Result<(), ExportError> {
    let config = model.config();
    let family = Family::of(config)?;
    if let Some(reason) = (family.unsupported_by_llama_cpp)(config) {
        return Err(ExportError::Option(reason));
    }
    let modules = updated_modules(model);
    if modules.len() < model.lora().values().map(Vec::len).sum() {
        let reason = "a layer has the updates of two adapters; merge one of them into its base model first";
        return Err(ExportError::Option(reason.to_owned()));
    }
    let factor = |lora: &model::Lora| lora.scale() * lora.a().dims()[0] as f64;
    let alpha = factor(&modules.first().expect("the model has low-rank updates").1);
    let mut tensors = Vec::new();
    let mut values: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (module, lora) in modules {
        let (weight, rows) = weight(&family.names, &module);
        let [a_key, b_key] = keys(&weight);
        // The file has one alpha, so B has the rest of the factor.
        let b = if factor(&lora) == alpha { lora.b() } else { lora.b() * (factor(&lora) / alpha) };
        let (a_dims, b_dims) = (lora.a().dims(), b.dims());
        let floats = |matrix: Tensor<2>| -> Vec<f32> {
            let data = matrix.detach().into_data().convert::<f32>();
            data.try_into_vec().expect("it was converted to f32")
        };
        let b = rows.apply(floats(b), &b_dims, config.head_dim());
        for (key, dims, matrix) in [(a_key, a_dims, floats(lora.a())), (b_key, b_dims, b)] {
            tensors.push(TensorInfo { name: key.clone(), dims: vec![dims[1], dims[0]], ty: ty.base() });
            values.insert(key, matrix);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the key is in single precision")]
    let alpha = alpha as f32;
    let metadata: [(&str, Value); 6] = [
        (ARCHITECTURE, family.architecture.into()),
        (FILE_KIND, "adapter".into()),
        ("general.name", name.into()),
        (ADAPTER_KIND, "lora".into()),
        (ALPHA, alpha.into()),
        ("general.file_type", ty.code().into()),
    ];
    let metadata: Vec<(String, Value)> =
        metadata.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let of =
        |tensor: &TensorInfo| -> gguf::Result<Cow<'_, [f32]>> { Ok(values[&tensor.name].as_slice().into()) };
    Ok(gguf::write(out, &metadata, &tensors, of)?)
}

/// An open GGUF file with a LoRA adapter.
#[derive(Debug)]
pub struct GgufAdapter {
    path: PathBuf,
    architecture: String,
    /// 0 for a factor of 1, whatever the rank.
    alpha: f64,
    matrices: Vec<Matrix>,
}

/// A matrix as it is stored.
#[derive(Debug)]
struct Matrix {
    name: String,
    /// Outermost first.
    shape: Vec<usize>,
    ty: TensorType,
    bytes: Bytes,
}

impl GgufAdapter {
    /// Opens a file and reads its metadata.
    ///
    /// # Errors
    ///
    /// If the file is unreadable or damaged, or has no LoRA adapter.
    pub fn open(path: &Path) -> Result<Self> {
        refuse_lfs_pointer(path)?;
        let map = Bytes::from_owner(Map::open(path).map_err(io("open", path))?);
        read(path, &map).map_err(|source| Error::Gguf { path: path.to_owned(), source: Box::new(source) })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The model with the updates of the adapter.
    ///
    /// # Errors
    ///
    /// If the adapter belongs to another model, or a value is not finite.
    pub fn add_to(&self, model: Gpt, device: &Device) -> Result<Gpt> {
        let family = Family::of(model.config()).ok();
        let Some(family) = family.filter(|family| family.architecture == self.architecture) else {
            let model = family.map_or("of no architecture in GGUF", |family| family.architecture);
            let source = GgufError::OtherArchitecture { found: self.architecture.clone(), model };
            return Err(Error::Gguf { path: self.path.clone(), source: Box::new(source) });
        };
        let (names, head_dim) = (&family.names, model.config().head_dim());
        let rows_of_b: BTreeMap<String, Stored> = LoraModule::all(model.config())
            .iter()
            .map(|module| weight(names, module))
            .map(|(weight, rows)| (keys(&weight)[1].clone(), rows))
            .collect();
        let tensor = |matrix: &Matrix| {
            let Matrix { name, shape, ty, bytes } = matrix;
            let (bytes, ty) = (bytes.clone(), *ty);
            let unpack = move || TensorView { name: "", dims: Vec::new(), ty, bytes: &bytes }.to_f32();
            // Rows that do not divide into heads do not fit the model, which is reported later.
            let divides = shape.first().is_some_and(|n_rows| n_rows.is_multiple_of(head_dim));
            let rows = rows_of_b.get(name).copied().filter(|_| divides).unwrap_or(Stored::AsIs);
            let arranged = shape.clone();
            let arrange = move |values| rows.undo(values, &arranged, head_dim);
            (name.clone(), FileTensor::packed(&self.path, name, shape.clone(), unpack, arrange))
        };
        LoraMatrices {
            path: &self.path,
            tensors: self.matrices.iter().map(tensor).collect(),
            keys: &|module| keys(&weight(names, module).0),
            scale: &|_, rank| if self.alpha == 0.0 { 1.0 } else { self.alpha / rank as f64 },
        }
        .add_to(model, device)
    }
}

fn read(path: &Path, map: &Bytes) -> Result<GgufAdapter, GgufError> {
    let file = Gguf::parse(map)?;
    for (key, expected) in [(FILE_KIND, "adapter"), (ADAPTER_KIND, "lora")] {
        let found = file.value(key).and_then(Value::as_str).unwrap_or_default();
        if found != expected {
            return Err(GgufError::NotLora { key, found: found.to_owned(), expected });
        }
    }
    if file.value(INVOCATION).is_some() {
        return Err(GgufError::AdapterKind { key: INVOCATION });
    }
    let matrix = |tensor: &TensorView<'_>| Matrix {
        name: tensor.name.to_owned(),
        shape: tensor.dims.iter().rev().copied().collect(),
        ty: tensor.ty,
        bytes: map.slice_ref(tensor.bytes),
    };
    Ok(GgufAdapter {
        path: path.to_owned(),
        architecture: file.string(ARCHITECTURE)?.to_owned(),
        alpha: file.value(ALPHA).and_then(Value::as_f64).unwrap_or_default(),
        matrices: file.tensors().iter().map(matrix).collect(),
    })
}
