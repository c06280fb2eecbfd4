//! The functions of the crate `cpu` as Burn operations: declared in `ops`, forward passes in `forward`, autodiff in
//! `backward`.

mod backward;
mod flex;
mod forward;
mod ops;
mod tensors;

pub(crate) use ops::{Affine, FusedOps, InPlaceOps, SlotLayer};
