//! Named tensors in safetensors files and PyTorch pickles, read one at a time.
//!
//! Opening a file reads only its header. Values are loaded on demand, either copied ([`Tensor::read`]) or used in the
//! mapped file ([`Tensor::stored`]), so a model needs only its own size in memory. Files are not trusted: declared
//! sizes are checked against the file size before memory is allocated, and pickles are never executed.
//!
//! | file | format |
//! |---|---|
//! | `model.safetensors` | safetensors, one file |
//! | `model.safetensors.index.json` | index of several safetensors files |
//! | `pytorch_model.bin`, `ckpt.pt` | PyTorch pickle, as in old models and nanoGPT |
//! | `pytorch_model.bin.index.json` | index of several pickles |
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
pub use tensor::{Dtype, Stored, Tensor};
pub use writer::{FloatType, WriteError, write};
