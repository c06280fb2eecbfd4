//! One tensor of a file.

use std::{
    fmt,
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use quant::Format;
use rayon::prelude::*;

use crate::weights::{Error, Maps, Result, error::io};

/// Values that are checked together.
const CHECKED: usize = 1 << 12;

/// Values that a thread checks at a time: 4 MiB, dominated by reading the file.
const PIECE: usize = 1 << 20;

/// The storage type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    F32,
    F16,
    Bf16,
    /// An unsupported type, as named in the file.
    Other(String),
}

/// A tensor in a file. Its values are read on demand.
#[derive(Debug, Clone)]
pub struct Tensor {
    path: PathBuf,
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
    source: Source,
}

type Unpack = dyn Fn() -> Vec<f32> + Send + Sync;
type Arrange = dyn Fn(Vec<f32>) -> Vec<f32> + Send + Sync;
type ReadStored = dyn Fn() -> Stored + Send + Sync;

/// The values of a tensor as its file has them.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Part of the mapped file, or a copy with reordered rows.
    pub bytes: Bytes,
    /// `None` for f32.
    pub format: Option<Format>,
    /// Whether a matrix is stored as the transpose of its [shape](Tensor::shape).
    pub is_transposed: bool,
}

/// The location of the values.
#[derive(Clone)]
pub(crate) enum Source {
    /// An offset in the file in bytes; values are row-major.
    Offset(u64),
    Pickle(pytorch_reader::Tensor),
    Packed {
        /// Decodes the values.
        unpack: Arc<Unpack>,
        /// Reorders decoded values.
        arrange: Arc<Arrange>,
        stored: Option<Arc<ReadStored>>,
    },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "Offset({offset})"),
            Self::Pickle(tensor) => write!(f, "Pickle({:?})", tensor.name),
            Self::Packed { .. } => f.write_str("Packed"),
        }
    }
}

impl Tensor {
    pub(crate) fn new(path: &Path, name: &str, shape: Vec<usize>, dtype: Dtype, source: Source) -> Self {
        Self { path: path.to_owned(), name: name.to_owned(), shape, dtype, source }
    }

    /// A tensor in another format: `unpack` decodes its values, and `arrange` puts them into row-major order.
    ///
    /// Errors use the `name` in the file, and indices before `arrange`.
    pub fn packed(
        path: &Path,
        name: &str,
        shape: Vec<usize>,
        unpack: impl Fn() -> Vec<f32> + Send + Sync + 'static,
        arrange: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        let source = Source::Packed { unpack: Arc::new(unpack), arrange: Arc::new(arrange), stored: None };
        Self::new(path, name, shape, Dtype::F32, source)
    }

    /// The same [packed](Tensor::packed) tensor, whose values can also be used as they are stored.
    ///
    /// # Panics
    ///
    /// If the tensor is not packed.
    #[must_use]
    pub fn with_stored(mut self, read: impl Fn() -> Stored + Send + Sync + 'static) -> Self {
        let Source::Packed { stored, .. } = &mut self.source else { panic!("{} is not packed", self.name) };
        *stored = Some(Arc::new(read));
        self
    }

    /// The file of the tensor.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape, outermost dimension first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The storage type.
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// Reads the values as f32, in row-major order.
    ///
    /// # Errors
    ///
    /// If the file is unreadable, the type is not f32, f16 or bf16, or a value is not finite.
    pub fn read(&self) -> Result<Vec<f32>> {
        let n = self.shape.iter().product();
        let values = match self.dtype {
            Dtype::F32 if let Source::Packed { unpack, .. } = &self.source => unpack(),
            Dtype::F32 => {
                let mut values = vec![0.0_f32; n];
                self.read_bytes(bytemuck::cast_slice_mut(&mut values))?;
                values
            }
            Dtype::F16 => {
                let mut halves = vec![f16::ZERO; n];
                self.read_bytes(bytemuck::cast_slice_mut(&mut halves))?;
                halves.to_f32_vec()
            }
            Dtype::Bf16 => {
                let mut halves = vec![bf16::ZERO; n];
                self.read_bytes(bytemuck::cast_slice_mut(&mut halves))?;
                halves.to_f32_vec()
            }
            Dtype::Other(ref dtype) => {
                let (path, key) = (self.path.clone(), self.name.clone());
                return Err(Error::Dtype { path, key, dtype: dtype.clone() });
            }
        };
        self.check_finite(&values)?;
        Ok(match &self.source {
            Source::Packed { arrange, .. } => arrange(values),
            _ => values,
        })
    }

    /// Whether the values can be used in the mapped file: f32 and aligned.
    pub fn is_mappable(&self) -> bool {
        let is_aligned = |offset: u64| offset.is_multiple_of(size_of::<f32>() as u64);
        self.dtype == Dtype::F32 && matches!(self.source, Source::Offset(offset) if is_aligned(offset))
    }

