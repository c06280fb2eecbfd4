//! The collectives of data-parallel training.
//!
//! [`Group`] is one rank's view of all ranks. [`Alone`], [`Threads`] and `Mpi` (feature `mpi`) implement it, and all
//! return the same bits: contributions are added in rank order, whatever arrives first.
//!
//! ```
//! use ranks::{Group, Precision, Threads};
//!
//! let ranks = Threads::group(2);
//! std::thread::scope(|scope| {
//!     for rank in &ranks {
//!         scope.spawn(|| {
//!             let loss = vec![rank.index() as f32];
//!             assert_eq!(rank.start_mean(loss, Precision::F32).wait(), Ok(vec![0.5]));
//!         });
//!     }
//! });
//! ```

mod agreement;
mod alone;
mod call;
mod error;
mod group;
pub mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
mod parts;
mod threads;
mod wire;

pub use agreement::agree;
pub use alone::Alone;
pub use call::{Call, Pending, Reply};
pub use error::Error;
pub use group::{Group, Phase};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use parts::Parts;
pub use threads::Threads;
pub use wire::Precision;
