//! Limits the work of a template, which may come from a hostile model.

/// The work that one rendering may do: one instruction or 64 bytes cost 1. A conversation of 2000 long messages takes
/// less than a tenth.
pub(crate) const FUEL: u64 = 2_000_000;

/// Bytes of text that cost 1 in our own functions.
pub(crate) const BYTES_PER_FUEL: u64 = 8;
