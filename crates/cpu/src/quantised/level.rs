//! The instructions of a machine for products with quantised weights.

#[cfg(test)]
use super::portable::Portable;
#[cfg(target_arch = "x86_64")]
use super::x86;
use super::{
    vectors::WithVectors,
    wide::{self, WideLevel},
};

/// Instructions for 8-bit products.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Int8Level {
    /// No such instructions: weights are unpacked.
    None,
    #[cfg(test)]
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(x86::Avx512Vnni),
}

impl Int8Level {
    /// The fastest instructions of this machine.
    pub(crate) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        return x86::Avx512Vnni::detect()
            .map(Self::Avx512Vnni)
            .or_else(|| x86::Avx2::detect().map(Self::Avx2))
            .unwrap_or(Self::None);
        #[cfg(not(target_arch = "x86_64"))]
        Self::None
    }

    /// The instructions of this machine, and plain Rust.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut levels = vec![Self::None, Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(x86::Avx2::detect().map(Self::Avx2));
            levels.extend(x86::Avx512Vnni::detect().map(Self::Avx512Vnni));
        }
        levels
    }

    pub(super) fn has_products(self) -> bool {
        !matches!(self, Self::None)
    }

    /// Instructions for products with many rows.
    pub(crate) fn wide(self) -> WideLevel {
        match self {
            #[cfg(test)]
            Self::Portable => WideLevel::Portable,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(_) => wide::Avx512Vnni::detect().map_or(WideLevel::None, WideLevel::Avx512Vnni),
            _ => WideLevel::None,
        }
    }

    /// Runs the version of `op` that is compiled for this level. Everything that `op` calls must be inlined into it.
    #[inline(always)]
    pub(super) fn run<Op: WithVectors>(self, op: Op) {
        match self {
            Self::None => unreachable!("there are no 8-bit products"),
            #[cfg(test)]
            Self::Portable => op.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.run(op),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(vnni) => vnni.run(op),
        }
    }

    /// As [`Self::run`], for levels with integer tiles. The others are not compiled.
    #[inline(always)]
    pub(super) fn run_with_tiles<Op: WithVectors>(self, op: Op) {
        match self {
            #[cfg(test)]
            Self::Portable => op.run(Portable),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni(vnni) => vnni.run(op),
            _ => unreachable!("{self:?} has no integer tiles"),
        }
    }
}
