//! Software prefetch.

/// Prefetches element `at` of a slice, which may be beyond its end, into the L2 cache. Does nothing on processors other
/// than x86-64.
#[inline(always)]
pub(crate) fn prefetch(data: &[f32], at: usize) {
    prefetch_bytes(data.as_ptr().wrapping_add(at).cast());
}

#[inline(always)]
fn prefetch_bytes(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction. It accepts any address and changes nothing but
        // caches.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Prefetches as many bytes as `data` has, from `ahead` bytes after its start.
#[inline(always)]
pub(crate) fn prefetch_ahead<T>(data: &[T], ahead: usize) {
    const LINE: usize = 64;
    for offset in (0..size_of_val(data)).step_by(LINE) {
        prefetch_bytes(data.as_ptr().cast::<u8>().wrapping_add(ahead + offset));
    }
}
