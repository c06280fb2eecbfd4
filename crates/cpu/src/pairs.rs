//! Which instructions multiply bf16 values in pairs.

/// How pairs are multiplied.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pairs {
    /// By the instructions of AVX-512 BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// One after another, to test what surrounds the instructions.
    #[cfg(test)]
    Emulated,
}

impl Pairs {
    /// None where the processor has no instructions for them.
    pub(crate) fn detect() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Avx512::detect().map(Self::Avx512);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }
}

/// The proof that the processor has AVX-512 BF16.
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
