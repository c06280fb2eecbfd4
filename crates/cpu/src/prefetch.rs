//! Reading ahead of the processor.

/// Asks for the number `at` elements after the start of a slice, which may be beyond its end, to be brought into the
/// second-level cache. Does nothing where Rust has no such instruction.
#[inline(always)]
pub(crate) fn prefetch(data: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: the instruction is part of every x86-64 processor, and at no address does it fail or change
        // anything but caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(data.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, at);
}
