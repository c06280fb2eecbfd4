//! The maximum speed of a model on this machine, by the roofline model of [Williams et al.,
//! 2009](https://doi.org/10.1145/1498765.1498785): the floating-point operations and memory traffic of a model
//! ([`Sizes`]), divided by the peaks of the processor ([`peak_flops`]) and of memory ([`peak_bandwidth`]).

mod cost;
mod peak;

pub use cost::Sizes;
pub use peak::{peak_bandwidth, peak_flops};
