//! Reading of the structure of a file.

use std::collections::HashMap;

use crate::gguf::constants::{
    ARRAY_DEPTH_MAX, KEY_LENGTH_MAX, MAGIC, N_DIMS_MAX, TENSOR_NAME_LENGTH_MAX, VERSION, align, alignment,
};
use crate::gguf::cursor::Cursor;
use crate::gguf::value::code;
use crate::gguf::{Array, Error, Result, TensorType, Value};

/// A parsed file: its metadata and views of its tensors.
#[derive(Debug)]
pub struct Gguf<'a> {
    version: u32,
    alignment: usize,
    metadata: Vec<(&'a str, Value)>,
    tensors: Vec<TensorView<'a>>,
    /// Indices into `metadata`.
    keys: HashMap<&'a str, usize>,
    /// Indices into `tensors`.
    names: HashMap<&'a str, usize>,
}

/// A tensor of a file.
#[derive(Debug, Clone)]
pub struct TensorView<'a> {
    /// For example `blk.0.attn_qkv.weight`.
    pub name: &'a str,
    /// In GGUF's order: the length of a row first.
    pub dims: Vec<usize>,
    pub ty: TensorType,
    /// The encoded values.
    pub bytes: &'a [u8],
}

impl TensorView<'_> {
    /// Unpacks the values, row by row. NaN and infinity are kept.
    pub fn to_f32(&self) -> Vec<f32> {
        self.ty.unpack(self.bytes)
    }
}

impl<'a> Gguf<'a> {
    /// Parses the structure of a file of version 1, 2 or 3. Allocated memory is bounded by the size of `bytes`.
    ///
    /// # Errors
    ///
    /// If the file is inconsistent or truncated, or a tensor has a type outside [`TensorType`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(bytes);
        let version = header(&mut cursor)?;
        // Minimum sizes. A tensor: name, number of dimensions, type and offset. A key: key, type, one byte of value.
        let n_tensors = cursor.count(cursor.length_bytes() + 16, "tensors")?;
        let n_keys = cursor.count(cursor.length_bytes() + 5, "keys")?;

        let mut metadata = Vec::with_capacity(n_keys);
        for _ in 0..n_keys {
            metadata.push(key_value(&mut cursor)?);
        }
        let keys = index("keys", metadata.iter().map(|&(key, _)| key))?;
        let alignment = alignment(metadata.iter().map(|(key, value)| (*key, value)))?;

        let mut entries = Vec::with_capacity(n_tensors);
        for _ in 0..n_tensors {
            entries.push(tensor_entry(&mut cursor)?);
        }
        let names = index("tensors", entries.iter().map(|entry| entry.name))?;
        let tensors = locate(bytes, cursor.offset(), alignment, entries)?;
        Ok(Self { version, alignment, metadata, tensors, keys, names })
    }

    /// The version of the format.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensors, in bytes.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Keys and values in file order.
    pub fn metadata(&self) -> &[(&'a str, Value)] {
        &self.metadata
    }

    /// The value of `key`.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).map(|&idx| &self.metadata[idx].1)
    }

    /// The value of a required string key.
    ///
    /// # Errors
    ///
    /// If the key is missing or not a string.
    pub fn string(&self, key: &str) -> Result<&str> {
        let value = self.value(key).ok_or_else(|| Error::MissingKey { key: key.to_owned() })?;
        value.as_str().ok_or_else(|| Error::Value {
            key: key.to_owned(),
            expected: "a string",
            found: value.to_string(),
        })
    }

    /// Appends the tensors of another part of the model.
    pub(crate) fn append(&mut self, part: Self) -> Result<()> {
        self.tensors.extend(part.tensors);
        self.names = index("tensors", self.tensors.iter().map(|tensor| tensor.name))?;
        Ok(())
    }

    /// Removes the other keys.
    pub(crate) fn retain_keys(&mut self, is_kept: impl Fn(&str) -> bool) {
        self.metadata.retain(|(key, _)| is_kept(key));
        self.keys = self.metadata.iter().enumerate().map(|(idx, &(key, _))| (key, idx)).collect();
    }

    /// The tensors in file order.
    pub fn tensors(&self) -> &[TensorView<'a>] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorView<'a>> {
        self.names.get(name).map(|&idx| &self.tensors[idx])
    }
}

