//! What a forward pass is told beside its input.

use kernels::Precision;

/// What the layers of all blocks have in common, and may change from one forward pass to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Probability of dropping an activation while training.
    pub(crate) dropout: f64,
    /// What the products of linear layers are computed in.
    pub(crate) precision: Precision,
}
