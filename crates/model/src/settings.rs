//! Settings of a forward pass.

use kernels::Precision;

/// Settings of a forward pass that all layers share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Dropout probability.
    pub(crate) dropout: f64,
    /// Precision of matrix products.
    pub(crate) precision: Precision,
}
