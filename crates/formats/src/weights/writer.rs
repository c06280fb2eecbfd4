//! Hugging Face's format, written from its beginning to its end, some values at a time.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

use half::{bf16, f16, vec::HalfFloatVecExt};
use safetensors::{
    Dtype as FileDtype, SafeTensorError,
    tensor::{Metadata, TensorInfo},
};

/// The floating-point types that weights are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatType {
    /// As they are.
    F32,
    /// Rounded to IEEE's 16 bits.
    F16,
    /// Rounded to the upper 16 of 32 bits.
    Bf16,
}

/// Why weights could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Sizes that no header can have.
    #[error(transparent)]
    Header(SafeTensorError),

    /// A value that 16 bits can't hold.
    #[error("{name} has {value}, which {ty} can't hold")]
    TooLarge {
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
        /// PyTorch's name of the type.
        ty: &'static str,
    },

    /// The system did not take the bytes.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FloatType {
    /// PyTorch's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    fn dtype(self) -> FileDtype {
        match self {
            Self::F32 => FileDtype::F32,
            Self::F16 => FileDtype::F16,
            Self::Bf16 => FileDtype::BF16,
        }
    }

    /// The bytes of some values, or the first finite value that would become infinite.
    fn encode(self, values: &[f32]) -> Result<Cow<'_, [u8]>, f32> {
        let fits = |x: f32| match self {
            Self::F32 => true,
            Self::F16 => f16::from_f32(x).is_finite(),
            Self::Bf16 => bf16::from_f32(x).is_finite(),
        };
        if let Some(&x) = values.iter().find(|x| x.is_finite() && !fits(**x)) {
            return Err(x);
        }
        Ok(match self {
            Self::F32 => bytemuck::cast_slice(values).into(),
            Self::F16 => bytemuck::cast_slice(&Vec::<f16>::from_f32_slice(values)).to_vec().into(),
            Self::Bf16 => bytemuck::cast_slice(&Vec::<bf16>::from_f32_slice(values)).to_vec().into(),
        })
    }
}

/// Writes a safetensors file of the tensors with these shapes, all as `ty`.
///
/// `chunks` is asked for the values of one tensor after the other, row by row, in chunks of any length.
///
/// # Errors
///
/// If `ty` can't hold a value, or `out` fails.
///
/// # Panics
///
/// If a tensor gets more or fewer values than its shape has.
pub fn write<C: IntoIterator<Item = Vec<f32>>>(
    out: &mut impl Write,
    shapes: &BTreeMap<String, Vec<usize>>,
    ty: FloatType,
    chunks: impl Fn(&str) -> C,
) -> Result<(), WriteError> {
    out.write_all(&header(shapes, ty.dtype()).map_err(WriteError::Header)?)?;
    for (name, shape) in shapes {
        let mut n_written = 0;
        for values in chunks(name) {
            let bytes = ty.encode(&values).map_err(|value| {
                let name = name.clone();
                WriteError::TooLarge { name, value, ty: ty.name() }
            })?;
            out.write_all(&bytes)?;
            n_written += values.len();
        }
        assert_eq!(n_written, shape.iter().product::<usize>(), "values of {name}");
    }
    Ok(())
}

/// The length of a JSON object, and that object with the place of each tensor.
fn header(shapes: &BTreeMap<String, Vec<usize>>, dtype: FileDtype) -> Result<Vec<u8>, SafeTensorError> {
    let mut end = 0;
    let place = |(name, shape): (&String, &Vec<usize>)| {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.clone(), TensorInfo { dtype, shape: shape.clone(), data_offsets: (start, end) })
    };
    let tensors = shapes.iter().map(place).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut json = serde_json::to_vec(&Metadata::new(Some(format), tensors)?)?;
    // So the values begin at a multiple of eight bytes.
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok([&(json.len() as u64).to_le_bytes()[..], &json].concat())
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn file(ty: FloatType, values: &[f32]) -> Result<Vec<u8>, WriteError> {
        let shapes = BTreeMap::from([("b".to_owned(), vec![2, 2]), ("a".to_owned(), vec![4])]);
        let mut file = Vec::new();
        write(&mut file, &shapes, ty, |_| values.chunks(3).map(<[f32]>::to_vec))?;
        Ok(file)
    }

    #[test]
    fn a_file_has_every_value_in_its_type() {
        let values = [0.5, -1.25, 0.0, 3.0];
        for (ty, dtype, n_bytes) in [
            (FloatType::F32, FileDtype::F32, 16),
            (FloatType::F16, FileDtype::F16, 8),
            (FloatType::Bf16, FileDtype::BF16, 8),
        ] {
            let file = file(ty, &values).unwrap();
            let read = SafeTensors::deserialize(&file).unwrap();
            let tensor = read.tensor("b").unwrap();
            assert_eq!((tensor.dtype(), tensor.shape(), tensor.data().len()), (dtype, &[2, 2][..], n_bytes));
            assert_eq!(tensor.data(), &*ty.encode(&values).unwrap());
            assert_eq!(read.tensor("a").unwrap().data(), tensor.data());
        }
    }

    #[test]
    fn a_value_beyond_sixteen_bits_is_named() {
        let error = file(FloatType::F16, &[0.0, f32::INFINITY, 7e4, 1.0]).unwrap_err();
        assert_eq!(error.to_string(), "a has 70000, which float16 can't hold");
        file(FloatType::Bf16, &[0.0, f32::INFINITY, 7e4, 1.0]).unwrap();
    }
}
