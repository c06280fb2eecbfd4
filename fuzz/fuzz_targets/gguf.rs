//! A GGUF file and its tokenizer, if it has one. It is read from memory, so errors name offsets instead of the file.
#![no_main]

use formats::gguf::{Gguf, Vocabulary};
use fuzz::within;
use libfuzzer_sys::fuzz_target;
use tokenizer::Tokenizer;

const TEXT: &str = "First  citizen's\n\n\tx 123 ünï 你好 🙂 <|endoftext|>\r\n";

fuzz_target!(|bytes: &[u8]| {
    within((1 << 16) + 64 * bytes.len(), || match Gguf::parse(bytes) {
        Ok(file) => {
            let n_values: usize = file.tensors().iter().map(|tensor| tensor.to_f32().len()).sum();
            // A block of 18 bytes has 32 values.
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
    // A tokenizer needs a hundred times the memory of its tokens, plus a constant for the regexes.
    let Ok(file) = Gguf::parse(bytes) else { return };
    within((160 << 20) + (bytes.len() << 12), || {
        let Ok(vocabulary) = Vocabulary::read(&file) else { return };
        let _ = (vocabulary.stop_token(), vocabulary.chars());
        let Ok(tokenizer) = Tokenizer::from_gguf(&vocabulary) else { return };
        let ids = tokenizer.encode_text(TEXT).unwrap_or_default();
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()), "{ids:?}");
        drop(tokenizer.decode(&ids));
        let again = Tokenizer::from_json(&tokenizer.to_json()).expect("the library wrote it");
        assert_eq!(again.fingerprint(), tokenizer.fingerprint());
        assert_eq!(again.prompt_prefix(), tokenizer.prompt_prefix());
    });
});
