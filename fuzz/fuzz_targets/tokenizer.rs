//! `tokenizer.json`, ours or anyone's, or the older pair of files.
#![no_main]

use std::fs;
use std::panic;
use std::sync::Once;

use fuzz::{Allowance, read_file};
use libfuzzer_sys::fuzz_target;
use tokenizer::{Result, Tokenizer};

/// Patterns may take up to 160 MB, whatever their length is.
const ALLOWANCE: Allowance = Allowance { fixed: 160 << 20, per_byte: 1 << 10 };

const TEXT: &str = "First  citizen's\n\n\tx 123 ünï 你好 🙂 e\u{301} <|endoftext|>\r\n";

/// Between the two files of a pair.
const BORDER: &str = "\n---\n";

fuzz_target!(|input: &[u8]| {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // What is made once is not the file's.
        drop(Tokenizer::gpt2().encode(TEXT));
        pass_over_caught_panics();
    });
    match str::from_utf8(input).ok().and_then(|input| input.split_once(BORDER)) {
        None => read_file("tokenizer.json", input, ALLOWANCE, |path| Tokenizer::load(path).map(check)),
        Some((vocabulary, merges)) => {
            read_file("vocab.json", vocabulary.as_bytes(), ALLOWANCE, |path| -> Result<()> {
                let beside = path.with_file_name("merges.txt");
                fs::write(&beside, merges).expect("there is room for it");
                Tokenizer::load_byte_level(path, &beside).map(check)
            });
        }
    }
});

/// Our own panics are findings at once, those of libraries if they get as far as here: libFuzzer catches them.
fn pass_over_caught_panics() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let file = info.location().map_or("", |location| location.file());
        if !["/registry/", "/rustc/"].iter().any(|library| file.contains(library)) {
            report(info);
        }
    }));
}

fn check(tokenizer: Tokenizer) {
    let n_tokens = tokenizer.vocab_size();
    if let Ok(ids) = tokenizer.encode(TEXT) {
        assert!(ids.iter().all(|&id| (id as usize) < n_tokens), "{ids:?} of {n_tokens}");
        let text = tokenizer.decode(&ids);
        if tokenizer.kind().is_some() {
            assert_eq!(text, TEXT);
        }
    }
    // A model may have more rows than there are tokens.
    let ids: Vec<u32> = (0..300).collect();
    drop(tokenizer.decode(&ids));
    let mut stream = tokenizer.decode_stream();
    ids.into_iter().for_each(|id| drop(stream.push(id)));
    drop((tokenizer.merges(), tokenizer.last_border(TEXT)));
    // What is saved can be loaded, and is the same.
    let again = Tokenizer::from_json(&tokenizer.to_json()).expect("it was written by the library");
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());
}
