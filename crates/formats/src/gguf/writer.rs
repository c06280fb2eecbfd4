//! Sequential writing of a file of version 3.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::Write;

use rayon::prelude::*;

use crate::gguf::constants::{
    ARRAY_DEPTH_MAX, KEY_LENGTH_MAX, MAGIC, N_DIMS_MAX, TENSOR_NAME_LENGTH_MAX, VERSION, align, alignment,
    depth,
};
use crate::gguf::value::code;
use crate::gguf::{Array, Error, Result, TensorType, Value};

/// A tensor to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// For example `blk.0.attn_qkv.weight`; at most 63 bytes.
    pub name: String,
    /// In GGUF's order: the length of a row first; at most four.
    pub dims: Vec<usize>,
    pub ty: TensorType,
}

/// Values that a thread packs at a time: a multiple of every block size.
const CHUNK: usize = 1 << 16;

/// Chunks whose bytes are in memory together.
const N_CHUNKS: usize = 64;

/// Writes a file of version 3 with the keys and tensors in the given order.
///
/// `values` is called for each tensor in turn and returns its values row by row, so only one tensor is in memory. Rayon's
/// threads pack them.
/// Tensors are aligned to `general.alignment`, by default 32. The caller buffers and flushes `out`.
///
/// # Errors
///
/// If [`Gguf::parse`](crate::gguf::Gguf::parse) or llama.cpp could not read the file, a tensor has too few, too many or
/// unrepresentable values, or `values` or `out` fails.
pub fn write<'v, E: From<Error>>(
    out: &mut impl Write,
    metadata: &[(String, Value)],
    tensors: &[TensorInfo],
    mut values: impl FnMut(&TensorInfo) -> Result<Cow<'v, [f32]>, E>,
) -> Result<(), E> {
    let alignment = alignment(metadata.iter().map(|(key, value)| (key.as_str(), value)))?;
    out.write_all(&header(metadata, tensors, alignment)?).map_err(Error::from)?;
    for tensor in tensors {
        write_tensor(out, tensor, &values(tensor)?, alignment)?;
    }
    Ok(())
}

fn write_tensor(out: &mut impl Write, tensor: &TensorInfo, values: &[f32], alignment: usize) -> Result<()> {
    let TensorInfo { name, dims, ty } = tensor;
    let (expected, size_bytes) = size(tensor)?;
    if values.len() != expected {
        let (name, dims) = (name.clone(), dims.clone());
        return Err(Error::Values { name, dims, expected, found: values.len() });
    }
    for (part_idx, part) in values.chunks(N_CHUNKS * CHUNK).enumerate() {
        let packed: Vec<_> = part
            .par_chunks(CHUNK)
            .map(|chunk| {
                let mut bytes = Vec::with_capacity(chunk.len() / ty.block_len() * ty.block_bytes());
                ty.pack(chunk, &mut bytes).map(|()| bytes)
            })
            .collect();
        for (chunk_idx, chunk) in packed.into_iter().enumerate() {
            let bytes = chunk.map_err(|idx| {
                let index = (part_idx * N_CHUNKS + chunk_idx) * CHUNK + idx;
                Error::Unrepresentable { name: name.clone(), index, value: values[index], ty: *ty }
            })?;
            out.write_all(&bytes)?;
        }
    }
    let padding = align(size_bytes, alignment).ok_or_else(|| too_large(tensor))? - size_bytes;
    Ok(out.write_all(&vec![0; padding])?)
}

/// Everything before the data.
fn header(metadata: &[(String, Value)], tensors: &[TensorInfo], alignment: usize) -> Result<Vec<u8>> {
    let mut header = Vec::new();
    header.extend(MAGIC);
    header.extend(VERSION.to_le_bytes());
    header.extend((tensors.len() as u64).to_le_bytes());
    header.extend((metadata.len() as u64).to_le_bytes());

    check_names("keys", "the key", KEY_LENGTH_MAX, metadata.iter().map(|(key, _)| key))?;
    for (key, value) in metadata {
        if let Value::Array(array) = value
            && depth(array) > ARRAY_DEPTH_MAX
        {
            return Err(Error::Depth { key: key.clone(), depth_max: ARRAY_DEPTH_MAX });
        }
        push_string(&mut header, key);
        push_value(&mut header, value);
    }

    let names = tensors.iter().map(|tensor| &tensor.name);
    check_names("tensors", "the tensor name", TENSOR_NAME_LENGTH_MAX, names)?;
    let mut offset = 0_usize;
    for tensor in tensors {
        push_tensor(&mut header, tensor, offset)?;
        let (_, size_bytes) = size(tensor)?;
        offset = offset
            .checked_add(size_bytes)
            .and_then(|end| align(end, alignment))
            .ok_or_else(|| too_large(tensor))?;
    }
    header.resize(header.len().next_multiple_of(alignment), 0);
    Ok(header)
}

