//! Activation functions of feed-forward networks.

/// The activation function of a feed-forward network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Exact GELU, `x · Φ(x)`, as in nanoGPT ([Hendrycks and Gimpel, 2016](https://arxiv.org/abs/1606.08415)).
    Gelu,
    /// The tanh approximation of GELU from the same paper, as in GPT-2.
    GeluTanh,
    /// `max(x, 0)²` ([So et al., 2021](https://arxiv.org/abs/2109.08668)).
    Relu2,
    /// `silu(g) · u`, where g is the first half of a row and u the second
    /// ([Shazeer, 2020](https://arxiv.org/abs/2002.05202)).
    Swiglu,
}

impl Activation {
    /// Input elements per output element.
    pub fn n_inputs(self) -> usize {
        match self {
            Self::Swiglu => 2,
            Self::Gelu | Self::GeluTanh | Self::Relu2 => 1,
        }
    }
}
