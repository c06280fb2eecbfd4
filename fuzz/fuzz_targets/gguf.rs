//! A whole GGUF file, and the tokenizer that it may have. It is read from memory, so its errors name places in it and not the file.
#![no_main]

use fuzz::within;
use formats::gguf::{Gguf, Vocabulary};
use libfuzzer_sys::fuzz_target;
use tokenizer::Tokenizer;

const TEXT: &str = "First  citizen's\n\n\tx 123 ünï 你好 🙂 <|endoftext|>\r\n";

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
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.is_empty() && text.len() < 4096, "{text:?}");
        }
    });
    // What is made of the tokens takes a hundred times their room, and the patterns some.
    let Ok(file) = Gguf::parse(bytes) else { return };
    within((160 << 20) + (bytes.len() << 12), || {
        let Ok(vocabulary) = Vocabulary::read(&file) else { return };
        let _ = (vocabulary.stop_token(), vocabulary.chars());
        let Ok(tokenizer) = Tokenizer::from_gguf(&vocabulary) else { return };
        let ids = tokenizer.encode_text(TEXT).unwrap_or_default();
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{ids:?}");
        drop(tokenizer.decode(&ids));
        let again = Tokenizer::from_json(&tokenizer.to_json()).expect("it was written by the library");
        assert_eq!(again.fingerprint(), tokenizer.fingerprint());
        assert_eq!(again.beginning(), tokenizer.beginning());
    });
});
