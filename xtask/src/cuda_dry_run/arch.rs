//! The GPUs that the stand-in driver describes.

use clap::ValueEnum;

/// A compute capability, and the data-centre GPU that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// A100
    #[value(name = "sm_80")]
    Sm80,
    /// H100
    #[value(name = "sm_90")]
    Sm90,
    /// B200
    #[value(name = "sm_100")]
    Sm100,
}

impl Arch {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Sm80 => 80,
            Self::Sm90 => 90,
            Self::Sm100 => 100,
        }
    }

    /// Peak rate of dense matrix products on tensor cores with inputs of `bits`, in FLOP/s, from NVIDIA's data sheets.
    /// f32 inputs count as TF32.
    pub(crate) fn product_peak(self, bits: u64) -> f64 {
        let in_bf16 = match self {
            Self::Sm80 => 312e12,
            Self::Sm90 => 989e12,
            Self::Sm100 => 2250e12,
        };
        if bits > 16 { in_bf16 / 2.0 } else { in_bf16 }
    }

    /// Memory bandwidth in bytes/s, from NVIDIA's data sheets.
    pub(crate) fn bandwidth(self) -> f64 {
        match self {
            Self::Sm80 => 2.04e12,
            Self::Sm90 => 3.35e12,
            Self::Sm100 => 8e12,
        }
    }
}
