//! A whole GGUF file, and the model that it may be. It is read from memory, so its errors name places in it and not the file.
#![no_main]

use fuzz::within;
use gguf::{Config, Gguf, TensorType, Vocabulary};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    within((1 << 16) + 64 * bytes.len(), || match Gguf::parse(bytes) {
        Ok(file) => {
            let n_values: usize = file.tensors().iter().map(|tensor| tensor.to_f32().len()).sum();
            // A block of 18 bytes has 32.
            assert!(n_values <= 2 * bytes.len(), "{n_values} values from {} bytes", bytes.len());
            assert!(!file.to_string().is_empty());
            for (key, value) in file.metadata() {
                // NaN is not equal to itself.
                assert_eq!(file.value(key).map(ToString::to_string), Some(value.to_string()));
            }
            if let Ok(config) = Config::read(&file) {
                assert_eq!(config.tensors(TensorType::F32).len(), file.tensors().len());
            }
            if let Ok(vocabulary) = Vocabulary::read(&file) {
                let _ = (vocabulary.stop_token(), vocabulary.chars());
            }
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 4096, "{text:?}");
        }
    });
});
