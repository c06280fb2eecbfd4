//! The functions of the crate `cpu` as Burn operations: declared in `ops`, forward passes in `forward`, autodiff in
//! `backward`, which sums gradients by `gradients`.

mod backward;
mod flex;
mod forward;
mod gradients;
mod linear;
mod ops;
mod tensors;

pub(crate) use ops::{Affine, FusedOps, InPlaceOps, SlotLayer};
