//! How fast a model could be on this machine, after the roofline model of
//! [Williams et al., 2009](https://doi.org/10.1145/1498765.1498785): the arithmetic and the reading that its work
//! takes ([`Sizes`]), over what the processor ([`peak_flops`]) and the memory ([`peak_bandwidth`]) do at most.

mod cost;
mod peak;

pub use cost::Sizes;
pub use peak::{peak_bandwidth, peak_flops};
