//! `tokenizer.json` of Kindling or others, or the older pair `vocab.json` and `merges.txt`.
#![no_main]

use std::fs;
use std::panic;
use std::sync::Once;

use fuzz::{Allowance, read_file};
use libfuzzer_sys::fuzz_target;
use tokenizer::{Result, Tokenizer};

/// Regexes may use up to 160 MB, whatever their length.
const ALLOWANCE: Allowance = Allowance { fixed: 160 << 20, per_byte: 1 << 10 };

const TEXT: &str = "First  citizen's\n\n\tx 123 ünï 你好 🙂 e\u{301} <|endoftext|>\r\n";

/// Separates the two files of a pair.
const SEPARATOR: &str = "\n---\n";

fuzz_target!(|input: &[u8]| {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Lazily built data must not count for the file.
        drop(Tokenizer::gpt2().encode(TEXT));
        ignore_library_panics();
    });
    match str::from_utf8(input).ok().and_then(|input| input.split_once(SEPARATOR)) {
        None => read_file("tokenizer.json", input, ALLOWANCE, |path| Tokenizer::load(path).map(check)),
        Some((vocabulary, merges)) => {
            read_file("vocab.json", vocabulary.as_bytes(), ALLOWANCE, |path| -> Result<()> {
                let beside = path.with_file_name("merges.txt");
                fs::write(&beside, merges).expect("the disk has space");
                Tokenizer::load_byte_level(path, &beside).map(check)
            });
        }
    }
});

/// A panic in our code is a finding even if it is caught. A panic in a library is one only if nothing catches it before
/// libFuzzer.
fn ignore_library_panics() {
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
    // A model may have more rows than the tokenizer has tokens.
    let ids: Vec<u32> = (0..300).collect();
    drop(tokenizer.decode(&ids));
    let mut stream = tokenizer.decode_stream();
    ids.into_iter().for_each(|id| drop(stream.push(id)));
    drop((tokenizer.merges(), tokenizer.last_boundary(TEXT)));
    // Saving and loading keeps the tokenizer.
    let again = Tokenizer::from_json(&tokenizer.to_json()).expect("the library wrote it");
    assert_eq!(again.fingerprint(), tokenizer.fingerprint());
}
