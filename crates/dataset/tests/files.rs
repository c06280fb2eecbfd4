//! Selection and decoding of text files: encodings, formats, links, Kindling outputs, and older rules.

#![expect(clippy::unwrap_used, reason = "tests may panic; clippy.toml does not exempt their helpers")]

use std::fs;
use std::path::{Path, PathBuf};

use dataset::{Meta, Options, Outcome, Prepared, Result, Rules, Source, TokenizerChoice, prepare, read_text};
use tempfile::TempDir;

const SONNET: &str = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate.\n";

/// A folder of sources and a root of prepared data.
struct TestDirs {
    root: TempDir,
    sources: TempDir,
}

impl TestDirs {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), sources: tempfile::tempdir().unwrap() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.sources.path().canonicalize().unwrap().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn options(&self) -> Options {
        Options { root: self.root.path().into(), ..Options::default() }
    }

    fn prepare_with(&self, path: &Path, options: &Options) -> Result<Prepared> {
        let choice = TokenizerChoice::Kind("byte".parse().unwrap());
        prepare(&Source::Path(path.into()), &choice, options, &|_| ())
    }

    /// The text prepared from a path.
    fn text(&self, path: &Path) -> String {
        decoded(&self.prepare_with(path, &self.options()).unwrap())
    }

    fn error(&self, path: &Path) -> String {
        let error = self.prepare_with(path, &self.options()).unwrap_err().to_string();
        error.replace(&format!("{}/", self.path("").display().to_string().trim_end_matches('/')), "")
    }
}

fn decoded(prepared: &Prepared) -> String {
    let decode = |tokens: &dataset::Tokens| {
        let mut ids = vec![0; tokens.len()];
        tokens.copy_range(0, &mut ids);
        let ids: Vec<u32> = ids.into_iter().map(i32::cast_unsigned).collect();
        prepared.tokenizer.decode(&ids)
    };
    decode(&prepared.train) + &decode(&prepared.valid)
}

/// The names of the source files, in order.
fn files(prepared: &Prepared) -> Vec<String> {
    let name = |file: &dataset::SourceFile| file.path.file_name().unwrap().to_string_lossy().into_owned();
    prepared.meta.source.files.iter().map(name).collect()
}

fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(order).collect()
}

/// The beginning of a PNG file, which `infer` recognises.
fn png() -> &'static [u8] {
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02"
}

