//! Settings of a forward pass.

use kernels::{Documents, Precision};

/// Settings of a forward pass that all layers share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings<'a> {
    /// Dropout probability.
    pub(crate) dropout: f64,
    /// Precision of matrix products.
    pub(crate) precision: Precision,
    /// The documents packed into the rows of a training batch; `None` if each row is one.
    pub(crate) documents: Option<&'a Documents>,
}
