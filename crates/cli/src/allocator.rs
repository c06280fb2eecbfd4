//! The allocator of the program.

use mimalloc::MiMalloc;

/// Tensors come and go in big blocks. This allocator keeps them; the system's gives each back to the kernel
/// and pays for its pages again.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Gives memory that is free back to the system now: what reading a tokenizer took, before weights come.
#[expect(unsafe_code, reason = "the allocator is a C library")]
pub(crate) fn give_back() {
    // SAFETY: it touches no memory that is in use, and may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