#[test]
fn utf_16_is_decoded() {
    let dirs = TestDirs::new();
    // More than one block, with characters of every length across block boundaries.
    let text = "Ἄνδρα μοι ἔννεπε, 学而时习之 🙂\r\n".repeat(40_000);
    for (name, order) in [("le", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("be", u16::to_be_bytes)] {
        for mark in ["", "\u{feff}"] {
            let file =
                dirs.write(&format!("{name}{}.txt", mark.len()), utf16(&format!("{mark}{text}"), order));
            assert!(dirs.text(&file) == text, "{name} {mark:?}");
            assert!(read_text(&file).unwrap() == text, "{name} {mark:?}");
        }
    }
    // Also in a folder.
    dirs.write("folder/a.txt", utf16("one\u{feff}", u16::to_le_bytes));
    dirs.write("folder/b.txt", "two");
    assert_eq!(dirs.text(&dirs.path("folder")), "one\u{feff}\n\ntwo");
    // The advice must not produce an empty text.
    let cut = dirs.write("cut.txt", b"\xff\xfea");
    assert_eq!(
        dirs.error(&cut),
        "cut.txt is truncated UTF-16LE text: its last character is incomplete; give a text file"
    );
    assert_eq!(
        read_text(&cut).unwrap_err().to_string(),
        dirs.prepare_with(&cut, &dirs.options()).unwrap_err().to_string()
    );
    let cut = dirs.write("cut.txt", b"\xfe\xff\0a\0");
    assert!(dirs.error(&cut).contains(
        "truncated UTF-16BE text: its last character is incomplete; remove the invalid bytes: `iconv -c "
    ));
    // An unpaired surrogate is reported like an invalid byte of UTF-8.
    let mut damaged = utf16(&SONNET.repeat(9), u16::to_le_bytes);
    damaged.splice(20..20, [0x00, 0xd8]);
    let file = dirs.write("damaged.txt", damaged);
    assert!(
        dirs.error(&file).starts_with("damaged.txt is damaged UTF-16LE text: invalid character at byte 20; "),
        "{}",
        dirs.error(&file)
    );
}

#[test]
fn a_byte_order_mark_is_removed_by_every_reader() {
    let dirs = TestDirs::new();
    let file = dirs.write("marked.txt", "\u{feff}to be\u{feff}");
    assert_eq!(dirs.text(&file), "to be\u{feff}");
    assert_eq!(read_text(&file).unwrap(), "to be\u{feff}");
    assert_eq!(Source::Path(file).read(dirs.root.path(), &|_| ()).unwrap(), "to be\u{feff}");
}

#[test]
fn other_formats_are_named_with_the_command_that_extracts_text() {
    let dirs = TestDirs::new();
    let here = dirs.path("").display().to_string();
    let here = here.trim_end_matches('/');
    for (name, content, expected) in [
        (
            "a b.txt.gz",
            &b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0"[..],
            "holds gzip data, not text; unpack it: `gunzip -c '[]/a b.txt.gz' > '[]/a b.txt'`",
        ),
        (
            "b.txt",
            b"\x28\xb5\x2f\xfd\x24\x05\x29\0\0hello\xff",
            "holds zstd data, not text; unpack it: `zstd -dc []/b.txt > []/b.txt.txt`",
        ),
        (
            "c.parquet",
            b"PAR1\x15\x04\x15\x10\x15\x14L\x15\x02\xff\0",
            "holds Parquet data, not text; if the text is in its column `text`, extract it: `python3 -c 'import pandas, sys; print(*pandas.read_parquet(sys.argv[1])[\"text\"], sep=\"\\n\\n\")' []/c.parquet > []/c.parquet.txt`",
        ),
        (
            "d.pdf",
            b"%PDF-1.4\n1 0 obj",
            "holds PDF data, not text; extract its text: `pdftotext []/d.pdf []/d.txt`",
        ),
        (
            "lfs.txt",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 5\n",
            "is a Git LFS pointer, not the file itself; run `git lfs pull` in the cloned repository",
        ),
        (
            "e.db",
            b"SQLite format 3\0\x10\0\x01\x01",
            "holds SQLite data, not text; extract its text to a file, for example with Python, and give that file",
        ),
        (
            "my thesis.docx",
            b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0b\0\0\0_rels/.rels\xff",
            "holds Word data, not text; convert it: `pandoc -t plain '[]/my thesis.docx' -o '[]/my thesis.docx.txt'`",
        ),
        ("f.gguf", b"GGUF\x03\0\0\0\0\0\0\0", "holds GGUF data, not text; it is a model; give a text file"),
        ("g.jpg", png(), "holds PNG data, not text; give a text file"),
        (
            "train.bin",
            b"\x0b\0\xc6\0\x11\x27\xff\xc3\x0d\0\0\0",
            "holds binary data, not text; if it contains nanoGPT tokens, give the text they were made from",
        ),
        ("h.txt", &[0; 99], "holds binary data, not text; give a text file"),
    ] {
        let file = dirs.write(name, content);
        let error = dirs.prepare_with(&file, &dirs.options()).unwrap_err().to_string();
        let error = error.replace(here, "[]");
        assert_eq!(error, format!("[]/{name} {expected}"));
        assert_eq!(read_text(&file).unwrap_err().to_string().replace(here, "[]"), error);
    }
    #[cfg(unix)]
    {
        let error = dirs.prepare_with(&dirs.path("a b.txt.gz"), &dirs.options()).unwrap_err().to_string();
        run(command(&error));
        assert_eq!(dirs.text(&dirs.path("a b.txt")), "hello");
    }
}

#[test]
fn text_full_of_control_characters_is_refused_and_text_with_a_few_is_not() {
    let dirs = TestDirs::new();
    let few = dirs.write("few.txt", "a log of \x1b[1mcolours\x1b[0m with one\0 in it\n");
    assert!(dirs.text(&few).contains("one\0 in"));
    // Its first bytes are text.
    let full = dirs.write("full.txt", SONNET.repeat(200) + &"\u{1}\u{82}".repeat(20_000));
    assert_eq!(
        dirs.error(&full),
        "full.txt is not text: 71% of its characters are control characters; give a text file"
    );
}

/// The first command in a message.
#[cfg(unix)]
fn command(error: &str) -> &str {
    error.split('`').nth(1).unwrap_or_else(|| panic!("no command in {error}"))
}

#[cfg(unix)]
fn run(command: &str) {
    let status = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

#[cfg(unix)]
#[test]
fn the_advised_command_converts_other_encodings() {
    let dirs = TestDirs::new();
    for (encoding, text) in [
        (encoding_rs::WINDOWS_1252, "“Voilà”, dit-elle – c’était l’été, à la façon d’un café…\n"),
        (encoding_rs::WINDOWS_1251, "Все счастливые семьи похожи друг на друга, каждая по-своему.\n"),
        (encoding_rs::SHIFT_JIS, "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"),
        (encoding_rs::GBK, "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？人不知而不愠。\n"),
        (encoding_rs::EUC_KR, "죽는 날까지 하늘을 우러러 한 점 부끄럼이 없기를, 잎새에 이는 바람에도\n"),
        (encoding_rs::ISO_8859_2, "Wszystkie szczęśliwe rodziny są do siebie podobne, każda źle żyła.\n"),
    ] {
        let text = text.repeat(9);
        let (bytes, _, is_lossy) = encoding.encode(&text);
        assert!(!is_lossy);
        let name = format!("it's {}.txt", encoding.name());
        let file = dirs.write(&name, &bytes);
        let error = dirs.error(&file);
        assert!(
            error.starts_with(&format!("{name} is not UTF-8 text: invalid character at byte ")),
            "{error}"
        );
        let error = dirs.prepare_with(&file, &dirs.options()).unwrap_err().to_string();
        run(command(&error));
        assert_eq!(dirs.text(&file.with_extension("utf8.txt")), text, "{error}");
    }
}

#[cfg(unix)]
#[test]
fn all_invalid_files_of_a_folder_are_named_and_repaired_by_the_advice() {
    let dirs = TestDirs::new();
    dirs.write("folder/a.txt", "good");
    dirs.write("folder/a2.txt", "\u{1}a".repeat(99));
    dirs.write("folder/b.txt", encoding_rs::WINDOWS_1252.encode(&"déjà vu, à côté\n".repeat(9)).0);
    let mut damaged = "Ἄνδρα μοι ἔννεπε\n".as_bytes().to_vec();
    damaged.insert(5, 0xff);
    dirs.write("folder/c/d.txt", damaged);
    dirs.write("folder/e.txt", "\u{1}\u{2}".repeat(99));
    dirs.write("folder/image.png", png());
    let folder = dirs.path("folder");
    let error = dirs.error(&folder);
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "4 files in folder are not text:");
    assert_eq!(lines[1], "  folder/a2.txt is not text: 50% of its characters are control characters");
    assert!(
        lines[2].starts_with(
            "  folder/b.txt is not UTF-8 text: invalid character at byte 1; it looks like WINDOWS-125"
        ),
        "{error}"
    );
    assert!(
        lines[3].starts_with("  folder/c/d.txt is damaged UTF-8 text: invalid character at byte 5"),
        "{error}"
    );
    assert_eq!(lines[4], "  folder/e.txt is not text: 100% of its characters are control characters");
    assert_eq!(lines.len(), 5, "{error}");

    fs::remove_file(dirs.path("folder/a2.txt")).unwrap();
    fs::remove_file(dirs.path("folder/e.txt")).unwrap();
    let error = dirs.prepare_with(&folder, &dirs.options()).unwrap_err().to_string();
    for line in error.lines().skip(1) {
        run(command(line));
    }
    assert_eq!(
        dirs.text(&folder),
        format!("good\n\n{}\n\nἌνδρα μοι ἔννεπε\n", "déjà vu, à côté\n".repeat(9))
    );
}

/// A folder with a text and Kindling outputs.
fn with_outputs(dirs: &TestDirs) -> PathBuf {
    dirs.write("my.txt", SONNET);
    for file in ["config.json", "recipe.toml", "README.md", "metrics.jsonl", "samples.txt", "loss.svg"] {
        dirs.write(&format!("runs/one/{file}"), "not a text to learn");
    }
    dirs.write("models/config.json", "{}");
    dirs.write("models/model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    dirs.write("models/merges.txt", "a b");
    let options = Options { root: dirs.path("other data"), ..Options::default() };
    dirs.prepare_with(&dirs.path("my.txt"), &options).unwrap();
    dirs.sources.path().into()
}

#[test]
fn kindling_outputs_are_skipped() {
    let dirs = TestDirs::new();
    let folder = with_outputs(&dirs);
    assert_eq!(dirs.text(&folder), SONNET);
    // A Kindling chart beside the text is skipped; other SVG files are text.
    let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">"#;
    dirs.write("loss.svg", format!("{svg}<!-- Drawn by Kindling -->\n</svg>\n"));
    assert_eq!(dirs.text(&folder), SONNET);
    dirs.write("z.svg", format!("{svg}</svg>"));
    assert_eq!(dirs.text(&folder), format!("{SONNET}\n\n{svg}</svg>"));
    fs::remove_file(dirs.path("z.svg")).unwrap();
    // Single files of an output do not identify one.
    dirs.write("notes/config.json", "{\"my\": \"notes\"}");
    dirs.write("notes-0123abcd/recipe.toml", "[cake]");
    dirs.write("notes-0123abcd/meta.json", "{}");
    let prepared = dirs.prepare_with(&folder, &dirs.options()).unwrap();
    assert_eq!(files(&prepared), ["my.txt", "config.json", "meta.json", "recipe.toml"]);
    // A file of a run can still be given explicitly.
    assert_eq!(dirs.text(&dirs.path("runs/one/samples.txt")), "not a text to learn");
}

#[test]
fn validation_text_is_not_trained_on() {
    let dirs = TestDirs::new();
    dirs.write("corpus/a.txt", "train");
    let valid = dirs.write("corpus/b/valid.txt", "valid");
    let folder = dirs.path("corpus");
    let prepared =
        dirs.prepare_with(&folder, &Options { valid: Some(valid.clone()), ..dirs.options() }).unwrap();
    assert_eq!(files(&prepared), ["a.txt"]);
    assert_eq!(decoded(&prepared), "trainvalid");
    // A validation folder within the training folder, and a training file within the validation folder.
    let valid_folder = Options { valid: Some(dirs.path("corpus/b")), ..dirs.options() };
    assert_eq!(decoded(&dirs.prepare_with(&folder, &valid_folder).unwrap()), "trainvalid");
    let whole = Options { valid: Some(folder.clone()), ..dirs.options() };
    assert_eq!(decoded(&dirs.prepare_with(&dirs.path("corpus/a.txt"), &whole).unwrap()), "trainvalid");
    // A copy is skipped, a file of the same size is not.
    dirs.write("corpus/a-copy.txt", "valid");
    dirs.write("corpus/a-size.txt", "train");
    let with_copy = Options { valid: Some(valid.clone()), ..dirs.options() };
    assert_eq!(files(&dirs.prepare_with(&folder, &with_copy).unwrap()), ["a-size.txt", "a.txt"]);
    let older = Options { rules: Rules::V1, ..with_copy };
    assert!(files(&dirs.prepare_with(&folder, &older).unwrap()).contains(&"a-copy.txt".into()));
    // A copy of the training text, within a validation folder and as the validation file.
    let text = dirs.write("text.txt", "train");
    assert_eq!(decoded(&dirs.prepare_with(&text, &whole).unwrap()), "trainvalid\n\nvalid");
    let copy = Options { valid: Some(dirs.path("corpus/a.txt")), ..dirs.options() };
    let error = dirs.prepare_with(&text, &copy).unwrap_err().to_string();
    let expected = format!(
        "the --valid file {} is a copy of the --data file {}; omit",
        copy.valid.as_ref().unwrap().display(),
        text.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(dirs.prepare_with(&text, &Options { rules: Rules::V1, ..copy }).is_ok());
    fs::remove_file(dirs.path("corpus/a-copy.txt")).unwrap();
    fs::remove_file(dirs.path("corpus/a-size.txt")).unwrap();
    // The same path for both is an error.
    for (path, kind) in [(valid.with_file_name(""), "folder"), (valid.clone(), "file")] {
        let same = Options { valid: Some(path.clone()), ..dirs.options() };
        let error = dirs.prepare_with(&path, &same).unwrap_err().to_string();
        let expected = format!("--data and --valid are the same {kind}, {}; omit", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&valid, dirs.path("link.txt")).unwrap();
        fs::hard_link(&valid, dirs.path("corpus/c.txt")).unwrap();
        let linked = Options { valid: Some(dirs.path("link.txt")), ..dirs.options() };
        assert_eq!(files(&dirs.prepare_with(&folder, &linked).unwrap()), ["a.txt"]);
    }
}

#[cfg(unix)]
#[test]
fn a_file_is_read_once_and_broken_links_are_skipped() {
    use std::os::unix::fs::symlink;
    let dirs = TestDirs::new();
    let file = dirs.write("corpus/b.txt", "text");
    dirs.write("corpus/d/e.txt", "more");
    symlink(&file, dirs.path("corpus/c.txt")).unwrap();
    fs::hard_link(&file, dirs.path("corpus/d/f.txt")).unwrap();
    symlink(dirs.path("corpus/d"), dirs.path("corpus/g")).unwrap();
    symlink(dirs.path("corpus"), dirs.path("corpus/d/loop")).unwrap();
    symlink("gone", dirs.path("corpus/a.txt")).unwrap();
    symlink("self", dirs.path("corpus/self")).unwrap();
    symlink("b.txt/within", dirs.path("corpus/within")).unwrap();
    symlink("somebody@somewhere.1234", dirs.path("corpus/.#b.txt")).unwrap();
    // A link to a file outside the folder is read.
    symlink(dirs.write("elsewhere.txt", "linked"), dirs.path("corpus/z.txt")).unwrap();
    let prepared = dirs.prepare_with(&dirs.path("corpus"), &dirs.options()).unwrap();
    assert_eq!(files(&prepared), ["b.txt", "e.txt", "z.txt"]);
    assert_eq!(decoded(&prepared), "text\n\nmore\n\nlinked");
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_are_kept() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dirs = TestDirs::new();
    let folder = dirs.path("").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&folder).unwrap();
    let name = OsStr::from_bytes(b"\xff.txt");
    fs::write(folder.join(name), "text").unwrap();
    fs::write(folder.join("valid.txt"), "valid").unwrap();
    let options = Options { valid: Some(folder.join("valid.txt")), ..dirs.options() };
    let prepared = dirs.prepare_with(&folder, &options).unwrap();
    let again = dirs.prepare_with(&folder, &options).unwrap();
    assert_eq!((decoded(&again).as_str(), again.outcome), ("textvalid", Outcome::Reused));
    let meta: Meta = serde_json::from_slice(&fs::read(prepared.folder.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta.source.files[0].path, folder.join(name));
    assert_eq!(meta.split, dataset::Split::File(folder.join("valid.txt")));
}

/// Data prepared by an older version, whose `meta.json` does not contain the rules.
fn prepared_by_v1(dirs: &TestDirs, folder: &Path) -> Prepared {
    let prepared = dirs.prepare_with(folder, &Options { rules: Rules::V1, ..dirs.options() }).unwrap();
    let old = prepared.folder.with_file_name("byte");
    if prepared.folder != old {
        fs::rename(&prepared.folder, &old).unwrap();
    }
    let meta = fs::read_to_string(old.join("meta.json")).unwrap();
    assert!(!meta.contains("rules"), "{meta}");
    Prepared { folder: old, ..prepared }
}

#[test]
fn data_of_older_rules_is_reused_and_kept_apart() {
    let dirs = TestDirs::new();
    let folder = with_outputs(&dirs);
    dirs.write("notes.txt", utf16(SONNET, u16::to_le_bytes));
    let old = prepared_by_v1(&dirs, &folder);
    assert!(old.meta.source.files.len() > 6 && !files(&old).contains(&"notes.txt".into()));

    // New runs use the new rules and resumed runs the old ones, in any order.
    let by_v1 = Options { rules: Rules::V1, ..dirs.options() };
    assert_eq!(dirs.prepare_with(&folder, &by_v1).unwrap().outcome, Outcome::Reused);
    let new = dirs.prepare_with(&folder, &dirs.options()).unwrap();
    assert_eq!(new.outcome, Outcome::Rebuilt { reason: "the text has changed".into() });
    assert_eq!(files(&new), ["my.txt", "notes.txt"]);
    for outcome in [Outcome::Built, Outcome::Reused] {
        let again = dirs.prepare_with(&folder, &by_v1).unwrap();
        assert_eq!((again.outcome, again.meta.train.sha256), (outcome, old.meta.train.sha256.clone()));
        let new_again = dirs.prepare_with(&folder, &dirs.options()).unwrap();
        assert_eq!(
            (new_again.outcome, new_again.meta.train.sha256),
            (Outcome::Reused, new.meta.train.sha256.clone())
        );
    }
}

#[test]
fn texts_that_both_rules_read_alike_are_not_prepared_again() {
    let dirs = TestDirs::new();
    let file = dirs.write("my.txt", SONNET);
    let old = prepared_by_v1(&dirs, &file);
    let new = dirs.prepare_with(&file, &dirs.options()).unwrap();
    assert_eq!((new.outcome, &new.folder), (Outcome::Reused, &old.folder));
    assert_eq!(new.meta.rules, Rules::NEWEST);
    assert_eq!(Meta { rules: Rules::V1, ..new.meta }, old.meta);

    // A file that the old rules accepted as text is checked again.
    let zeros = dirs.write("zeros.txt", [0; 99]);
    prepared_by_v1(&dirs, &zeros);
    assert!(dirs.error(&zeros).contains("zeros.txt holds binary data, not text"));
}
