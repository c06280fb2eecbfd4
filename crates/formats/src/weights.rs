//! Named tensors in the files of other programs, read one at a time.
//!
//! Opening a file reads what it says of its tensors; their numbers are read when they are asked for, into memory of
//! their own ([`Tensor::read`]), or used where they lie in the mapped file ([`Tensor::mapped`]). So a model takes its own size in
//! memory and no more. Files are not trusted: whatever they declare is
//! checked against what they hold before memory is asked for, and nothing in a pickle is executed.
//!
//! | file | what it is |
//! |---|---|
//! | `model.safetensors` | Hugging Face's format, in one file |
//! | `model.safetensors.index.json` | the same in several files, and which tensor is in which |
//! | `pytorch_model.bin`, `ckpt.pt` | a pickle of PyTorch's, as old models and nanoGPT have it |
//! | `pytorch_model.bin.index.json` | the same in several files |
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.safetensors");
//! let header = br#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
//! let mut file = (header.len() as u64).to_le_bytes().to_vec();
//! file.extend(header);
//! file.extend([1.5_f32, -2.0].iter().flat_map(|x| x.to_le_bytes()));
//! std::fs::write(&path, file)?;
//!
//! let weights = formats::weights::Weights::open(&path)?;
//! let x = weights.get("x").expect("it was written");
//! assert_eq!(x.shape(), [2]);
//! assert_eq!(x.read()?, [1.5, -2.0]);
//! # Ok(())
//! # }
//! ```

mod error;
mod maps;
mod pytorch;
mod safetensors;
mod shards;
mod tensor;
mod writer;

pub use error::{Error, Result};
pub use maps::Maps;
pub use pytorch::{entries, read_value};
pub use shards::Weights;
pub use tensor::{Dtype, Tensor};
pub use writer::{FloatType, WriteError, write};
