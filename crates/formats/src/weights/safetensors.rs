//! Reading of safetensors: header length, JSON header, values.
//!
//! See [the specification](https://github.com/huggingface/safetensors#format).

use std::{fs::File, io::Read, path::Path};

use safetensors::{Dtype as FileDtype, tensor::Metadata};

use crate::weights::{
    Dtype, Error, Result,
    error::io,
    tensor::{Source, Tensor},
};

/// Size of the header length, in bytes.
const LENGTH: u64 = size_of::<u64>() as u64;

/// Maximum size of the header: the limit of the format.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a file.
pub(crate) fn tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let damaged = |reason: String| Error::Safetensors { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(io("open", path))?;
    let file_len = file.metadata().map_err(io("read", path))?.len();
    let mut length = [0; size_of::<u64>()];
    if file_len < LENGTH {
        return Err(damaged(format!("it has only {file_len} bytes")));
    }
    file.read_exact(&mut length).map_err(io("read", path))?;
    let header_len = u64::from_le_bytes(length);
    if header_len > MAX_HEADER || header_len > file_len - LENGTH {
        return Err(damaged(format!(
            "its header would have {header_len} bytes, but the file has only {file_len}"
        )));
    }
    let mut header = vec![0; usize::try_from(header_len).expect("a header has at most 100 MB")];
    file.read_exact(&mut header).map_err(io("read", path))?;
    // Deserialisation checks that the tensors are contiguous and match their shapes.
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let (expected, actual) = (header.data_len() as u64, file_len - LENGTH - header_len);
    if actual != expected {
        return Err(damaged(format!("its tensors need {expected} bytes, but it has {actual}")));
    }
    let tensor = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let offset = LENGTH + header_len + info.data_offsets.0 as u64;
        let tensor = Tensor::new(path, &name, info.shape.clone(), dtype(info.dtype), Source::Offset(offset));
        (name, tensor)
    };
    Ok(header.tensors().into_iter().map(tensor).collect())
}

fn dtype(dtype: FileDtype) -> Dtype {
    match dtype {
        FileDtype::F32 => Dtype::F32,
        FileDtype::F16 => Dtype::F16,
        FileDtype::BF16 => Dtype::Bf16,
        other => Dtype::Other(format!("{other:?}")),
    }
}
