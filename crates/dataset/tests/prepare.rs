//! Preparing sources as shards: expected checksums, reuse, repair, and every error.

#![expect(clippy::unwrap_used, reason = "tests may panic; clippy.toml does not exempt their helpers")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use dataset::{
    Dtype, Error, Options, Outcome, Phase, Prepared, Progress, Result, RngStream, Source, Split,
    TokenizerChoice, Windows, prepare,
};
use tempfile::TempDir;
use tokenizer::Tokenizer;

/// A folder of sources and a root of prepared data.
struct TestDirs {
    root: TempDir,
    sources: TempDir,
}

impl TestDirs {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), sources: tempfile::tempdir().unwrap() }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.sources.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn options(&self) -> Options {
        Options { root: self.root.path().into(), ..Options::default() }
    }

    fn prepare(&self, path: &Path, kind: &str) -> Result<Prepared> {
        self.prepare_with(path, kind, &self.options())
    }

    fn prepare_with(&self, path: &Path, kind: &str, options: &Options) -> Result<Prepared> {
        prepare(&Source::Path(path.into()), &kind_of(kind), options, &|_| ())
    }
}

fn kind_of(kind: &str) -> TokenizerChoice {
    TokenizerChoice::Kind(kind.parse().unwrap())
}

fn tokens(tokens: &dataset::Tokens) -> Vec<u32> {
    let mut ids = vec![0; tokens.len()];
    tokens.copy_range(0, &mut ids);
    ids.into_iter().map(i32::cast_unsigned).collect()
}

/// The training text and the validation text.
fn decoded(prepared: &Prepared) -> (String, String) {
    let decode = |part| prepared.tokenizer.decode(&tokens(part));
    (decode(&prepared.train), decode(&prepared.valid))
}

/// The names in a folder, including hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

#[test]
fn shards_of_shakespeare_equal_nanogpts() {
    let dirs = TestDirs::new();
    for (kind, n_tokens, train, valid) in [
        (
            "char",
            (1_003_854, 111_540),
            "6ec305602a99ac2802745a134e1f5e33e2231b4855525b00b9aebb730ac2626f",
            "d37d30cc0c8327c270d493299c3dca54135f6d5f1c9ef60cda78076e311204b1",
        ),
        (
            "gpt2",
            (301_966, 36_059),
            "502a2bdc8210d1ac5d5674867cb74467dd31db575d25cf6dbb08c8bdbea8680f",
            "68a53422394c26a655ebe641f5c6f49888e8f4e45fe5d6f02abda63ba3ebd65b",
        ),
    ] {
        let source = Source::resolve("shakespeare").unwrap();
        let prepared = prepare(&source, &kind_of(kind), &dirs.options(), &|_| ()).unwrap();
        assert_eq!((prepared.train.len(), prepared.valid.len()), n_tokens, "{kind}");
        assert_eq!((&*prepared.meta.train.sha256, &*prepared.meta.valid.sha256), (train, valid), "{kind}");
        assert_eq!((prepared.meta.train.text_bytes, prepared.meta.valid.text_bytes), (1_003_854, 111_540));
        assert_eq!(prepared.meta.dtype, Dtype::U16);
        assert_eq!(prepared.folder, dirs.root.path().join("shakespeare").join(kind));
        assert_eq!(names(&prepared.folder), ["meta.json", "tokenizer.json", "train.bin", "val.bin"]);
        let size_bytes = fs::metadata(prepared.folder.join("train.bin")).unwrap().len();
        assert_eq!(size_bytes, 2 * n_tokens.0 as u64);
    }
}

#[test]
fn multi_byte_text_is_split_between_characters() {
    let dirs = TestDirs::new();
    let path = dirs.write("greek.txt", "αβγδεζηθικλμ你🙂");
    for kind in ["char", "byte", "gpt2", "bpe:300"] {
        let prepared = dirs.prepare(&path, kind).unwrap();
        // ⌊14 · 0.9⌋ = 12
        assert_eq!(decoded(&prepared), ("αβγδεζηθικλμ".into(), "你🙂".into()), "{kind}");
        assert_eq!((prepared.meta.train.text_bytes, prepared.meta.valid.text_bytes), (24, 7), "{kind}");
        assert_eq!(prepared.meta.source.n_characters, 14);
    }
}

