//! Which vector instructions run.

use pulp::{Arch, Simd, WithSimd};

/// A set of vector instructions that this machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level(Arch);

impl Level {
    /// The widest one.
    pub(crate) fn best() -> Self {
        Self(Arch::new())
    }

    /// Every one, so that a test can run them all. The first is plain Rust.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        let mut levels = vec![Self(Arch::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(pulp::x86::V3::try_new().map(|v3| Self(Arch::V3(v3))));
            levels.extend(pulp::x86::V4::try_new().map(|v4| Self(Arch::V4(v4))));
        }
        #[cfg(target_arch = "aarch64")]
        levels.extend(pulp::aarch64::Neon::try_new().map(|neon| Self(Arch::Neon(neon))));
        levels
    }

    /// Compiles `op` once for each level, and runs the one that this is. Everything `op` calls has to be
    /// inlined into it.
    #[inline(always)]
    pub(crate) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.0.dispatch(op)
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

struct Vectorize<F>(F);

impl<F: FnMut()> WithSimd for Vectorize<F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, _: S) {
        (self.0)();
    }
}
