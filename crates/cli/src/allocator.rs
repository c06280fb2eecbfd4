//! The global allocator.

#![expect(unsafe_code, reason = "the allocator is a C library")]

use std::{
    env,
    ffi::{c_int, c_long},
};

use mimalloc::MiMalloc;

/// Tensors are large, short-lived blocks. mimalloc keeps freed blocks; the system allocator returns each one to the
/// kernel and pays for its page faults again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, the same in versions 2 and 3; libmimalloc-sys does not name it.
const PURGE_DELAY: c_int = 15;

/// The delay before freed memory is returned to the system. With mimalloc's default of a second, each training step
/// faults pages in again. Ten seconds make `tiny` 7 % faster, and take 15 MiB more. Steps of 8 s (LoRA of 135M parameters)
/// become 10 % faster with a minute, and take 3 % more memory.
const PURGE_DELAY_MS: c_long = 60_000;

/// Sets the purge delay, unless `MIMALLOC_PURGE_DELAY` does. To be called once, before large allocations.
pub(crate) fn configure() {
    set_purge_delay(PURGE_DELAY_MS);
}

fn set_purge_delay(milliseconds: c_long) {
    if env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: the call only stores a number, and the option exists.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, milliseconds) }
    }
}

/// The delay for runs that recompute activations, which trade time for memory. QLoRA of 135M parameters takes 436 MB
/// instead of 512 with it, in the same time; without a delay it takes 404, and 20 % more time.
const SHORT_PURGE_DELAY_MS: c_long = 20;

/// Keeps freed memory for a shorter time from now on, unless `MIMALLOC_PURGE_DELAY` sets a delay.
pub(crate) fn keep_less_free_memory() {
    set_purge_delay(SHORT_PURGE_DELAY_MS);
}

/// Returns freed memory, such as a tokenizer parser's, to the system. To be called before and after weights are
/// loaded.
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
        if env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            return; // The default and ours are out of effect.
        }
        let default = delay();
        assert!(
            [10, 1000].contains(&default),
            "mimalloc's default is 10 or 1000 ms, by version, not {default}"
        );
        configure();
        assert_eq!(delay(), PURGE_DELAY_MS);
    }
}
