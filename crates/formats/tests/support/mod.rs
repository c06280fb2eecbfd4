//! Builds GGUF files byte by byte, including invalid ones.

/// A file whose header declares `n_tensors` and `n_keys`; the methods append the rest.
pub(crate) struct FileBytes {
    bytes: Vec<u8>,
    /// Whether lengths have 32 bits.
    short: bool,
}

impl FileBytes {
    pub(crate) fn new(version: u32, n_tensors: u64, n_keys: u64) -> Self {
        let file = Self { bytes: Vec::new(), short: version == 1 };
        file.raw(b"GGUF").u32(version).length(n_tensors).length(n_keys)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self
    }

    pub(crate) fn u32(self, number: u32) -> Self {
        self.raw(&number.to_le_bytes())
    }

    pub(crate) fn u64(self, number: u64) -> Self {
        self.raw(&number.to_le_bytes())
    }

    pub(crate) fn length(self, length: u64) -> Self {
        if self.short {
            self.u32(u32::try_from(length).expect("a length of version 1"))
        } else {
            self.u64(length)
        }
    }

    pub(crate) fn string(self, text: &str) -> Self {
        self.length(text.len() as u64).raw(text.as_bytes())
    }

    /// Appends a key and the code of its value type, without the value.
    pub(crate) fn key(self, key: &str, ty: u32) -> Self {
        self.string(key).u32(ty)
    }

    pub(crate) fn tensor(self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Self {
        let file = self.string(name).u32(u32::try_from(dims.len()).expect("few dimensions"));
        dims.iter().fold(file, |file, &dim| file.length(dim)).u32(ty).u64(offset)
    }

    /// Pads to a multiple of 32 bytes.
    pub(crate) fn align(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(32), 0);
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.bytes
    }
}
