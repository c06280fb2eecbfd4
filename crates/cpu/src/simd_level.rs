//! Which vector instructions run.

use pulp::{Arch, Simd, WithSimd};

use super::{pairs::Pairs, precision::Precision};

/// A set of vector instructions that this machine has.
#[derive(Debug, Clone, Copy)]
pub struct SimdLevel {
    arch: Arch,
    /// With which of them matrices are multiplied, where their numbers are rounded to bf16.
    pairs: Option<Pairs>,
}

impl SimdLevel {
    /// The widest one.
    pub fn best() -> Self {
        Self::from(Arch::new())
    }

    /// The widest one, for products in a precision; in f32 where it has no instructions for that.
    pub fn of(precision: Precision) -> Self {
        let pairs = match precision {
            Precision::F32 => None,
            Precision::Bf16 => Pairs::detect(),
        };
        Self { pairs, ..Self::best() }
    }

    /// Whether the processor multiplies bf16 values in pairs.
    pub fn has_bf16() -> bool {
        Pairs::detect().is_some()
    }

    /// None where products are in f32.
    pub(crate) fn pairs(self) -> Option<Pairs> {
        self.pairs
    }

    /// The same, with products in bf16 that are emulated.
    #[cfg(test)]
    pub(crate) fn with_emulated_pairs(self) -> Self {
        Self { pairs: Some(Pairs::Emulated), ..self }
    }

    /// Every one, so that a test can run them all. The first is plain Rust.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut levels = vec![Self::from(Arch::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(pulp::x86::V3::try_new().map(|v3| Self::from(Arch::V3(v3))));
            levels.extend(pulp::x86::V4::try_new().map(|v4| Self::from(Arch::V4(v4))));
        }
        #[cfg(target_arch = "aarch64")]
        levels.extend(pulp::aarch64::Neon::try_new().map(|neon| Self::from(Arch::Neon(neon))));
        levels
    }

    /// Compiles `op` once for each level, and runs the one that this is. Everything `op` calls has to be
    /// inlined into it.
    #[inline(always)]
    pub(crate) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.arch.dispatch(op)
    }

    /// Runs plain loops as vector loops: compiles `op` once for each level, as [`Self::run`] does.
    ///
    /// `op` is a closure marked `#[inline(always)]` that writes to what it captures and takes nothing out of
    /// it. A call through another of the closure traits would go through a function that is not inlined.
    #[inline(always)]
    pub(crate) fn vectorize(self, op: impl FnMut()) {
        self.run(Vectorize(op));
    }
}

impl From<Arch> for SimdLevel {
    fn from(arch: Arch) -> Self {
        Self { arch, pairs: None }
    }
}

struct Vectorize<F>(F);

impl<F: FnMut()> WithSimd for Vectorize<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        (self.0)();
    }
}
