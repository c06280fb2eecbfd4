//! Hugging Face's format: a length, a header of JSON, numbers.
//!
//! See [the format's description](https://github.com/huggingface/safetensors#format).

use std::{fs::File, io::Read, path::Path};

use safetensors::{Dtype as FileDtype, tensor::Metadata};

use crate::weights::{
    Dtype, Error, Result,
    error::io,
    tensor::{Source, Tensor},
};

/// Bytes of the header's length.
const LENGTH: u64 = size_of::<u64>() as u64;

/// Longest header that is read: the format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// The tensors of a file.
pub(crate) fn tensors(path: &Path) -> Result<Vec<(String, Tensor)>> {
    let damaged = |reason: String| Error::Safetensors { path: path.to_owned(), reason };
    let mut file = File::open(path).map_err(io("open", path))?;
    let file_len = file.metadata().map_err(io("read", path))?.len();
    let mut length = [0; size_of::<u64>()];
    if file_len < LENGTH {
        return Err(damaged(format!("it has {file_len} bytes, not even the length of a header")));
    }
    file.read_exact(&mut length).map_err(io("read", path))?;
    let header_len = u64::from_le_bytes(length);
    if header_len > MAX_HEADER || header_len > file_len - LENGTH {
        return Err(damaged(format!(
            "its header would have {header_len} bytes, and the file has {file_len}"
        )));
    }
    let mut header = vec![0; usize::try_from(header_len).expect("a header is below 100 MB")];
    file.read_exact(&mut header).map_err(io("read", path))?;
    // Checks that the tensors fill what they say, one after another.
    let header: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let (expected, actual) = (header.data_len() as u64, file_len - LENGTH - header_len);
    if actual != expected {
        return Err(damaged(format!("its tensors take {expected} bytes, and it has {actual} for them")));
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