/// The tokens learned by the trainer and pre-tokenizer of the `tokenizers` library, in the order of their ids.
fn vocabulary_of_the_library(text: &str, vocab_size: usize) -> Vec<String> {
    use tokenizers::models::{TrainerWrapper, bpe};
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    let trainer = bpe::BpeTrainer::builder()
        .show_progress(false)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .vocab_size(vocab_size)
        .build();
    let mut pipeline = tokenizers::Tokenizer::new(bpe::BPE::default());
    pipeline.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    pipeline.train(&mut TrainerWrapper::from(trainer), [text].into_iter()).unwrap();
    (0..).map_while(|id| pipeline.id_to_token(id)).collect()
}

#[test]
fn merges_of_shakespeare_equal_those_of_the_library() {
    let dirs = TestDirs::new();
    let source = Source::resolve("shakespeare").unwrap();
    let phases = Mutex::new(Vec::new());
    let on_progress = |progress: Progress| phases.lock().unwrap().push(progress);
    let prepared = prepare(&source, &kind_of("bpe:2049"), &dirs.options(), &on_progress).unwrap();

    let text = source.read(dirs.root.path(), &|_| ()).unwrap();
    let expected = vocabulary_of_the_library(&text[..1_003_854], 2048);
    assert_eq!(expected.len(), 2048);
    let vocabulary = |json: &str| -> Vec<String> {
        let file: serde_json::Value = serde_json::from_str(json).unwrap();
        let mut tokens: Vec<(u64, String)> = file["model"]["vocab"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(token, id)| (id.as_u64().unwrap(), token.clone()))
            .collect();
        tokens.sort_unstable();
        tokens.into_iter().map(|(_, token)| token).collect()
    };
    let found = vocabulary(&prepared.tokenizer.to_json());
    assert_eq!(found[..2048], expected);
    assert_eq!(found[2048..], ["<|endoftext|>"]);

    let phases = phases.into_inner().unwrap();
    let of = |phase| phases.iter().filter(move |progress| progress.phase == phase);
    assert_eq!(of(Phase::CountWords).next_back().map(|progress| progress.done), Some(1_003_854));
    let merges: Vec<u64> = of(Phase::LearnMerges).map(|progress| progress.done).collect();
    assert_eq!(merges.last(), Some(&1791));
    assert!(merges.is_sorted() && of(Phase::LearnMerges).all(|progress| progress.total == Some(1792)));
}

#[test]
fn only_the_byte_order_mark_is_removed() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "\u{feff}one\r\n\u{feff}two\r\n \t");
    let (train, valid) = decoded(&dirs.prepare(&path, "byte").unwrap());
    assert_eq!(train + &valid, "one\r\n\u{feff}two\r\n \t");
}

#[test]
fn the_split_follows_the_fraction_or_a_file() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "0123456789");
    let half = Options { valid_fraction: 0.5, ..dirs.options() };
    assert_eq!(decoded(&dirs.prepare_with(&path, "char", &half).unwrap()), ("01234".into(), "56789".into()));

    let valid = dirs.write("valid.txt", "12x");
    let with_file = Options { valid: Some(valid.clone()), ..dirs.options() };
    let prepared = dirs.prepare_with(&path, "char", &with_file).unwrap();
    assert_eq!(decoded(&prepared), ("0123456789".into(), "12x".into()));
    assert_eq!(prepared.meta.split, Split::File(valid.canonicalize().unwrap()));
    assert_eq!(prepared.meta.valid_source.unwrap().n_characters, 3);

    // Each split has its own folder, so that none replaces another.
    assert_eq!(dirs.prepare_with(&path, "char", &half).unwrap().outcome, Outcome::Reused);
    assert_eq!(dirs.prepare_with(&path, "char", &with_file).unwrap().outcome, Outcome::Reused);

    dirs.write("valid.txt", "120");
    let prepared = dirs.prepare_with(&path, "char", &with_file).unwrap();
    assert_eq!(prepared.outcome, Outcome::Rebuilt { reason: "the validation text has changed".into() });
    assert_eq!(decoded(&prepared).1, "120");
}

