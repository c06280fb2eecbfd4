//! A file's structure as text, for people and for tests.

use std::fmt;

use crate::gguf::Gguf;

/// The structure as text, a line for each key and each tensor; the weights are not in it.
impl fmt::Display for Gguf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "GGUF version {}, aligned to {}", self.version(), self.alignment())?;
        for (key, value) in self.metadata() {
            writeln!(f, "{key}: {value}")?;
        }
        for tensor in self.tensors() {
            writeln!(
                f,
                "tensor {}: {} {:?}, {} bytes",
                tensor.name,
                tensor.ty,
                tensor.dims,
                tensor.bytes.len()
            )?;
        }
        Ok(())
    }
}
