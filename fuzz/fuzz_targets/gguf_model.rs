//! The model in a GGUF file: its sizes, and the tensors that they require.
#![no_main]

use families::gguf::GgufModel;
use formats::gguf::Gguf;
use fuzz::within;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = Gguf::parse(bytes) else { return };
    within((1 << 16) + 64 * bytes.len(), || match GgufModel::read(&file) {
        Ok(model) => {
            // Every weight exists, with a size that fits the file.
            assert!(model.config.n_layer <= file.tensors().len());
            drop(model.config.check());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 4096, "{text:?}");
        }
    });
});
