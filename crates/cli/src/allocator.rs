//! The global allocator.

#![expect(unsafe_code, reason = "the allocator is a C library")]

use std::ffi::{c_int, c_long};

use mimalloc::MiMalloc;

/// Tensors are large, short-lived blocks. mimalloc keeps freed blocks; the system allocator returns each one to the
/// kernel and pays for its page faults again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, the same in versions 2 and 3; libmimalloc-sys does not name it.
const PURGE_DELAY: c_int = 15;

/// How long freed memory stays with the process. With mimalloc's second, a training step pays again for pages that the
/// step before freed: `tiny` trains 7 % faster with ten seconds, for 15 MiB more memory.
const PURGE_DELAY_MS: c_long = 10_000;

/// Sets the allocator's options. To be called once, before large allocations.
pub(crate) fn configure() {
    // SAFETY: the call only stores a number, and the option exists.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) }
}

/// Returns freed memory to the system, such as that used to parse a tokenizer, before weights are loaded.
pub(crate) fn release_free_memory() {
    // SAFETY: the call touches no memory in use, and any thread may make it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_purge_delay_is_the_option_that_is_set() {
        let delay = || {
            // SAFETY: the call only reads a number, and the option exists.
            unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) }
        };
        let default = delay();
        assert!(
            [10, 1000].contains(&default),
            "mimalloc's default is 10 or 1000 ms, by version, not {default}"
        );
        configure();
        assert_eq!(delay(), PURGE_DELAY_MS);
    }
}
