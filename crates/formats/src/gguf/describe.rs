//! The structure of a file as text.

use std::fmt;

use crate::gguf::Gguf;

/// One line for each key and each tensor, without the weights.
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
