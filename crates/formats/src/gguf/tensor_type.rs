//! The storage types of tensors.

use std::fmt;

/// The storage type of a tensor.
///
/// ```
/// use formats::gguf::TensorType;
///
/// assert_eq!(TensorType::BF16.to_string(), "bf16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TensorType {
    F32,
    /// IEEE half precision: 11 bits of significand, values up to 65504.
    F16,
    /// The upper half of an `f32`: 8 bits of significand.
    BF16,
    /// Blocks of 32 8-bit values with a half-precision scale: 8.5 bits per value.
    Q8_0,
    /// Blocks of 32 4-bit values with a scale: 4.5 bits per value. Read-only.
    Q4_0,
    /// Blocks of 32 4-bit values with a scale and a minimum: 5 bits per value. Read-only.
    Q4_1,
}

impl TensorType {
    /// Every type.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::BF16, Self::Q8_0, Self::Q4_0, Self::Q4_1];

    /// Whether tensors can be written in this type.
    pub fn is_writable(self) -> bool {
        !matches!(self, Self::Q4_0 | Self::Q4_1)
    }

    /// The actual type of a tensor of `dims` (in GGUF's order) in a file of type `self`.
    ///
    /// As in llama.cpp's `convert_hf_to_gguf.py`, vectors are always `f32`, and rows that are not a multiple of the
    /// block size fall back to `f16`.
    pub fn stored(self, dims: &[usize]) -> Self {
        match dims {
            [] | [_] => Self::F32,
            [row, ..] if row % self.block_len() != 0 => Self::F16,
            _ => self,
        }
    }

    /// Number of values in a block. The length of a row is a multiple of it.
    pub fn block_len(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 => 32,
        }
    }

    /// Size of a block in bytes.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
        }
    }

    /// `general.file_type` of a model with matrices of this type: llama.cpp's `LLAMA_FTYPE_ALL_F32`, `MOSTLY_F16`,
    /// `MOSTLY_BF16` and so on.
    pub fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 7,
            Self::BF16 => 32,
        }
    }

    /// ggml's `ggml_type`.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q4_1 => 3,
            Self::Q8_0 => 8,
            Self::BF16 => 30,
        }
    }

    /// The type with a `ggml_type`, or the name of an unsupported type.
    pub(crate) fn from_code(code: u32) -> Result<Self, String> {
        Self::ALL.into_iter().find(|ty| ty.code() == code).ok_or_else(|| {
            UNSUPPORTED
                .iter()
                .find(|&&(unsupported, _)| unsupported == code)
                .map_or_else(|| format!("number {code}"), |&(_, name)| name.to_owned())
        })
    }

    /// Number of values and size in bytes of a tensor of `dims`; `None` on overflow. The length of a row must be a
    /// multiple of the block size.
    pub(crate) fn size(self, dims: &[usize]) -> Option<(usize, usize)> {
        let n_values = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
        let size_bytes = (n_values / self.block_len()).checked_mul(self.block_bytes())?;
        Some((n_values, size_bytes))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
        })
    }
}

/// ggml's other types, for error messages.
const UNSUPPORTED: [(u32, &str); 27] = [
    (6, "q5_0"),
    (7, "q5_1"),
    (9, "q8_1"),
    (10, "q2_K"),
    (11, "q3_K"),
    (12, "q4_K"),
    (13, "q5_K"),
    (14, "q6_K"),
    (15, "q8_K"),
    (16, "iq2_xxs"),
    (17, "iq2_xs"),
    (18, "iq3_xxs"),
    (19, "iq1_s"),
    (20, "iq4_nl"),
    (21, "iq3_s"),
    (22, "iq2_s"),
    (23, "iq4_xs"),
    (24, "i8"),
    (25, "i16"),
    (26, "i32"),
    (27, "i64"),
    (28, "f64"),
    (29, "iq1_m"),
    (34, "tq1_0"),
    (35, "tq2_0"),
    (39, "mxfp4"),
    (40, "nvfp4"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_survives_the_round_trip() {
        for ty in TensorType::ALL {
            assert_eq!(TensorType::from_code(ty.code()), Ok(ty));
        }
    }

    #[test]
    fn an_unsupported_type_has_a_name() {
        assert_eq!(TensorType::from_code(12), Err("q4_K".to_owned()));
        assert_eq!(TensorType::from_code(4000), Err("number 4000".to_owned()));
    }

    #[test]
    fn only_rows_of_whole_blocks_are_stored_in_blocks() {
        use TensorType::{BF16, F16, F32, Q8_0};
        assert_eq!(Q8_0.stored(&[64, 3]), Q8_0);
        assert_eq!(Q8_0.stored(&[48, 64]), F16);
        assert_eq!(Q8_0.stored(&[64]), F32);
        assert_eq!(BF16.stored(&[7, 3]), BF16);
        assert_eq!(F16.stored(&[7]), F32);
        assert_eq!(F32.stored(&[7, 3]), F32);
    }

    #[test]
    fn sizes_count_blocks_and_never_wrap() {
        assert_eq!(TensorType::Q8_0.size(&[64, 3]), Some((192, 6 * 34)));
        assert_eq!(TensorType::F16.size(&[]), Some((1, 2)));
        assert_eq!(TensorType::F32.size(&[usize::MAX, 2]), None);
        assert_eq!(TensorType::F32.size(&[usize::MAX / 2, 1]), None);
    }
}
