//! Small models, and files built byte by byte, for what the writer would never write.
#![expect(dead_code, reason = "each test uses a part of it")]

use gguf::{Architecture, Biases, Config, TensorType, Vocabulary};

/// Sizes that are all different, of a model of seven tokens.
pub(crate) fn sizes(architecture: Architecture) -> Config {
    let is_rotary = architecture.is_rotary();
    Config {
        architecture,
        vocab_size: 7,
        context_length: 8,
        embedding_length: 32,
        feed_forward_length: 48,
        block_count: 1,
        head_count: if is_rotary { 4 } else { 2 },
        head_count_kv: 2,
        key_length: if is_rotary { 6 } else { 16 },
        norm_epsilon: 1e-5,
        rope_freq_base: 10_000.0,
        tied: architecture != Architecture::Llama,
        biases: Biases::default(),
    }
}

/// A whole file.
pub(crate) fn written(config: &Config, ty: TensorType, vocabulary: &Vocabulary) -> Vec<u8> {
    let metadata = config.metadata("golden", ty, vocabulary).expect("a vocabulary that fits");
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, &metadata, &config.tensors(ty), |tensor| {
        let n_values: u16 = tensor.dims.iter().product::<usize>().try_into().expect("a small tensor");
        Ok::<_, gguf::Error>((0..n_values).map(|place| f32::from(place % 100) / 128.0).collect())
    })
    .expect("numbers that every type holds");
    bytes
}

/// A file of `version` with `n_tensors` and `n_keys` announced, to which what follows is appended.
pub(crate) struct FileBytes {
    bytes: Vec<u8>,
    /// Whether lengths are 32 bits wide.
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

    /// A key and the number of its value's type; the value is to follow.
    pub(crate) fn key(self, key: &str, ty: u32) -> Self {
        self.string(key).u32(ty)
    }

    pub(crate) fn tensor(self, name: &str, dims: &[u64], ty: u32, offset: u64) -> Self {
        let file = self.string(name).u32(u32::try_from(dims.len()).expect("few dimensions"));
        dims.iter().fold(file, |file, &dim| file.length(dim)).u32(ty).u64(offset)
    }

    /// Fills up to a multiple of 32.
    pub(crate) fn align(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(32), 0);
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.bytes
    }
}
