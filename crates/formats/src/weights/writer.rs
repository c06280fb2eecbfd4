//! Sequential writing of safetensors.

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

/// The floating-point type of written weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloatType {
    F32,
    F16,
    Bf16,
}

/// An error while writing weights.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The sizes overflow.
    #[error(transparent)]
    Header(SafeTensorError),

    #[error("{name} has the value {value}, which {ty} cannot represent")]
    TooLarge {
        name: String,
        value: f32,
        /// PyTorch's name of the type.
        ty: &'static str,
    },

    #[error(transparent)]
    Io(#[from] io::Error),
}

impl FloatType {
    /// PyTorch's name of the type.
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

    /// Encodes values. The error is the first finite value that would become infinite.
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

/// Writes a safetensors file with tensors of these shapes, all as `ty`.
///
/// `chunks` is called for each tensor in turn and returns its values in row-major order, in chunks of any length.
///
/// # Errors
///
/// If `ty` can't represent a value, or `out` fails.
///
/// # Panics
///
/// If the number of values of a tensor does not match its shape.
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

/// The header length and the JSON header.
fn header(shapes: &BTreeMap<String, Vec<usize>>, dtype: FileDtype) -> Result<Vec<u8>, SafeTensorError> {
    let mut end = 0;
    let info = |(name, shape): (&String, &Vec<usize>)| {
        let start = end;
        end += shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.clone(), TensorInfo { dtype, shape: shape.clone(), data_offsets: (start, end) })
    };
    let tensors = shapes.iter().map(info).collect();
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut json = serde_json::to_vec(&Metadata::new(Some(format), tensors)?)?;
    // Aligns the values to 8 bytes.
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
    fn values_are_written_in_the_chosen_type() {
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
    fn a_value_out_of_range_is_reported() {
        let error = file(FloatType::F16, &[0.0, f32::INFINITY, 7e4, 1.0]).unwrap_err();
        assert_eq!(error.to_string(), "a has the value 70000, which float16 cannot represent");
        file(FloatType::Bf16, &[0.0, f32::INFINITY, 7e4, 1.0]).unwrap();
    }
}