fn check_names<'a>(
    many: &'static str,
    one: &'static str,
    length_max: usize,
    names: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let mut seen = HashSet::new();
    for name in names {
        if !(1..=length_max).contains(&name.len()) {
            return Err(Error::NameLength { what: one, name: name.clone(), length: name.len(), length_max });
        }
        if !seen.insert(name) {
            return Err(Error::Duplicate { what: many, name: name.clone() });
        }
    }
    Ok(())
}

/// Number of values and size in bytes of a tensor. Refuses tensors that can't be written.
fn size(tensor: &TensorInfo) -> Result<(usize, usize)> {
    let TensorInfo { name, dims, ty } = tensor;
    if dims.len() > N_DIMS_MAX {
        let (name, n_dims) = (name.clone(), dims.len() as u64);
        return Err(Error::Dimensions { name, n_dims, n_dims_max: N_DIMS_MAX });
    }
    let row = dims.first().copied().unwrap_or(1);
    if row % ty.block_len() != 0 {
        return Err(Error::Blocks { name: name.clone(), row, ty: *ty });
    }
    ty.size(dims).ok_or_else(|| too_large(tensor))
}

fn too_large(tensor: &TensorInfo) -> Error {
    Error::Size { name: tensor.name.clone(), dims: tensor.dims.iter().map(|&dim| dim as u64).collect() }
}

fn push_tensor(header: &mut Vec<u8>, tensor: &TensorInfo, offset: usize) -> Result<()> {
    let TensorInfo { name, dims, ty } = tensor;
    size(tensor)?;
    push_string(header, name);
    let n_dims = u32::try_from(dims.len()).expect("there are at most four");
    header.extend(n_dims.to_le_bytes());
    header.extend(dims.iter().flat_map(|&dim| (dim as u64).to_le_bytes()));
    header.extend(ty.code().to_le_bytes());
    header.extend((offset as u64).to_le_bytes());
    Ok(())
}

fn push_string(header: &mut Vec<u8>, text: &str) {
    header.extend((text.len() as u64).to_le_bytes());
    header.extend(text.as_bytes());
}

fn push_value(header: &mut Vec<u8>, value: &Value) {
    let mut push = |code: u32, bytes: &[u8]| {
        header.extend(code.to_le_bytes());
        header.extend(bytes);
    };
    match value {
        Value::U8(number) => push(code::U8, &number.to_le_bytes()),
        Value::I8(number) => push(code::I8, &number.to_le_bytes()),
        Value::U16(number) => push(code::U16, &number.to_le_bytes()),
        Value::I16(number) => push(code::I16, &number.to_le_bytes()),
        Value::U32(number) => push(code::U32, &number.to_le_bytes()),
        Value::I32(number) => push(code::I32, &number.to_le_bytes()),
        Value::F32(number) => push(code::F32, &number.to_le_bytes()),
        Value::Bool(value) => push(code::BOOL, &[u8::from(*value)]),
        Value::String(text) => {
            push(code::STRING, &[]);
            push_string(header, text);
        }
        Value::Array(array) => {
            push(code::ARRAY, &[]);
            push_array(header, array);
        }
        Value::U64(number) => push(code::U64, &number.to_le_bytes()),
        Value::I64(number) => push(code::I64, &number.to_le_bytes()),
        Value::F64(number) => push(code::F64, &number.to_le_bytes()),
    }
}

fn push_array(header: &mut Vec<u8>, array: &Array) {
    match array {
        Array::U8(values) => push_numbers(header, code::U8, values, |value| value.to_le_bytes()),
        Array::I8(values) => push_numbers(header, code::I8, values, |value| value.to_le_bytes()),
        Array::U16(values) => push_numbers(header, code::U16, values, |value| value.to_le_bytes()),
        Array::I16(values) => push_numbers(header, code::I16, values, |value| value.to_le_bytes()),
        Array::U32(values) => push_numbers(header, code::U32, values, |value| value.to_le_bytes()),
        Array::I32(values) => push_numbers(header, code::I32, values, |value| value.to_le_bytes()),
        Array::F32(values) => push_numbers(header, code::F32, values, |value| value.to_le_bytes()),
        Array::Bool(values) => push_numbers(header, code::BOOL, values, |value| [u8::from(value)]),
        Array::String(values) => {
            push_each(header, code::STRING, values, |header, text| push_string(header, text));
        }
        Array::Array(values) => push_each(header, code::ARRAY, values, push_array),
        Array::U64(values) => push_numbers(header, code::U64, values, |value| value.to_le_bytes()),
        Array::I64(values) => push_numbers(header, code::I64, values, |value| value.to_le_bytes()),
        Array::F64(values) => push_numbers(header, code::F64, values, |value| value.to_le_bytes()),
    }
}

fn push_numbers<T: Copy, const N: usize>(
    header: &mut Vec<u8>,
    code: u32,
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
) {
    push_each(header, code, values, |header, &value| header.extend(bytes(value)));
}

fn push_each<T>(header: &mut Vec<u8>, code: u32, values: &[T], push: impl Fn(&mut Vec<u8>, &T)) {
    header.extend(code.to_le_bytes());
    header.extend((values.len() as u64).to_le_bytes());
    for value in values {
        push(header, value);
    }
}