    /// Whether the values are stored in 16 bits, in a file that can be mapped.
    pub fn is_half(&self) -> bool {
        matches!((&self.source, &self.dtype), (Source::Offset(_), Dtype::F16 | Dtype::Bf16))
    }

    /// The values as they are stored: f32, f16, bf16 or quantised. `None` if they have to be read.
    ///
    /// # Errors
    ///
    /// If the file can't be mapped or a value is not finite.
    pub fn stored(&self, maps: &mut Maps) -> Result<Option<Stored>> {
        let stored = match &self.source {
            Source::Offset(offset) => self.stored_at(*offset, maps)?,
            Source::Packed { stored, .. } => stored.as_ref().map(|read| read()),
            Source::Pickle(_) => None,
        };
        let Some(stored) = stored else { return Ok(None) };
        match stored.format {
            None => {
                let Ok(values) = bytemuck::try_cast_slice::<u8, f32>(&stored.bytes) else { return Ok(None) };
                self.check_finite(values)?;
            }
            Some(format) => self.check_scales(format, &stored.bytes)?,
        }
        Ok(Some(stored))
    }

    fn stored_at(&self, offset: u64, maps: &mut Maps) -> Result<Option<Stored>> {
        let format = match self.dtype {
            Dtype::F32 if self.is_mappable() => None,
            Dtype::F16 => Some(Format::F16),
            Dtype::Bf16 => Some(Format::BF16),
            Dtype::F32 | Dtype::Other(_) => return Ok(None),
        };
        let file = maps.get(&self.path)?;
        let n: usize = self.shape.iter().product();
        let start = usize::try_from(offset).expect("a mapped file fits the address space");
        let end = start + n * format.map_or(size_of::<f32>(), Format::block_bytes);
        if end > file.len() {
            let shorter = "the file was truncated after it was opened";
            return Err(io("read", &self.path)(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                shorter,
            )));
        }
        Ok(Some(Stored { bytes: file.slice(start..end), format, is_transposed: false }))
    }

    fn check_scales(&self, format: Format, bytes: &[u8]) -> Result<()> {
        let size = format.block_bytes() * (PIECE / format.block_len());
        let bad = bytes.par_chunks(size).enumerate().find_map_first(|(piece, bytes)| {
            let block = format.first_bad_scale(bytes)?;
            let mut values = vec![0.0; format.block_len()];
            format.unpack(&bytes[block * format.block_bytes()..][..format.block_bytes()], &mut values);
            let within = values.iter().position(|x| !x.is_finite()).unwrap_or(0);
            Some((piece * PIECE + block * format.block_len() + within, values[within]))
        });
        match bad {
            None => Ok(()),
            Some((idx, value)) => {
                Err(Error::NotFinite { path: self.path.clone(), key: self.name.clone(), value, idx })
            }
        }
    }

    fn check_finite(&self, values: &[f32]) -> Result<()> {
        // By blocks, which the compiler vectorises.
        let is_finite = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
        if values.par_chunks(PIECE).all(|piece| piece.chunks(CHECKED).all(is_finite)) {
            return Ok(());
        }
        let idx = values.iter().position(|x| !x.is_finite()).expect("a block has one");
        Err(Error::NotFinite { path: self.path.clone(), key: self.name.clone(), value: values[idx], idx })
    }

    /// Whether another tensor of the same shape has the same values. Values of the same type are compared without copies.
    ///
    /// # Errors
    ///
    /// As [`Tensor::read`].
    pub fn has_same_values(&self, other: &Self) -> Result<bool> {
        let mut maps = Maps::default();
        match (self.stored(&mut maps)?, other.stored(&mut maps)?) {
            (Some(left), Some(right))
                if (left.format, left.is_transposed) == (right.format, right.is_transposed) =>
            {
                Ok(left.bytes == right.bytes)
            }
            _ => Ok(self.read()? == other.read()?),
        }
    }

    /// Reads the raw bytes. Files are little-endian, and so is every supported machine.
    fn read_bytes(&self, out: &mut [u8]) -> Result<()> {
        const { assert!(cfg!(target_endian = "little"), "files are little-endian") };
        match &self.source {
            Source::Offset(offset) => {
                let mut file = File::open(&self.path).map_err(io("open", &self.path))?;
                file.seek(SeekFrom::Start(*offset)).map_err(io("read", &self.path))?;
                file.read_exact(out).map_err(io("read", &self.path))
            }
            Source::Pickle(tensor) => {
                let bytes = tensor.read().map_err(io("read", &self.path))?;
                out.copy_from_slice(&bytes);
                Ok(())
            }
            Source::Packed { .. } => unreachable!("packed values are decoded by `unpack`"),
        }
    }
}
