//! SIMD instruction sets, selected at run time.

use pulp::{Arch, Simd, WithSimd};

use super::{pairs::Pairs, precision::Precision, quantised::Int8Level};

/// A SIMD instruction set that this machine has.
#[derive(Debug, Clone, Copy)]
pub struct SimdLevel {
    arch: Arch,
    /// Instructions for products in bf16; `None` if products are in f32.
    pairs: Option<Pairs>,
    int8: Int8Level,
}

impl SimdLevel {
    /// The widest instruction set, with products in f32.
    pub fn best() -> Self {
        Self { int8: Int8Level::best(), ..Self::from(Arch::new()) }
    }

    /// The widest instruction set, with products in `precision`, or in f32 if the processor has no bf16 instructions.
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

    /// The name of the instruction set, such as `V4`.
    pub fn name(self) -> String {
        let arch = format!("{:?}", self.arch);
        arch.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
    }

    /// `None` if products are in f32.
    pub(crate) fn pairs(self) -> Option<Pairs> {
        self.pairs
    }

    /// Instructions for products with quantised weights.
    pub(crate) fn int8(self) -> Int8Level {
        self.int8
    }

    /// This level with each of the machine's instructions for products with quantised weights.
    #[cfg(test)]
    pub(crate) fn with_each_int8(self) -> impl Iterator<Item = Self> {
        Int8Level::all().into_iter().map(move |int8| Self { int8, ..self })
    }

    /// The same level with emulated bf16 products.
    #[cfg(test)]
    pub(crate) fn with_emulated_pairs(self) -> Self {
        Self { pairs: Some(Pairs::Emulated), ..self }
    }

    /// All levels of this machine, for tests. The first is plain Rust.
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

    /// Runs the version of `op` that is compiled for this level. Everything that `op` calls must be inlined into it.
    #[inline(always)]
    pub(crate) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        self.arch.dispatch(op)
    }

    /// Runs plain loops as vector loops: `op` is compiled once for each level, as in [`Self::run`].
    ///
    /// `op` must be a closure marked `#[inline(always)]` that mutates its captures and moves nothing out of them. Calls
    /// through the other closure traits are not inlined.
    #[inline(always)]
    pub(crate) fn vectorize(self, op: impl FnMut()) {
        self.run(Vectorize(op));
    }
}

impl From<Arch> for SimdLevel {
    fn from(arch: Arch) -> Self {
        Self { arch, pairs: None, int8: Int8Level::None }
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
