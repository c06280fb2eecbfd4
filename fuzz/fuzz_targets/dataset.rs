//! A prepared folder with one fuzzed file: `meta.json`, a shard, the tokenizer, or a shard whose size and checksum match
//! `meta.json`.
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use dataset::{Meta, Options, Prepared, Source, TokenizerChoice, prepare};
use fuzz::{assert_names, within};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use tokenizer::TokenizerKind;

const FILES: [&str; 4] = ["meta.json", "train.bin", "val.bin", "tokenizer.json"];

/// Valid contents of [`FILES`].
static VALID: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("the temporary folder exists");
    let text = folder.path().join("text.txt");
    fs::write(&text, "a text of some length").expect("the disk has space");
    let options = Options { root: folder.path().join("datasets"), ..Options::default() };
    let choice = TokenizerChoice::Kind(TokenizerKind::Char);
    let prepared = prepare(&Source::Path(text), &choice, &options, &|_| ()).expect("the text is valid");
    FILES.map(|file| fs::read(prepared.folder.join(file)).expect("preparing wrote it"))
});

fuzz_target!(|input: &[u8]| {
    let Some((&choice, contents)) = input.split_first() else { return };
    let mut files = VALID.clone();
    match usize::from(choice) % (FILES.len() + 1) {
        4 => {
            files[1] = contents.to_owned();
            files[0] = with_shard(&files[0], contents);
        }
        file => files[file] = contents.to_owned(),
    }
    let folder = tempfile::tempdir().expect("the temporary folder exists");
    for (file, contents) in FILES.iter().zip(&files) {
        fs::write(folder.path().join(file), contents).expect("the disk has space");
    }
    within((4 << 20) + (1 << 10) * contents.len(), || load(folder.path()));
});

/// `meta.json` for another training shard.
fn with_shard(meta: &[u8], shard: &[u8]) -> Vec<u8> {
    let mut meta: Meta = serde_json::from_slice(meta).expect("it is valid");
    meta.train.n_tokens = (shard.len() / meta.dtype.size_bytes()) as u64;
    meta.train.sha256 = Sha256::digest(shard).iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::to_vec(&meta).expect("its keys are strings")
}

fn load(folder: &Path) {
    match Prepared::load(folder, true, &|_| ()) {
        Ok(prepared) => {
            for (tokens, part) in
                [(&prepared.train, &prepared.meta.train), (&prepared.valid, &prepared.meta.valid)]
            {
                assert_eq!(tokens.len() as u64, part.n_tokens);
                let mut ids = vec![0; tokens.len()];
                tokens.copy_range(0, &mut ids);
                let n_tokens = prepared.tokenizer.vocab_size();
                assert!(ids.iter().all(|&id| usize::try_from(id).is_ok_and(|id| id < n_tokens)), "{ids:?}");
            }
        }
        Err(error) => assert_names(&error, &folder.display().to_string()),
    }
}
