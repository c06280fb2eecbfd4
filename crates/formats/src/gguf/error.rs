//! Why a GGUF file could not be read or written.

use std::io;

use crate::gguf::TensorType;
use crate::gguf::value::shortened;

/// Why a GGUF file could not be read or written. Places are bytes from the beginning of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file without a byte.
    #[error("the file is empty; copy it again from where it came from")]
    Empty,

    /// Another format.
    #[error("not a GGUF file: it begins with {} and not with GGUF", .found.escape_ascii())]
    NotGguf {
        /// The first bytes, at most four.
        found: Vec<u8>,
    },

    /// A version that is not read.
    #[error("version {version} of GGUF is not supported; versions 1, 2 and 3 are")]
    Version {
        /// The version.
        version: u32,
    },

    /// Numbers in the byte order of other machines.
    #[error("big-endian GGUF files are not supported; convert it with gguf-py's gguf_convert_endian.py")]
    BigEndian,

    /// The file ends before what it describes.
    #[error(
        "the file is cut short or damaged: {what} at byte {offset} takes {needed} bytes, and {left} are left; copy it \
         again from where it came from"
    )]
    Truncated {
        /// What was to be read.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// Its size in bytes.
        needed: u64,
        /// What there is from there on.
        left: usize,
    },

    /// More of something than the file has room for.
    #[error(
        "the file is cut short or damaged: {count} {what} at byte {offset} do not fit in the {left} bytes that are left; \
         copy it again from where it came from"
    )]
    Count {
        /// What is counted.
        what: &'static str,
        /// Where the count is.
        offset: usize,
        /// The count.
        count: u64,
        /// What there is after the count.
        left: usize,
    },

    /// A text that is none.
    #[error("the file is damaged: {what} at byte {offset} is not UTF-8")]
    Utf8 {
        /// Which text.
        what: &'static str,
        /// Where it begins.
        offset: usize,
    },

    /// A key or a tensor's name without bytes, or with too many.
    #[error("{what} {:?} has {length} bytes; 1 to {length_max} are allowed", shortened(.name))]
    NameLength {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
        /// Its length in bytes.
        length: usize,
        /// The largest length.
        length_max: usize,
    },

    /// A value of a type that there is not.
    #[error("the file is damaged: at byte {offset}, {:?} has a value of unknown type {code}", shortened(.key))]
    ValueType {
        /// The key.
        key: String,
        /// Where the type is.
        offset: usize,
        /// The type's number.
        code: u32,
    },

    /// A truth value that is neither.
    #[error("the file is damaged: at byte {offset}, {:?} has a bool that is {found}", shortened(.key))]
    Bool {
        /// The key.
        key: String,
        /// Where the value is.
        offset: usize,
        /// The byte.
        found: u8,
    },

    /// Arrays of arrays of arrays.
    #[error("{:?} has arrays more than {depth_max} deep within one another", shortened(.key))]
    Depth {
        /// The key.
        key: String,
        /// How deep they may be.
        depth_max: usize,
    },

    /// A key or a tensor that is there twice.
    #[error("there are two {what} {:?}", shortened(.name))]
    Duplicate {
        /// What has the name.
        what: &'static str,
        /// The name.
        name: String,
    },

    /// An alignment that is none.
    #[error("`general.alignment` is {value}; it has to be a u32 that is a power of two")]
    Alignment {
        /// The value.
        value: String,
    },

    /// A tensor of more dimensions than ggml has.
    #[error("tensor {name:?} has {n_dims} dimensions; at most {n_dims_max} are supported")]
    Dimensions {
        /// The tensor.
        name: String,
        /// How many there are.
        n_dims: u64,
        /// How many there may be.
        n_dims_max: usize,
    },

    /// A tensor that is larger than memory can be.
    #[error("the size of tensor {name:?}, {dims:?}, is beyond the numbers of this machine")]
    Size {
        /// The tensor.
        name: String,
        /// Its dimensions, rows first.
        dims: Vec<u64>,
    },

    /// A tensor of a type that is not read.
    #[error(
        "tensor {name:?} is of type {ty}, which is not supported; f32, f16, bf16, q8_0, q4_0 and q4_1 are"
    )]
    TensorType {
        /// The tensor.
        name: String,
        /// The type's name in ggml.
        ty: String,
    },

    /// Rows that are no whole number of blocks.
    #[error("tensor {name:?} has rows of {row} values; {ty} needs multiples of {}", .ty.block_len())]
    Blocks {
        /// The tensor.
        name: String,
        /// Length of a row.
        row: usize,
        /// The type.
        ty: TensorType,
    },

    /// Data that begins between the places where it may begin.
    #[error(
        "the file is damaged: the data of tensor {name:?} begins at {offset}, not a multiple of {alignment}"
    )]
    Misaligned {
        /// The tensor.
        name: String,
        /// Where it begins, from the beginning of the data.
        offset: u64,
        /// The alignment.
        alignment: usize,
    },

    /// Data beyond the end of the file.
    #[error(
        "the file is cut short or damaged: it has {file_bytes} bytes, and tensor {name:?} takes {size_bytes} from byte {} on; \
         copy it again from where it came from", u128::from(*offset) + *data_start as u128
    )]
    OutOfRange {
        /// The tensor.
        name: String,
        /// Where it begins, from the beginning of the data.
        offset: u64,
        /// Its size.
        size_bytes: usize,
        /// Where the data begins.
        data_start: usize,
        /// Size of the whole file.
        file_bytes: usize,
    },

    /// Tensors that share bytes.
    #[error("the file is damaged: tensors {first:?} and {second:?} share bytes")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The one that begins before its end.
        second: String,
    },

    /// A number of values that does not make the tensor.
    #[error("tensor {name:?} of {dims:?} takes {expected} values, and {found} were given")]
    Values {
        /// The tensor.
        name: String,
        /// Its dimensions, rows first.
        dims: Vec<usize>,
        /// How many values it has.
        expected: usize,
        /// How many came.
        found: usize,
    },

    /// A weight that the chosen type can't hold.
    #[error("tensor {name:?} has the value {value} at {index}, which {ty} cannot hold; choose f32 or bf16")]
    Unrepresentable {
        /// The tensor.
        name: String,
        /// Place of the value among the tensor's values.
        index: usize,
        /// The value.
        value: f32,
        /// The type.
        ty: TensorType,
    },

    /// A type that is read and not written.
    #[error("tensor {name:?} cannot be written as {ty}, which is only read; choose f32, f16, bf16 or q8_0")]
    ReadOnly {
        /// The tensor.
        name: String,
        /// The type.
        ty: TensorType,
    },

    /// A key that a model can't be without.
    #[error("the file has no `{key}`, without which the model cannot be read")]
    MissingKey {
        /// The key.
        key: String,
    },

    /// A key that stands for something else.
    #[error("`{key}` is {found}, and not {expected}")]
    Value {
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// The value.
        found: String,
    },

    /// A vocabulary that can't be used here.
    #[error("the vocabulary is not supported: {reason}")]
    UnsupportedVocabulary {
        /// What is wrong, with the token or merge.
        reason: String,
    },

    /// A vocabulary that llama.cpp does not load.
    #[error("the vocabulary cannot be written: {reason}")]
    Vocabulary {
        /// What is wrong, with the token or merge.
        reason: String,
    },

    /// The file can't be written.
    #[error("cannot write the GGUF file")]
    Write {
        /// What the system said.
        #[from]
        source: io::Error,
    },
}

/// The result of reading or writing a GGUF file.
pub type Result<T, E = Error> = std::result::Result<T, E>;
