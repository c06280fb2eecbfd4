//! Instructions that multiply bf16 values in pairs, and their detection.

/// How pairs of bf16 values are multiplied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pairs {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// In plain Rust, to test the code around the instructions.
    #[cfg(test)]
    Emulated,
}

impl Pairs {
    /// `None` if the processor has no such instructions.
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Avx512::detect().map(Self::Avx512);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// Proof that the processor has AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512(());

#[cfg(target_arch = "x86_64")]
impl Avx512 {
    fn detect() -> Option<Self> {
        let has_it = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        has_it.then_some(Self(()))
    }
}