#[test]
fn a_folder_is_its_text_files_sorted_by_path() {
    let dirs = TestDirs::new();
    dirs.write("corpus/b.txt", "second");
    dirs.write("corpus/a/z.md", "first");
    dirs.write("corpus/c.rs", "third");
    dirs.write("corpus/.hidden", "hidden");
    dirs.write("corpus/.git/config", "hidden");
    dirs.write("corpus/empty.txt", "");
    dirs.write("corpus/image.png", b"\x89PNG\0\xff");
    let folder = dirs.sources.path().join("corpus");
    let all = Options { valid_fraction: 1e-9, ..dirs.options() };

    let prepared = dirs.prepare_with(&folder, "byte", &all).unwrap();
    let (train, valid) = decoded(&prepared);
    assert_eq!(train + &valid, "first\n\nsecond\n\nthird");

    let (train, valid) = decoded(&dirs.prepare_with(&folder, "gpt2", &all).unwrap());
    assert_eq!(train + &valid, "first\n\n<|endoftext|>second\n\n<|endoftext|>third");

    dirs.write("corpus/d.txt", "fourth");
    let prepared = dirs.prepare_with(&folder, "byte", &all).unwrap();
    assert_eq!(prepared.outcome, Outcome::Rebuilt { reason: "the text has changed".into() });
}

#[test]
fn prepared_data_within_the_folder_is_skipped() {
    let dirs = TestDirs::new();
    dirs.write("text.txt", "some text");
    let options = Options { root: dirs.sources.path().join("datasets"), ..Options::default() };
    let first = dirs.prepare_with(dirs.sources.path(), "byte", &options).unwrap();
    let second = dirs.prepare_with(dirs.sources.path(), "byte", &options).unwrap();
    assert_eq!((first.outcome, second.outcome), (Outcome::Built, Outcome::Reused));
}

#[test]
fn an_unchanged_text_is_not_prepared_twice() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "a text of some length");
    for kind in ["char", "byte", "gpt2", "bpe:260"] {
        let first = dirs.prepare(&path, kind).unwrap();
        let second = dirs.prepare(&path, kind).unwrap();
        assert_eq!((&first.outcome, &second.outcome), (&Outcome::Built, &Outcome::Reused), "{kind}");
        assert_eq!(first.meta, second.meta, "{kind}");
        assert_eq!(tokens(&first.train), tokens(&second.train), "{kind}");
    }
}

#[test]
fn a_touched_text_is_compared_and_a_modified_one_prepared_again() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "a text of some length");
    dirs.prepare(&path, "char").unwrap();

    let touch = |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    touch(1_000_000_000);
    let touched = dirs.prepare(&path, "char").unwrap();
    assert_eq!(touched.outcome, Outcome::Reused);
    // The new time is saved, so that the text is not read again.
    let again = prepare(&Source::Path(path.clone()), &kind_of("char"), &dirs.options(), &|progress| {
        assert_eq!(progress.phase, Phase::Verify);
    });
    assert_eq!(again.unwrap().meta, touched.meta);

    dirs.write("text.txt", "b text of some length");
    touch(1_000_000_001);
    let changed = dirs.prepare(&path, "char").unwrap();
    assert_eq!(changed.outcome, Outcome::Rebuilt { reason: "the text has changed".into() });
    assert!(decoded(&changed).0.starts_with("b text"));
}

#[test]
fn damage_is_detected_and_repaired() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "a text of some length");
    let intact = dirs.prepare(&path, "char").unwrap();
    let damage = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let file = intact.folder.join(file);
        let mut bytes = fs::read(&file).unwrap();
        change(&mut bytes);
        // In a new file: `intact` has the old one mapped.
        fs::remove_file(&file).unwrap();
        fs::write(&file, bytes).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let cases: [(&str, Change<'_>, &str); 6] = [
        (
            "train.bin",
            &|bytes| bytes.truncate(4),
            "train.bin can't be used: it has 4 bytes, not 18 U16 tokens",
        ),
        (
            "train.bin",
            &|bytes| bytes.truncate(5),
            "train.bin can't be used: it has 5 bytes, not 18 U16 tokens",
        ),
        ("val.bin", &|bytes| bytes[0] ^= 1, "val.bin can't be used: its checksum is wrong"),
        ("meta.json", &|bytes| bytes.truncate(9), "meta.json can't be used: EOF"),
        (
            "meta.json",
            &|bytes| {
                *bytes = String::from_utf8_lossy(bytes)
                    .replace("\"format_version\": 1", "\"format_version\": 99")
                    .into()
            },
            "meta.json can't be used: its format is version 99",
        ),
        ("tokenizer.json", &|bytes| bytes.clear(), "tokenizer.json"),
    ];
    for (file, change, expected) in cases {
        damage(file, change);
        let repaired = dirs.prepare(&path, "char").unwrap();
        let Outcome::Rebuilt { reason } = &repaired.outcome else { panic!("{file}: {:?}", repaired.outcome) };
        assert!(reason.contains(expected), "{file}: {reason}");
        assert_eq!(repaired.meta, intact.meta);
        assert_eq!(tokens(&repaired.train), tokens(&intact.train));
        assert_eq!(dirs.prepare(&path, "char").unwrap().outcome, Outcome::Reused);
    }
    fs::remove_file(intact.folder.join("val.bin")).unwrap();
    assert!(matches!(dirs.prepare(&path, "char").unwrap().outcome, Outcome::Rebuilt { .. }));
}

