//! The operations of the crate `cpu` as operations of Burn: what they are in `ops`, their forward passes in `forward`, and
//! where gradients are recorded in `backward`.

mod backward;
mod flex;
mod forward;
mod ops;
mod tensors;

pub(crate) use ops::{Affine, FusedOps, InPlaceOps, SlotLayer};
