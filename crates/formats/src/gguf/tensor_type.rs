//! The storage types of tensors.

use std::fmt;

use quant::Format;

/// The storage type of a tensor.
///
/// ```
/// use formats::gguf::TensorType;
///
/// assert_eq!(TensorType::BF16.to_string(), "bf16");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorType {
    F32,
    /// Fewer bits than f32, such as bf16 or blocks of 4-bit values.
    Packed(Format),
}

impl TensorType {
    /// [`Format::F16`].
    pub const F16: Self = Self::Packed(Format::F16);
    /// [`Format::BF16`].
    pub const BF16: Self = Self::Packed(Format::BF16);
    /// [`Format::Q8_0`].
    pub const Q8_0: Self = Self::Packed(Format::Q8_0);

    /// Every type, f32 first.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::F32].into_iter().chain(Format::ALL.map(Self::Packed))
    }

    /// The packed format; `None` for f32.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::F32 => None,
            Self::Packed(format) => Some(format),
        }
    }

    /// Number of values in a block. The length of a row is a multiple of it.
    pub fn block_len(self) -> usize {
        self.format().map_or(1, Format::block_len)
    }

    /// Size of a block in bytes.
    pub fn block_bytes(self) -> usize {
        self.format().map_or(size_of::<f32>(), Format::block_bytes)
    }

    /// Number of values and size in bytes of a tensor of `dims` (in GGUF's order); `None` on overflow. The length of a
    /// row must be a multiple of the block size.
    pub fn size(self, dims: &[usize]) -> Option<(usize, usize)> {
        let n_values = dims.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))?;
        let size_bytes = (n_values / self.block_len()).checked_mul(self.block_bytes())?;
        Some((n_values, size_bytes))
    }

    /// Appends `values`, a whole number of blocks, to `bytes`. The error is the index of a value that the type can't
    /// represent.
    pub(crate) fn pack(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
        match self {
            Self::F32 => {
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                Ok(())
            }
            Self::Packed(format) => format.pack(values, bytes),
        }
    }

    /// The values of `bytes`, a whole number of blocks.
    pub(crate) fn unpack(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F32 => bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect(),
            Self::Packed(format) => {
                let mut values = vec![0.0; bytes.len() / format.block_bytes() * format.block_len()];
                format.unpack(bytes, &mut values);
                values
            }
        }
    }

    /// ggml's `ggml_type`.
    pub(crate) fn code(self) -> u32 {
        let Self::Packed(format) = self else { return 0 };
        match format {
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q4K => 12,
            Format::Q5K => 13,
            Format::Q6K => 14,
            Format::BF16 => 30,
        }
    }

    /// The type with a `ggml_type`, or the name of an unsupported type.
    pub(crate) fn from_code(code: u32) -> Result<Self, String> {
        Self::all().find(|ty| ty.code() == code).ok_or_else(|| {
            UNSUPPORTED
                .iter()
                .find(|&&(unsupported, _)| unsupported == code)
                .map_or_else(|| format!("number {code}"), |&(_, name)| name.to_owned())
        })
    }
}

impl From<Format> for TensorType {
    fn from(format: Format) -> Self {
        Self::Packed(format)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.pad("f32"),
            Self::Packed(format) => format.fmt(f),
        }
    }
}

/// ggml's other types, for error messages.
const UNSUPPORTED: [(u32, &str); 22] = [
    (9, "q8_1"),
    (10, "q2_K"),
    (11, "q3_K"),
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
        for ty in TensorType::all() {
            assert_eq!(TensorType::from_code(ty.code()), Ok(ty));
        }
    }

    #[test]
    fn an_unsupported_type_has_a_name() {
        assert_eq!(TensorType::from_code(10), Err("q2_K".to_owned()));
        assert_eq!(TensorType::from_code(4000), Err("number 4000".to_owned()));
    }

    #[test]
    fn sizes_count_blocks_and_never_wrap() {
        assert_eq!(TensorType::Q8_0.size(&[64, 3]), Some((192, 6 * 34)));
        assert_eq!(TensorType::Packed(Format::Q6K).size(&[512, 3]), Some((1536, 6 * 210)));
        assert_eq!(TensorType::F16.size(&[]), Some((1, 2)));
        assert_eq!(TensorType::F32.size(&[usize::MAX, 2]), None);
        assert_eq!(TensorType::F32.size(&[usize::MAX / 2, 1]), None);
    }
}