/// Reads the version and sets the cursor's length width.
fn header(cursor: &mut Cursor<'_>) -> Result<u32> {
    if cursor.is_at_end() {
        return Err(Error::Empty);
    }
    let found = cursor.take(MAGIC.len(), "the magic number")?;
    if found != MAGIC {
        return Err(Error::NotGguf { found: found.to_owned() });
    }
    let version = cursor.u32("the version")?;
    match version {
        1..=VERSION => {}
        _ if (1..=VERSION).contains(&version.swap_bytes()) => return Err(Error::BigEndian),
        _ => return Err(Error::Version { version }),
    }
    cursor.short_lengths = version == 1;
    Ok(version)
}

fn key_value<'a>(cursor: &mut Cursor<'a>) -> Result<(&'a str, Value)> {
    let key = name(cursor, "the key", KEY_LENGTH_MAX)?;
    let offset = cursor.offset();
    let value = match cursor.u32("the type of a value")? {
        code::U8 => Value::U8(u8::from_le_bytes(cursor.array("a value")?)),
        code::I8 => Value::I8(i8::from_le_bytes(cursor.array("a value")?)),
        code::U16 => Value::U16(u16::from_le_bytes(cursor.array("a value")?)),
        code::I16 => Value::I16(i16::from_le_bytes(cursor.array("a value")?)),
        code::U32 => Value::U32(u32::from_le_bytes(cursor.array("a value")?)),
        code::I32 => Value::I32(i32::from_le_bytes(cursor.array("a value")?)),
        code::F32 => Value::F32(f32::from_le_bytes(cursor.array("a value")?)),
        code::BOOL => Value::Bool(boolean(cursor, key)?),
        code::STRING => Value::String(cursor.string("a value")?.to_owned()),
        code::ARRAY => Value::Array(array(cursor, key, 1)?),
        code::U64 => Value::U64(u64::from_le_bytes(cursor.array("a value")?)),
        code::I64 => Value::I64(i64::from_le_bytes(cursor.array("a value")?)),
        code::F64 => Value::F64(f64::from_le_bytes(cursor.array("a value")?)),
        code => return Err(Error::ValueType { key: key.to_owned(), offset, code }),
    };
    Ok((key, value))
}

/// Reads an array within `depth - 1` others.
fn array(cursor: &mut Cursor<'_>, key: &str, depth: usize) -> Result<Array> {
    if depth > ARRAY_DEPTH_MAX {
        return Err(Error::Depth { key: key.to_owned(), depth_max: ARRAY_DEPTH_MAX });
    }
    let offset = cursor.offset();
    Ok(match cursor.u32("the type of an array")? {
        code::U8 => Array::U8(numbers(cursor, u8::from_le_bytes)?),
        code::I8 => Array::I8(numbers(cursor, i8::from_le_bytes)?),
        code::U16 => Array::U16(numbers(cursor, u16::from_le_bytes)?),
        code::I16 => Array::I16(numbers(cursor, i16::from_le_bytes)?),
        code::U32 => Array::U32(numbers(cursor, u32::from_le_bytes)?),
        code::I32 => Array::I32(numbers(cursor, i32::from_le_bytes)?),
        code::F32 => Array::F32(numbers(cursor, f32::from_le_bytes)?),
        code::BOOL => Array::Bool(each(cursor, 1, |cursor| boolean(cursor, key))?),
        code::STRING => Array::String(each(cursor, cursor.length_bytes(), |cursor| {
            cursor.string("a value").map(str::to_owned)
        })?),
        code::ARRAY => {
            Array::Array(each(cursor, 4 + cursor.length_bytes(), |cursor| array(cursor, key, depth + 1))?)
        }
        code::U64 => Array::U64(numbers(cursor, u64::from_le_bytes)?),
        code::I64 => Array::I64(numbers(cursor, i64::from_le_bytes)?),
        code::F64 => Array::F64(numbers(cursor, f64::from_le_bytes)?),
        code => return Err(Error::ValueType { key: key.to_owned(), offset, code }),
    })
}

fn numbers<T, const N: usize>(cursor: &mut Cursor<'_>, number: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let n_bytes = N * cursor.count(N, "values")?;
    let (values, _) = cursor.take(n_bytes, "values")?.as_chunks();
    Ok(values.iter().map(|&bytes| number(bytes)).collect())
}

/// Reads values of at least `bytes_each`.
fn each<'a, T>(
    cursor: &mut Cursor<'a>,
    bytes_each: usize,
    mut read: impl FnMut(&mut Cursor<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let count = cursor.count(bytes_each, "values")?;
    (0..count).map(|_| read(cursor)).collect()
}