#[test]
fn leftovers_of_an_interrupted_run_are_removed() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "a text of some length");
    // A panic simulates an interruption while a shard is written.
    let stopped = std::panic::catch_unwind(|| {
        prepare(&Source::Path(path.clone()), &kind_of("char"), &dirs.options(), &|progress| {
            assert_ne!(progress.phase, Phase::Encode, "stopped on purpose");
        })
    });
    assert!(stopped.is_err());
    let parent = dirs.root.path().join(names(dirs.root.path()).into_iter().find(|n| n != ".locks").unwrap());
    assert_eq!(names(&parent), [""; 0]);

    // A killed process leaves its temporary folder.
    fs::create_dir(parent.join(".tmp-killed")).unwrap();
    fs::write(parent.join(".tmp-killed/train.bin"), "half").unwrap();
    assert_eq!(dirs.prepare(&path, "char").unwrap().outcome, Outcome::Built);
    assert_eq!(names(&parent), ["char"]);
}

#[test]
fn concurrent_calls_prepare_the_text_once() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "a text of some length ".repeat(5_000));
    let mut outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| dirs.prepare(&path, "gpt2").unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap().outcome).collect()
    });
    outcomes.retain(|outcome| *outcome != Outcome::Reused);
    assert_eq!(outcomes, [Outcome::Built]);
}

#[test]
fn a_given_tokenizer_is_used_and_unknown_characters_are_named() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "first line\nab ba");
    let given = |characters: &str| {
        let tokenizer = Tokenizer::from_chars(characters.chars()).unwrap();
        let choice = TokenizerChoice::Given(tokenizer);
        prepare(&Source::Path(path.clone()), &choice, &dirs.options(), &|_| ())
    };
    let prepared = given("abcdefghijklmnopqrst \n").unwrap();
    assert_eq!(prepared.tokenizer.vocab_size(), 22);
    assert_eq!(given("abcdefghijklmnopqrst \n").unwrap().outcome, Outcome::Reused);
    assert_eq!(given("abcdefghijklmnopqrstu \n").unwrap().outcome, Outcome::Built);

    // The shards of a tokenizer that was made from this text are reused.
    let made = dirs.prepare(&path, "char").unwrap();
    let choice = TokenizerChoice::Given(made.tokenizer);
    let again = prepare(&Source::Path(path.clone()), &choice, &dirs.options(), &|_| ()).unwrap();
    assert_eq!((again.outcome, again.folder), (Outcome::Reused, made.folder));

    let error = given("cdefghijklmnopqrst \n").unwrap_err();
    assert!(matches!(error, Error::UnknownCharacter { character: 'a', line: 2, .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("text.txt, line 2: the character 'a' (U+0061) is not in the tokenizer's vocabulary"),
        "{error}"
    );
}

#[test]
fn progress_reaches_the_end() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "a text of some length ".repeat(200_000));
    let last = AtomicU64::new(0);
    let note = |progress: Progress| {
        if progress.phase == Phase::Encode {
            assert_eq!(progress.total, Some(4_400_000));
            let before = last.swap(progress.done, Ordering::Relaxed);
            assert!(before < progress.done);
        }
    };
    prepare(&Source::Path(path), &kind_of("byte"), &dirs.options(), &note).unwrap();
    assert_eq!(last.into_inner(), 4_400_000);
}

