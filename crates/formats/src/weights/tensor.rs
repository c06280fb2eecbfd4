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
use rayon::prelude::*;

use crate::weights::{Error, Maps, Result, error::io};

/// Numbers that are checked together.
const CHECKED: usize = 1 << 12;

/// Numbers that a core checks at a time: 4 MiB, most of whose time is that of reading the file.
const PIECE: usize = 1 << 20;

/// What the numbers of a tensor are stored as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dtype {
    /// 32 bits.
    F32,
    /// 16 bits, as IEEE has them.
    F16,
    /// The upper 16 of 32 bits.
    Bf16,
    /// What no weight is stored as, by the file's own name for it.
    Other(String),
}

/// A tensor in a file, whose numbers have not been read.
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

/// Where the numbers are.
#[derive(Clone)]
pub(crate) enum Source {
    /// That many bytes from the beginning of the file, row by row.
    Offset(u64),
    Pickle(pytorch_reader::Tensor),
    /// Whoever made the tensor unpacks them, and then arranges them.
    Packed(Arc<Unpack>, Arc<Arrange>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "Offset({offset})"),
            Self::Pickle(tensor) => write!(f, "Pickle({:?})", tensor.name),
            Self::Packed(..) => f.write_str("Packed"),
        }
    }
}

impl Tensor {
    pub(crate) fn new(path: &Path, name: &str, shape: Vec<usize>, dtype: Dtype, source: Source) -> Self {
        Self { path: path.to_owned(), name: name.to_owned(), shape, dtype, source }
    }

    /// A tensor of a file of another format: `unpack` makes numbers of what is in it, and `arrange` lays them row by row.
    ///
    /// Errors name it, and the place of a number in it, as the file has them: by `name` and before `arrange`.
    pub fn packed(
        path: &Path,
        name: &str,
        shape: Vec<usize>,
        unpack: impl Fn() -> Vec<f32> + Send + Sync + 'static,
        arrange: impl Fn(Vec<f32>) -> Vec<f32> + Send + Sync + 'static,
    ) -> Self {
        Self::new(path, name, shape, Dtype::F32, Source::Packed(Arc::new(unpack), Arc::new(arrange)))
    }

    /// The file that it is in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its extents, the outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// What its numbers are stored as.
    pub fn dtype(&self) -> &Dtype {
        &self.dtype
    }

    /// Reads its numbers, row by row.
    ///
    /// # Errors
    ///
    /// If the file can't be read, or the numbers are of another type than f32, f16 and bf16, or one of them is not
    /// finite.
    pub fn read(&self) -> Result<Vec<f32>> {
        let n = self.shape.iter().product();
        let numbers = match self.dtype {
            Dtype::F32 if let Source::Packed(unpack, _) = &self.source => unpack(),
            Dtype::F32 => {
                let mut numbers = vec![0.0_f32; n];
                self.read_bytes(bytemuck::cast_slice_mut(&mut numbers))?;
                numbers
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
        self.check_finite(&numbers)?;
        Ok(match &self.source {
            Source::Packed(_, arrange) => arrange(numbers),
            _ => numbers,
        })
    }

    /// Whether its numbers can be used where they lie in the file.
    pub fn is_mappable(&self) -> bool {
        let is_aligned = |offset: u64| offset.is_multiple_of(size_of::<f32>() as u64);
        self.dtype == Dtype::F32 && matches!(self.source, Source::Offset(offset) if is_aligned(offset))
    }

    /// Its numbers where they lie in the file: f32, row by row. `None` if they have to be read.
    ///
    /// # Errors
    ///
    /// If the file can't be mapped or a number is not finite.
    pub fn mapped(&self, maps: &mut Maps) -> Result<Option<Bytes>> {
        let Source::Offset(offset) = self.source else { return Ok(None) };
        if !self.is_mappable() {
            return Ok(None);
        }
        let file = maps.of(&self.path)?;
        let n: usize = self.shape.iter().product();
        let start = usize::try_from(offset).expect("a mapped file fits the address space");
        let end = start + n * size_of::<f32>();
        if end > file.len() {
            let shorter = "the file has become shorter since it was opened";
            return Err(io("read", &self.path)(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                shorter,
            )));
        }
        let memory = file.slice(start..end);
        let Ok(numbers) = bytemuck::try_cast_slice::<u8, f32>(&memory) else { return Ok(None) };
        self.check_finite(numbers)?;
        Ok(Some(memory))
    }

    fn check_finite(&self, numbers: &[f32]) -> Result<()> {
        // By blocks, which the compiler has vector instructions for.
        let is_finite = |block: &[f32]| block.iter().fold(true, |all, x| all & x.is_finite());
        if numbers.par_chunks(PIECE).all(|piece| piece.chunks(CHECKED).all(is_finite)) {
            return Ok(());
        }
        let idx = numbers.iter().position(|x| !x.is_finite()).expect("a block has one");
        Err(Error::NotFinite { path: self.path.clone(), key: self.name.clone(), value: numbers[idx], idx })
    }

    /// Whether another tensor of the same shape has the same numbers. Those of f32 are compared where they lie.
    ///
    /// # Errors
    ///
    /// As [`Tensor::read`].
    pub fn has_numbers_of(&self, other: &Self) -> Result<bool> {
        let mut maps = Maps::default();
        match (self.mapped(&mut maps)?, other.mapped(&mut maps)?) {
            (Some(own), Some(others)) => Ok(own == others),
            _ => Ok(self.read()? == other.read()?),
        }
    }

    /// Files are little-endian, and so is every machine that this runs on.
    fn read_bytes(&self, out: &mut [u8]) -> Result<()> {
        const { assert!(cfg!(target_endian = "little"), "numbers are read as they lie in the file") };
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
            Source::Packed(..) => unreachable!("its numbers are unpacked, and its bytes not read"),
        }
    }
}
