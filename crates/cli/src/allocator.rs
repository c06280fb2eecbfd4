//! The global allocator.

use mimalloc::MiMalloc;

/// Tensors are large, short-lived blocks. mimalloc keeps freed blocks; the system allocator returns each one to the
/// kernel and pays for its page faults again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Returns freed memory to the system, such as that used to parse a tokenizer, before weights are loaded.
#[expect(unsafe_code, reason = "the allocator is a C library")]
pub(crate) fn release_free_memory() {
    // SAFETY: the call touches no memory in use, and any thread may make it at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