fn message(result: Result<Prepared>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn invalid_text_is_refused_with_its_position() {
    let dirs = TestDirs::new();
    let empty = dirs.write("empty.txt", "");
    assert!(
        message(dirs.prepare(&empty, "char")).ends_with("empty.txt is empty; give a file with text in it")
    );
    let mark_only = dirs.write("mark.txt", "\u{feff}");
    assert!(matches!(dirs.prepare(&mark_only, "char"), Err(Error::Empty { .. })));

    let separators = dirs.write("separators.txt", "<|endoftext|>\n".repeat(9));
    assert!(matches!(dirs.prepare(&separators, "gpt2"), Err(Error::Empty { .. })));
    assert!(dirs.prepare(&separators, "byte").is_ok(), "plain text");
    fs::remove_dir_all(dirs.root.path()).unwrap();

    let latin = dirs.write("latin.txt", b"caf\xe9 au lait");
    let error = message(dirs.prepare(&latin, "char"));
    assert!(error.contains("latin.txt is not UTF-8 text: invalid character at byte 3"), "{error}");

    // At the end of a long file with a byte order mark.
    let mut far = "\u{feff}".to_owned() + &"é".repeat(2_000_000);
    far.push('你');
    let far = dirs.write("far.txt", &far.as_bytes()[..far.len() - 1]);
    let error = message(dirs.prepare(&far, "char"));
    assert!(error.contains("far.txt is damaged UTF-8 text: invalid character at byte 4000003"), "{error}");

    dirs.write("folder/good.txt", "good");
    dirs.write("folder/bad.txt", b"bad\xff");
    let error = message(dirs.prepare(&dirs.sources.path().join("folder"), "char"));
    assert!(error.contains("bad.txt is not UTF-8 text: invalid character at byte 3"), "{error}");

    // No files of the failed attempts remain.
    assert_eq!(names(dirs.root.path()), [".locks"]);
}

#[test]
fn a_path_that_cannot_be_read_is_refused() {
    let dirs = TestDirs::new();
    let missing = dirs.sources.path().join("missing.txt");
    assert!(message(dirs.prepare(&missing, "char")).starts_with("there is no file or folder "));
    let file = dirs.write("file.txt", "text");
    let below_a_file = dirs.prepare(&file.join("x"), "char");
    assert!(matches!(below_a_file, Err(Error::Read { .. })), "{below_a_file:?}");

    dirs.write("no-text/.hidden", "text");
    let error = message(dirs.prepare(&dirs.sources.path().join("no-text"), "char"));
    assert!(
        error.contains("no-text contains no text file (hidden, binary, empty and validation files, runs"),
        "{error}"
    );

    #[cfg(unix)]
    {
        let link = dirs.sources.path().join("link.txt");
        std::os::unix::fs::symlink("nowhere.txt", &link).unwrap();
        let error = message(dirs.prepare(&link, "char"));
        assert!(
            error.ends_with(
                "link.txt is a link to nowhere.txt, which does not exist; fix the link or give another path"
            ),
            "{error}"
        );
        assert!(matches!(dirs.prepare(Path::new("/dev/null"), "char"), Err(Error::NotAFile { .. })));
    }

    let missing_valid = Options { valid: Some(missing), ..dirs.options() };
    assert!(matches!(dirs.prepare_with(&file, "char", &missing_valid), Err(Error::Missing { .. })));
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "text");
    let blocked = dirs.write("blocked", "a file in the way");
    let options = Options { root: blocked, ..Options::default() };
    let error = dirs.prepare_with(&path, "char", &options).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

#[test]
fn a_fraction_must_leave_text_on_both_sides() {
    let dirs = TestDirs::new();
    let path = dirs.write("text.txt", "text");
    for fraction in [0.0, 1.0, -0.5, f64::NAN] {
        let options = Options { valid_fraction: fraction, ..dirs.options() };
        assert!(matches!(dirs.prepare_with(&path, "char", &options), Err(Error::ValidFraction(_))));
    }
}

#[test]
fn a_text_shorter_than_a_window_has_no_windows() {
    let dirs = TestDirs::new();
    let prepared = dirs.prepare(&dirs.write("text.txt", "short text"), "char").unwrap();
    let windows = Windows::new(Arc::clone(&prepared.train), 64, 4, 0, RngStream::Train);
    assert!(matches!(windows, Err(Error::TooShort { n_tokens: 9, block_size: 64 })));
    Windows::new(prepared.train, 8, 4, 0, RngStream::Train).unwrap();
}

/// 300 short stories, and a separator after each.
fn stories() -> String {
    let endings = ["A cat sat.", "Rain fell at noon.", "Dogs run far.", "The boat left.", "Bread is warm."];
    (0..300).map(|idx| format!("{}\n<|endoftext|>", endings[idx * 7 % 5])).collect()
}

#[test]
fn separators_become_tokens_if_the_tokenizer_has_one() {
    let dirs = TestDirs::new();
    let path = dirs.write("stories.txt", stories());
    for kind in ["gpt2", "bpe:300"] {
        let prepared = dirs.prepare(&path, kind).unwrap();
        let end = prepared.tokenizer.end_of_text().unwrap();
        let ids = [tokens(&prepared.train), tokens(&prepared.valid)].concat();
        assert_eq!(ids.iter().filter(|&&id| id == end).count(), 300, "{kind}");
        let documents = prepared.meta.documents.clone().unwrap();
        assert_eq!((documents.n_separators, documents.n_documents, documents.are_tokens), (300, 300, true));
        let text_bytes = prepared.meta.train.text_bytes + prepared.meta.valid.text_bytes;
        assert_eq!(
            text_bytes,
            stories().replace("<|endoftext|>", "").len() as u64,
            "separators do not count as text"
        );
        // No merges were learned from the separators.
        let learned = (0..u32::try_from(prepared.tokenizer.vocab_size()).unwrap())
            .filter(|&id| id != end)
            .filter_map(|id| prepared.tokenizer.token_bytes(id))
            .filter(|bytes| bytes.starts_with(b"endof"));
        assert!(kind == "gpt2" || learned.count() == 0, "{kind}");
    }
    for kind in ["char", "byte"] {
        let prepared = dirs.prepare(&path, kind).unwrap();
        assert_eq!(prepared.train.len() + prepared.valid.len(), stories().len(), "plain text");
        let documents = prepared.meta.documents.unwrap();
        assert_eq!((documents.n_separators, documents.are_tokens), (300, false));
    }
}

#[test]
fn the_text_is_not_split_within_a_separator() {
    let dirs = TestDirs::new();
    let (before, after) = ("x".repeat(50), "y".repeat(50));
    let path = dirs.write("two.txt", format!("{before}<|endoftext|>{after}"));
    for fraction in [0.45, 0.5, 0.54] {
        let options = Options { valid_fraction: fraction, ..dirs.options() };
        let prepared = dirs.prepare_with(&path, "gpt2", &options).unwrap();
        let [train, valid] =
            [&prepared.train, &prepared.valid].map(|part| prepared.tokenizer.decode(&tokens(part)));
        assert_eq!(train, format!("{before}<|endoftext|>"), "{fraction}");
        assert_eq!(valid, after);
    }
}

#[test]
fn shards_of_versions_without_separators_are_reused() {
    let dirs = TestDirs::new();
    let path = dirs.write("stories.txt", stories());
    let without = Options { separator: None, ..dirs.options() };
    let old = dirs.prepare_with(&path, "bpe:300", &without).unwrap();
    let end = old.tokenizer.end_of_text().unwrap();
    assert!(tokens(&old.train).iter().all(|&id| id != end), "separators are plain text in older recipes");
    assert!(
        old.meta.documents.is_some_and(|documents| !documents.are_tokens && documents.n_separators == 300)
    );
    // An older version used the name that shards with separators have now.
    fs::rename(&old.folder, old.folder.with_file_name("bpe-300")).unwrap();
    let again = dirs.prepare_with(&path, "bpe:300", &without).unwrap();
    assert_eq!((again.outcome, again.folder), (Outcome::Reused, old.folder.with_file_name("bpe-300")));
    // A new run prepares its own shards.
    let new = dirs.prepare(&path, "bpe:300").unwrap();
    assert!(matches!(new.outcome, Outcome::Rebuilt { .. }), "{:?}", new.outcome);
    assert!(tokens(&new.train).contains(&new.tokenizer.end_of_text().unwrap()));
    assert_eq!(dirs.prepare(&path, "bpe:300").unwrap().outcome, Outcome::Reused);
    let given = TokenizerChoice::Given(old.tokenizer);
    let source = Source::Path(path);
    let old = prepare(&source, &given, &without, &|_| ()).unwrap();
    assert!(tokens(&old.train).iter().all(|&id| id != end));
    assert_eq!(
        dirs.prepare_with(source_path(&source), "bpe:300", &dirs.options()).unwrap().outcome,
        Outcome::Reused
    );
}

fn source_path(source: &Source) -> &Path {
    match source {
        Source::Path(path) => path,
        Source::Corpus(_) | Source::Url(_) => panic!("the source is a path"),
    }
}