fn boolean(cursor: &mut Cursor<'_>, key: &str) -> Result<bool> {
    let offset = cursor.offset();
    match cursor.array("a value")? {
        [0] => Ok(false),
        [1] => Ok(true),
        [found] => Err(Error::Bool { key: key.to_owned(), offset, found }),
    }
}

fn name<'a>(cursor: &mut Cursor<'a>, what: &'static str, length_max: usize) -> Result<&'a str> {
    let name = cursor.string(what)?;
    if (1..=length_max).contains(&name.len()) {
        return Ok(name);
    }
    Err(Error::NameLength { what, name: name.to_owned(), length: name.len(), length_max })
}

/// The index of each name. Refuses duplicates.
fn index<'a>(
    what: &'static str,
    names: impl ExactSizeIterator<Item = &'a str>,
) -> Result<HashMap<&'a str, usize>> {
    let mut indices = HashMap::with_capacity(names.len());
    for (idx, name) in names.enumerate() {
        if indices.insert(name, idx).is_some() {
            return Err(Error::Duplicate { what, name: name.to_owned() });
        }
    }
    Ok(indices)
}

/// The directory entry of a tensor.
struct Entry<'a> {
    name: &'a str,
    dims: Vec<usize>,
    ty: TensorType,
    size_bytes: usize,
    /// From the start of the data.
    offset: u64,
}

fn tensor_entry<'a>(cursor: &mut Cursor<'a>) -> Result<Entry<'a>> {
    let name = name(cursor, "the tensor name", TENSOR_NAME_LENGTH_MAX)?;
    let owned = || name.to_owned();
    let n_dims = cursor.u32("a number of dimensions")?;
    if n_dims as usize > N_DIMS_MAX {
        return Err(Error::Dimensions { name: owned(), n_dims: n_dims.into(), n_dims_max: N_DIMS_MAX });
    }
    let stored = (0..n_dims).map(|_| cursor.length("a dimension")).collect::<Result<Vec<u64>>>()?;
    let too_large = || Error::Size { name: owned(), dims: stored.clone() };
    let dims: Vec<usize> =
        stored.iter().map(|&dim| dim.try_into().map_err(|_| too_large())).collect::<Result<_>>()?;

    let ty = TensorType::from_code(cursor.u32("the type of a tensor")?)
        .map_err(|ty| Error::TensorType { name: owned(), ty })?;
    let row = dims.first().copied().unwrap_or(1);
    if row % ty.block_len() != 0 {
        return Err(Error::Blocks { name: owned(), row, ty });
    }
    let (_, size_bytes) = ty.size(&dims).ok_or_else(too_large)?;
    let offset = cursor.u64("the offset of a tensor")?;
    Ok(Entry { name, dims, ty, size_bytes, offset })
}

/// Finds the bytes of each tensor. Checks that tensors are aligned, within the file and disjoint.
fn locate<'a>(
    bytes: &'a [u8],
    header_bytes: usize,
    alignment: usize,
    entries: Vec<Entry<'a>>,
) -> Result<Vec<TensorView<'a>>> {
    let data_start = align(header_bytes, alignment).unwrap_or(usize::MAX);
    let mut ranges = Vec::with_capacity(entries.len());
    let mut tensors = Vec::with_capacity(entries.len());
    for Entry { name, dims, ty, size_bytes, offset } in entries {
        let owned = || name.to_owned();
        if !offset.is_multiple_of(alignment as u64) {
            return Err(Error::Misaligned { name: owned(), offset, alignment });
        }
        let range = range(offset, size_bytes, data_start, bytes.len()).ok_or_else(|| Error::OutOfRange {
            name: owned(),
            offset,
            size_bytes,
            data_start,
            file_bytes: bytes.len(),
        })?;
        tensors.push(TensorView { name, dims, ty, bytes: &bytes[range.clone()] });
        ranges.push((range.start, range.end, name));
    }

    ranges.retain(|&(start, end, _)| start < end);
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let [(_, end, first), (start, _, second)] = [pair[0], pair[1]];
        if start < end {
            return Err(Error::Overlap { first: first.to_owned(), second: second.to_owned() });
        }
    }
    Ok(tensors)
}

/// The bytes of a tensor in the file; `None` if they extend beyond it.
fn range(
    offset: u64,
    size_bytes: usize,
    data_start: usize,
    file_bytes: usize,
) -> Option<std::ops::Range<usize>> {
    if size_bytes == 0 {
        return Some(0..0);
    }
    let start = data_start.checked_add(usize::try_from(offset).ok()?)?;
    let end = start.checked_add(size_bytes)?;
    (end <= file_bytes).then_some(start..end)
}
