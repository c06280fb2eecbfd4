//! Modified prepared folders: loading either succeeds or names the modified file.

#![expect(clippy::unwrap_used, reason = "tests may panic; clippy.toml does not exempt their helpers")]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use dataset::{Meta, Options, Prepared, Source, TokenizerChoice, prepare};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tokenizer::TokenizerKind;

const FILES: [&str; 4] = ["meta.json", "train.bin", "val.bin", "tokenizer.json"];

/// Edge cases of number parsing and arithmetic.
const NUMBERS: [&str; 6] = ["0", "1", "-1", "9223372036854775808", "18446744073709551615", "1e400"];

/// The contents of an intact folder.
static INTACT: LazyLock<[Vec<u8>; 4]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    fs::write(&text, "a text of some length").unwrap();
    let options = Options { root: folder.path().join("datasets"), ..Options::default() };
    let choice = TokenizerChoice::Kind(TokenizerKind::Char);
    let prepared = prepare(&Source::Path(text), &choice, &options, &|_| ()).unwrap();
    FILES.map(|file| fs::read(prepared.folder.join(file)).unwrap())
});

/// Writes the files and loads them. An error must name one of them.
fn load(files: &[Vec<u8>; 4]) -> Result<Prepared, String> {
    let folder = tempfile::tempdir().unwrap();
    for (file, contents) in FILES.iter().zip(files) {
        fs::write(folder.path().join(file), contents).unwrap();
    }
    Prepared::load(folder.path(), true, &|_| ()).map_err(|error| {
        let error = error.to_string();
        let names = |file: &&str| error.contains(&folder.path().join(file).display().to_string());
        assert!(FILES.iter().any(names), "{error}");
        error.replace(&format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR), "")
    })
}

/// The files with another training shard and a `meta.json` modified by `change`.
fn with(shard: &[u8], change: impl FnOnce(&mut Meta)) -> [Vec<u8>; 4] {
    let mut files = INTACT.clone();
    files[1] = shard.to_owned();
    let mut meta: Meta = serde_json::from_slice(&files[0]).unwrap();
    meta.train.n_tokens = (shard.len() / meta.dtype.size_bytes()) as u64;
    meta.train.sha256 = Sha256::digest(shard).iter().map(|byte| format!("{byte:02x}")).collect();
    change(&mut meta);
    files[0] = serde_json::to_vec(&meta).unwrap();
    files
}

#[test]
fn intact_files_are_loaded() {
    let prepared = load(&INTACT).unwrap();
    assert_eq!((prepared.train.len(), prepared.valid.len()), (18, 3));
    assert_eq!(load(&with(&[1, 0, 2, 0], |_| ())).unwrap().train.len(), 2);
}

#[test]
fn a_token_count_that_overflows_is_refused() {
    for n_tokens in [u64::MAX, 1 << 63, (1 << 63) + 18] {
        let error = load(&with(&INTACT[1], |meta| meta.train.n_tokens = n_tokens)).unwrap_err();
        assert!(error.contains(&format!("36 bytes, not {n_tokens} U16 tokens")), "{error}");
    }
}

#[test]
fn another_dtype_or_vocabulary_size_is_refused() {
    let wide = with(&INTACT[1], |meta| {
        meta.dtype = dataset::Dtype::U32;
        meta.train.n_tokens /= 2;
    });
    assert!(
        load(&wide).unwrap_err().starts_with("meta.json can't be used: 13 tokens of type U32 do not match")
    );
    let larger = with(&INTACT[1], |meta| meta.vocab_size += 1);
    assert!(load(&larger).unwrap_err().starts_with("meta.json can't be used: 14 tokens of type U16"));
}

#[test]
fn a_token_outside_the_vocabulary_is_refused() {
    let error = load(&with(&[12, 0, 13, 0, 0, 0], |_| ())).unwrap_err();
    assert!(
        error.starts_with("train.bin can't be used: id 13 at position 1 is outside the vocabulary of 13"),
        "{error}"
    );
    // Beyond the first block of the check.
    let mut shard = vec![0; 20_000];
    shard[19_999] = 0xff;
    let error = load(&with(&shard, |_| ())).unwrap_err();
    assert!(error.contains("id 65280 at position 9999"), "{error}");
}

#[test]
fn a_missing_folder_is_named() {
    let error = Prepared::load(Path::new("no/such"), false, &|_| ()).unwrap_err().to_string();
    assert!(error.contains("meta.json can't be used"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_contents_are_refused_by_name(place in 0..4_usize, contents in prop::collection::vec(any::<u8>(), 0..99)) {
        let mut files = INTACT.clone();
        files[place] = contents;
        prop_assert!(load(&files).is_err());
    }

    #[test]
    fn no_modification_makes_it_panic(
        place in 0..4_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
        cuts: bool,
    ) {
        let mut files = INTACT.clone();
        let file = &mut files[place];
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        if cuts {
            file.truncate(cut.index(file.len()));
        }
        let changed = files[place] != INTACT[place];
        // Changes of the shards, which have checksums, are always detected.
        prop_assert!(load(&files).is_err() || !changed || place == 0 || place == 3);
    }

    #[test]
    fn no_number_makes_it_panic(which in any::<prop::sample::Index>(), number in prop::sample::select(&NUMBERS[..])) {
        let mut files = INTACT.clone();
        let meta = String::from_utf8(files[0].clone()).unwrap();
        let lines: Vec<&str> = meta.lines().filter(|line| line.trim_end_matches(',').ends_with(char::is_numeric)).collect();
        let line = which.get(&lines);
        let (key, _) = line.split_once(':').unwrap();
        let end = if line.ends_with(',') { "," } else { "" };
        files[0] = meta.replacen(line, &format!("{key}: {number}{end}"), 1).into_bytes();
        let _ = load(&files);
    }
}
