//! Software prefetch.

/// Prefetches element `at` of a slice, which may be beyond its end, into the L2 cache. Does nothing on processors other
/// than x86-64.
#[inline(always)]
pub(crate) fn prefetch(data: &[f32], at: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction. It accepts any address and changes nothing but
        // caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(data.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (data, at);
}
