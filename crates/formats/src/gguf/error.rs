//! Errors while reading and writing GGUF files.

use std::io;

use crate::gguf::TensorType;
use crate::gguf::value::shortened;

/// An error while reading or writing a GGUF file. Offsets are in bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the file is empty; copy or download it again")]
    Empty,

    #[error("not a GGUF file: it starts with {} instead of GGUF", .found.escape_ascii())]
    NotGguf {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },

    #[error("unsupported GGUF version {version}; versions 1, 2 and 3 are supported")]
    Version { version: u32 },

    #[error(
        "big-endian GGUF files are not supported; convert the file with gguf-py's gguf_convert_endian.py"
    )]
    BigEndian,

    /// The file ends too early.
    #[error(
        "the file is truncated or damaged: {what} at byte {offset} takes {needed} bytes, but only {left} are left; \
         copy or download it again"
    )]
    Truncated {
        /// The item being read.
        what: &'static str,
        offset: usize,
        /// Its size in bytes.
        needed: u64,
        /// Bytes from there to the end of the file.
        left: usize,
    },

    /// A count is too large for the file.
    #[error(
        "the file is truncated or damaged: {count} {what} at byte {offset} do not fit into the remaining {left} bytes; \
         copy or download it again"
    )]
    Count {
        /// The counted items.
        what: &'static str,
        /// The position of the count.
        offset: usize,
        count: u64,
        /// Bytes from the count to the end of the file.
        left: usize,
    },

    #[error("the file is damaged: {what} at byte {offset} is not UTF-8")]
    Utf8 {
        /// The string being read.
        what: &'static str,
        offset: usize,
    },

    /// A key or a tensor name is empty or too long.
    #[error("{what} {:?} has {length} bytes; 1 to {length_max} are allowed", shortened(.name))]
    NameLength {
        /// The key or the tensor name.
        what: &'static str,
        name: String,
        /// In bytes.
        length: usize,
        /// In bytes.
        length_max: usize,
    },

    #[error("the file is damaged: at byte {offset}, {:?} has a value of unknown type {code}", shortened(.key))]
    ValueType {
        key: String,
        /// The position of the type.
        offset: usize,
        code: u32,
    },

    /// A bool that is neither 0 nor 1.
    #[error("the file is damaged: at byte {offset}, {:?} is a bool with the value {found}", shortened(.key))]
    Bool {
        key: String,
        /// The position of the value.
        offset: usize,
        found: u8,
    },

    #[error("the arrays of {:?} are nested more than {depth_max} levels deep", shortened(.key))]
    Depth { key: String, depth_max: usize },

    /// Two keys or two tensors have the same name.
    #[error("there are two {what} {:?}", shortened(.name))]
    Duplicate {
        /// `keys` or `tensors`.
        what: &'static str,
        name: String,
    },

    #[error("invalid `general.alignment`: {value}; it must be a u32 and a power of two")]
    Alignment { value: String },

    #[error("tensor {name:?} has {n_dims} dimensions; at most {n_dims_max} are supported")]
    Dimensions { name: String, n_dims: u64, n_dims_max: usize },

    /// The size of a tensor overflows `usize`.
    #[error("tensor {name:?} is too large for this machine: {dims:?}")]
    Size {
        name: String,
        /// In GGUF's order: the length of a row first.
        dims: Vec<u64>,
    },

    #[error(
        "tensor {name:?} has the unsupported type {ty}; {} are supported",
        TensorType::all().map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ")
    )]
    TensorType {
        name: String,
        /// The type's name in ggml.
        ty: String,
    },

    /// The length of a row is not a multiple of the block size.
    #[error("tensor {name:?} has rows of {row} values; {ty} needs a multiple of {}", .ty.block_len())]
    Blocks {
        name: String,
        /// The length of a row.
        row: usize,
        ty: TensorType,
    },

    #[error("the file is damaged: the offset {offset} of tensor {name:?} is not a multiple of {alignment}")]
    Misaligned {
        name: String,
        /// From the start of the data.
        offset: u64,
        alignment: usize,
    },

    /// A tensor extends beyond the end of the file.
    #[error(
        "the file is truncated or damaged: it has {file_bytes} bytes, but tensor {name:?} takes {size_bytes} at \
         byte {}; copy or download it again", u128::from(*offset) + *data_start as u128
    )]
    OutOfRange {
        name: String,
        /// From the start of the data.
        offset: u64,
        size_bytes: usize,
        data_start: usize,
        file_bytes: usize,
    },

    #[error("the file is damaged: tensors {first:?} and {second:?} overlap")]
    Overlap { first: String, second: String },

    /// A part of a split model has the name of another one.
    #[error(
        "part {number} of the split model is wrong: `{key}` is {}, expected {expected}; copy or download it again",
        .found.map_or_else(|| "missing".to_owned(), |found| found.to_string())
    )]
    Part {
        /// From 1, by its name.
        number: usize,
        key: &'static str,
        expected: u64,
        found: Option<u64>,
    },

    #[error(
        "the parts of the split model have {found} tensors, but `split.tensors.count` is {expected}; copy or download \
         them again"
    )]
    PartTensors { expected: u64, found: u64 },

    /// The caller of the writer passed too few or too many values.
    #[error("tensor {name:?} of {dims:?} needs {expected} values (got {found})")]
    Values {
        name: String,
        /// In GGUF's order: the length of a row first.
        dims: Vec<usize>,
        expected: usize,
        found: usize,
    },

    #[error(
        "tensor {name:?} has the value {value} at index {index}, which {ty} cannot represent; choose f32 or bf16"
    )]
    Unrepresentable {
        name: String,
        /// The index in the flat tensor.
        index: usize,
        value: f32,
        ty: TensorType,
    },

    #[error("the file has no `{key}`, which is required")]
    MissingKey { key: String },

    /// A key has a value of the wrong type or out of range.
    #[error("`{key}` is {found}; expected {expected}")]
    Value { key: String, expected: &'static str, found: String },

    /// A vocabulary of the file is invalid or not supported.
    #[error("unsupported vocabulary: {reason}")]
    UnsupportedVocabulary { reason: String },

    /// llama.cpp would not load the vocabulary.
    #[error("the vocabulary cannot be written: {reason}")]
    Vocabulary { reason: String },

    #[error("cannot write the GGUF file")]
    Write {
        #[from]
        source: io::Error,
    },
}

/// The result of reading or writing a GGUF file.
pub type Result<T, E = Error> = std::result::Result<T, E>;
