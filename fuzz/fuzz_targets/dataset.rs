//! A prepared folder in which one file is anything: `meta.json`, a shard, the tokenizer, or a shard with the size and
//! the checksum that `meta.json` says.
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

/// The contents of whole ones.
static WHOLE: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("the folder of temporary files is there");
    let text = folder.path().join("text.txt");
    fs::write(&text, "a text of some length").expect("there is room for it");
    let options = Options { root: folder.path().join("datasets"), ..Options::default() };
    let choice = TokenizerChoice::Kind(TokenizerKind::Char);
    let prepared = prepare(&Source::Path(text), &choice, &options, &|_| ()).expect("the text is there");
    FILES.map(|file| fs::read(prepared.folder.join(file)).expect("it was written"))
});

fuzz_target!(|input: &[u8]| {
    let Some((&place, contents)) = input.split_first() else { return };
    let mut files = WHOLE.clone();
    match usize::from(place) % (FILES.len() + 1) {
        4 => {
            files[1] = contents.to_owned();
            files[0] = with_shard(&files[0], contents);
        }
        place => files[place] = contents.to_owned(),
    }
    let folder = tempfile::tempdir().expect("the folder of temporary files is there");
    for (file, contents) in FILES.iter().zip(&files) {
        fs::write(folder.path().join(file), contents).expect("there is room for it");
    }
    within((4 << 20) + (1 << 10) * contents.len(), || load(folder.path()));
});

/// What `meta.json` says of another shard to learn from.
fn with_shard(meta: &[u8], shard: &[u8]) -> Vec<u8> {
    let mut meta: Meta = serde_json::from_slice(meta).expect("it is whole");
    meta.train.n_tokens = (shard.len() / meta.dtype.size_bytes()) as u64;
    meta.train.sha256 = Sha256::digest(shard).iter().map(|byte| format!("{byte:02x}")).collect();
    serde_json::to_vec(&meta).expect("it has strings for keys")
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
