//! Which files are read, and how: encodings, formats, links, outputs, and what existing data keeps to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; clippy.toml sees no test in a helper")]

use std::fs;
use std::path::{Path, PathBuf};

use dataset::{Meta, Options, Outcome, Prepared, Result, Rules, Source, TokenizerChoice, prepare, read_text};
use tempfile::TempDir;

const SONNET: &str = "Shall I compare thee to a summer's day?\nThou art more lovely and more temperate.\n";

/// A folder with a corpus and another for what is prepared of it.
struct Place {
    root: TempDir,
    sources: TempDir,
}

impl Place {
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

    /// The text that is made of a path.
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

/// The names of the files that were read, in the order of reading.
fn files(prepared: &Prepared) -> Vec<String> {
    let name = |file: &dataset::SourceFile| file.path.file_name().unwrap().to_string_lossy().into_owned();
    prepared.meta.source.files.iter().map(name).collect()
}

fn utf16(text: &str, order: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(order).collect()
}

/// What a file holds that `infer` takes for each format.
fn png() -> &'static [u8] {
    b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x01\0\0\0\x01\x08\x02"
}

#[test]
fn utf_16_is_the_text_that_it_encodes() {
    let place = Place::new();
    // More than one block, with characters of every length across its borders.
    let text = "Ἄνδρα μοι ἔννεπε, 学而时习之 🙂\r\n".repeat(40_000);
    for (name, order) in [("le", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("be", u16::to_be_bytes)] {
        for mark in ["", "\u{feff}"] {
            let file =
                place.write(&format!("{name}{}.txt", mark.len()), utf16(&format!("{mark}{text}"), order));
            assert!(place.text(&file) == text, "{name} {mark:?}");
            assert!(read_text(&file).unwrap() == text, "{name} {mark:?}");
        }
    }
    // One of a folder too.
    place.write("folder/a.txt", utf16("one\u{feff}", u16::to_le_bytes));
    place.write("folder/b.txt", "two");
    assert_eq!(place.text(&place.path("folder")), "one\u{feff}\n\ntwo");
    // An odd number of bytes is not advised to become an empty text.
    let cut = place.write("cut.txt", b"\xff\xfea");
    assert_eq!(
        place.error(&cut),
        "cut.txt is UTF-16LE text that is cut short: its last character is incomplete; name a text file"
    );
    assert_eq!(
        read_text(&cut).unwrap_err().to_string(),
        place.prepare_with(&cut, &place.options()).unwrap_err().to_string()
    );
    let cut = place.write("cut.txt", b"\xfe\xff\0a\0");
    assert!(
        place
            .error(&cut)
            .contains("cut short: its last character is incomplete; leave such bytes out: `iconv -c ")
    );
    // An unpaired half of a character is named, as a wrong byte of UTF-8 is.
    let mut damaged = utf16(&SONNET.repeat(9), u16::to_le_bytes);
    damaged.splice(20..20, [0x00, 0xd8]);
    let file = place.write("damaged.txt", damaged);
    assert!(
        place
            .error(&file)
            .starts_with("damaged.txt is damaged UTF-16LE text: byte 20 begins no valid character; "),
        "{}",
        place.error(&file)
    );
}

#[test]
fn a_byte_order_mark_is_left_out_by_whatever_reads_a_text() {
    let place = Place::new();
    let file = place.write("marked.txt", "\u{feff}to be\u{feff}");
    assert_eq!(place.text(&file), "to be\u{feff}");
    assert_eq!(read_text(&file).unwrap(), "to be\u{feff}");
    assert_eq!(Source::Path(file).read(place.root.path(), &|_| ()).unwrap(), "to be\u{feff}");
}

#[test]
fn what_is_not_text_is_named_with_what_makes_it_text() {
    let place = Place::new();
    let here = place.path("").display().to_string();
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
            "holds Parquet data, not text; if its column `text` has the text, print it: `python3 -c 'import pandas, sys; print(*pandas.read_parquet(sys.argv[1])[\"text\"], sep=\"\\n\\n\")' []/c.parquet > []/c.parquet.txt`",
        ),
        (
            "d.pdf",
            b"%PDF-1.4\n1 0 obj",
            "holds PDF data, not text; extract its text: `pdftotext []/d.pdf []/d.txt`",
        ),
        (
            "lfs.txt",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 5\n",
            "is a Git LFS pointer, and not the file; run `git lfs pull` in the folder that was cloned",
        ),
        (
            "e.db",
            b"SQLite format 3\0\x10\0\x01\x01",
            "holds SQLite data, not text; write its text to a file, for example with Python, and name that",
        ),
        (
            "my thesis.docx",
            b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0b\0\0\0_rels/.rels\xff",
            "holds Word data, not text; convert it: `pandoc -t plain '[]/my thesis.docx' -o '[]/my thesis.docx.txt'`",
        ),
        ("f.gguf", b"GGUF\x03\0\0\0\0\0\0\0", "holds GGUF data, not text; it is a model; name a text"),
        ("g.jpg", png(), "holds PNG data, not text; name a text file"),
        (
            "train.bin",
            b"\x0b\0\xc6\0\x11\x27\xff\xc3\x0d\0\0\0",
            "holds binary data, not text; if it has nanoGPT's tokens, name the text that they were made from",
        ),
        ("h.txt", &[0; 99], "holds binary data, not text; name a text file"),
    ] {
        let file = place.write(name, content);
        let error = place.prepare_with(&file, &place.options()).unwrap_err().to_string();
        let error = error.replace(here, "[]");
        assert_eq!(error, format!("[]/{name} {expected}"));
        assert_eq!(read_text(&file).unwrap_err().to_string().replace(here, "[]"), error);
    }
    #[cfg(unix)]
    {
        let error = place.prepare_with(&place.path("a b.txt.gz"), &place.options()).unwrap_err().to_string();
        run(command(&error));
        assert_eq!(place.text(&place.path("a b.txt")), "hello");
    }
}

#[test]
fn text_full_of_control_characters_is_refused_and_text_with_a_few_is_not() {
    let place = Place::new();
    let few = place.write("few.txt", "a log of \x1b[1mcolours\x1b[0m with one\0 in it\n");
    assert!(place.text(&few).contains("one\0 in"));
    // Its beginning is text.
    let full = place.write("full.txt", SONNET.repeat(200) + &"\u{1}\u{82}".repeat(20_000));
    assert_eq!(
        place.error(&full),
        "full.txt is not text: 71% of its characters are control characters; name a text file"
    );
}

/// The first command of a message.
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
fn the_advice_for_an_older_encoding_works_as_it_stands() {
    let place = Place::new();
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
        let file = place.write(&name, &bytes);
        let error = place.error(&file);
        assert!(error.starts_with(&format!("{name} is not UTF-8 text: byte ")), "{error}");
        let error = place.prepare_with(&file, &place.options()).unwrap_err().to_string();
        run(command(&error));
        assert_eq!(place.text(&file.with_extension("utf8.txt")), text, "{error}");
    }
}

#[cfg(unix)]
#[test]
fn all_bad_files_of_a_folder_are_named_and_mended_by_the_advice() {
    let place = Place::new();
    place.write("folder/a.txt", "good");
    place.write("folder/a2.txt", "\u{1}a".repeat(99));
    place.write("folder/b.txt", encoding_rs::WINDOWS_1252.encode(&"déjà vu, à côté\n".repeat(9)).0);
    let mut damaged = "Ἄνδρα μοι ἔννεπε\n".as_bytes().to_vec();
    damaged.insert(5, 0xff);
    place.write("folder/c/d.txt", damaged);
    place.write("folder/e.txt", "\u{1}\u{2}".repeat(99));
    place.write("folder/image.png", png());
    let folder = place.path("folder");
    let error = place.error(&folder);
    let lines: Vec<_> = error.lines().collect();
    assert_eq!(lines[0], "4 files of folder are not text:");
    assert_eq!(lines[1], "  folder/a2.txt is not text: 50% of its characters are control characters");
    assert!(
        lines[2].starts_with(
            "  folder/b.txt is not UTF-8 text: byte 1 begins no valid character; it looks like WINDOWS-125"
        ),
        "{error}"
    );
    assert!(lines[3].starts_with("  folder/c/d.txt is damaged UTF-8 text: byte 5 begins"), "{error}");
    assert_eq!(lines[4], "  folder/e.txt is not text: 100% of its characters are control characters");
    assert_eq!(lines.len(), 5, "{error}");

    fs::remove_file(place.path("folder/a2.txt")).unwrap();
    fs::remove_file(place.path("folder/e.txt")).unwrap();
    let error = place.prepare_with(&folder, &place.options()).unwrap_err().to_string();
    for line in error.lines().skip(1) {
        run(command(line));
    }
    assert_eq!(
        place.text(&folder),
        format!("good\n\n{}\n\nἌνδρα μοι ἔννεπε\n", "déjà vu, à côté\n".repeat(9))
    );
}

/// A folder of texts with what this program writes beside them.
fn with_outputs(place: &Place) -> PathBuf {
    place.write("my.txt", SONNET);
    for file in ["config.json", "recipe.toml", "README.md", "metrics.jsonl", "samples.txt", "loss.svg"] {
        place.write(&format!("runs/one/{file}"), "not a text to learn");
    }
    place.write("models/config.json", "{}");
    place.write("models/model.safetensors", b"\x02\0\0\0\0\0\0\0{}");
    place.write("models/merges.txt", "a b");
    let options = Options { root: place.path("other data"), ..Options::default() };
    place.prepare_with(&place.path("my.txt"), &options).unwrap();
    place.sources.path().into()
}

#[test]
fn what_the_program_writes_is_no_text() {
    let place = Place::new();
    let folder = with_outputs(&place);
    assert_eq!(place.text(&folder), SONNET);
    // A picture of a run, beside the text; other pictures are text.
    let svg = r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">"#;
    place.write("loss.svg", format!("{svg}<!-- Drawn by Kindling -->\n</svg>\n"));
    assert_eq!(place.text(&folder), SONNET);
    place.write("z.svg", format!("{svg}</svg>"));
    assert_eq!(place.text(&folder), format!("{SONNET}\n\n{svg}</svg>"));
    fs::remove_file(place.path("z.svg")).unwrap();
    // Each on its own is no sign of one.
    place.write("notes/config.json", "{\"my\": \"notes\"}");
    place.write("notes-0123abcd/recipe.toml", "[cake]");
    place.write("notes-0123abcd/meta.json", "{}");
    let prepared = place.prepare_with(&folder, &place.options()).unwrap();
    assert_eq!(files(&prepared), ["my.txt", "config.json", "meta.json", "recipe.toml"]);
    // Who names a run gets it.
    assert_eq!(place.text(&place.path("runs/one/samples.txt")), "not a text to learn");
}

#[test]
fn validation_text_is_not_trained_on() {
    let place = Place::new();
    place.write("corpus/a.txt", "train");
    let valid = place.write("corpus/b/valid.txt", "valid");
    let folder = place.path("corpus");
    let prepared =
        place.prepare_with(&folder, &Options { valid: Some(valid.clone()), ..place.options() }).unwrap();
    assert_eq!(files(&prepared), ["a.txt"]);
    assert_eq!(decoded(&prepared), "trainvalid");
    // A folder of it, and a text to train on within a folder to validate on.
    let valid_folder = Options { valid: Some(place.path("corpus/b")), ..place.options() };
    assert_eq!(decoded(&place.prepare_with(&folder, &valid_folder).unwrap()), "trainvalid");
    let whole = Options { valid: Some(folder.clone()), ..place.options() };
    assert_eq!(decoded(&place.prepare_with(&place.path("corpus/a.txt"), &whole).unwrap()), "trainvalid");
    // A copy of it, but not a file that only has its size.
    place.write("corpus/a-copy.txt", "valid");
    place.write("corpus/a-size.txt", "train");
    let with_copy = Options { valid: Some(valid.clone()), ..place.options() };
    assert_eq!(files(&place.prepare_with(&folder, &with_copy).unwrap()), ["a-size.txt", "a.txt"]);
    let older = Options { rules: Rules::V1, ..with_copy };
    assert!(files(&place.prepare_with(&folder, &older).unwrap()).contains(&"a-copy.txt".into()));
    // A copy of the text to train on, in a folder to validate on and by itself.
    let text = place.write("text.txt", "train");
    assert_eq!(decoded(&place.prepare_with(&text, &whole).unwrap()), "trainvalid\n\nvalid");
    let copy = Options { valid: Some(place.path("corpus/a.txt")), ..place.options() };
    let error = place.prepare_with(&text, &copy).unwrap_err().to_string();
    let expected = format!(
        "{} of --valid is a copy of {}, which",
        copy.valid.as_ref().unwrap().display(),
        text.display()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(place.prepare_with(&text, &Options { rules: Rules::V1, ..copy }).is_ok());
    fs::remove_file(place.path("corpus/a-copy.txt")).unwrap();
    fs::remove_file(place.path("corpus/a-size.txt")).unwrap();
    // Nothing is left to train on.
    for (path, kind) in [(valid.with_file_name(""), "folder"), (valid.clone(), "text")] {
        let same = Options { valid: Some(path.clone()), ..place.options() };
        let error = place.prepare_with(&path, &same).unwrap_err().to_string();
        let expected = format!("--data and --valid both name the same {kind}, {}; leave", path.display());
        assert!(error.starts_with(&expected), "{error}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&valid, place.path("link.txt")).unwrap();
        fs::hard_link(&valid, place.path("corpus/c.txt")).unwrap();
        let linked = Options { valid: Some(place.path("link.txt")), ..place.options() };
        assert_eq!(files(&place.prepare_with(&folder, &linked).unwrap()), ["a.txt"]);
    }
}

#[cfg(unix)]
#[test]
fn a_file_is_read_once_and_links_that_lead_nowhere_stop_nothing() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let file = place.write("corpus/b.txt", "text");
    place.write("corpus/d/e.txt", "more");
    symlink(&file, place.path("corpus/c.txt")).unwrap();
    fs::hard_link(&file, place.path("corpus/d/f.txt")).unwrap();
    symlink(place.path("corpus/d"), place.path("corpus/g")).unwrap();
    symlink(place.path("corpus"), place.path("corpus/d/loop")).unwrap();
    symlink("gone", place.path("corpus/a.txt")).unwrap();
    symlink("self", place.path("corpus/self")).unwrap();
    symlink("b.txt/within", place.path("corpus/within")).unwrap();
    symlink("somebody@somewhere.1234", place.path("corpus/.#b.txt")).unwrap();
    // A link to a file elsewhere is another file.
    symlink(place.write("elsewhere.txt", "linked"), place.path("corpus/z.txt")).unwrap();
    let prepared = place.prepare_with(&place.path("corpus"), &place.options()).unwrap();
    assert_eq!(files(&prepared), ["b.txt", "e.txt", "z.txt"]);
    assert_eq!(decoded(&prepared), "text\n\nmore\n\nlinked");
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_are_kept() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let folder = place.path("").join(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&folder).unwrap();
    let name = OsStr::from_bytes(b"\xff.txt");
    fs::write(folder.join(name), "text").unwrap();
    fs::write(folder.join("valid.txt"), "valid").unwrap();
    let options = Options { valid: Some(folder.join("valid.txt")), ..place.options() };
    let prepared = place.prepare_with(&folder, &options).unwrap();
    let again = place.prepare_with(&folder, &options).unwrap();
    assert_eq!((decoded(&again).as_str(), again.outcome), ("textvalid", Outcome::Reused));
    let meta: Meta = serde_json::from_slice(&fs::read(prepared.folder.join("meta.json")).unwrap()).unwrap();
    assert_eq!(meta.source.files[0].path, folder.join(name));
    assert_eq!(meta.split, dataset::Split::File(folder.join("valid.txt")));
}

/// What an older version has prepared of a folder: its sidecar does not name the rules.
fn prepared_by_v1(place: &Place, folder: &Path) -> Prepared {
    let prepared = place.prepare_with(folder, &Options { rules: Rules::V1, ..place.options() }).unwrap();
    let old = prepared.folder.with_file_name("byte");
    if prepared.folder != old {
        fs::rename(&prepared.folder, &old).unwrap();
    }
    let meta = fs::read_to_string(old.join("meta.json")).unwrap();
    assert!(!meta.contains("rules"), "{meta}");
    Prepared { folder: old, ..prepared }
}

#[test]
fn what_older_rules_read_can_be_read_again_and_is_not_replaced_by_it() {
    let place = Place::new();
    let folder = with_outputs(&place);
    place.write("notes.txt", utf16(SONNET, u16::to_le_bytes));
    let old = prepared_by_v1(&place, &folder);
    assert!(old.meta.source.files.len() > 6 && !files(&old).contains(&"notes.txt".into()));

    // A new run reads by the new rules, a resumed one by the old, however often and in whatever order.
    let by_v1 = Options { rules: Rules::V1, ..place.options() };
    assert_eq!(place.prepare_with(&folder, &by_v1).unwrap().outcome, Outcome::Reused);
    let new = place.prepare_with(&folder, &place.options()).unwrap();
    assert_eq!(new.outcome, Outcome::Rebuilt { reason: "the text has changed".into() });
    assert_eq!(files(&new), ["my.txt", "notes.txt"]);
    for outcome in [Outcome::Built, Outcome::Reused] {
        let again = place.prepare_with(&folder, &by_v1).unwrap();
        assert_eq!((again.outcome, again.meta.train.sha256), (outcome, old.meta.train.sha256.clone()));
        let new_again = place.prepare_with(&folder, &place.options()).unwrap();
        assert_eq!(
            (new_again.outcome, new_again.meta.train.sha256),
            (Outcome::Reused, new.meta.train.sha256.clone())
        );
    }
}

#[test]
fn what_both_rules_read_alike_is_not_prepared_again() {
    let place = Place::new();
    let file = place.write("my.txt", SONNET);
    let old = prepared_by_v1(&place, &file);
    let new = place.prepare_with(&file, &place.options()).unwrap();
    assert_eq!((new.outcome, &new.folder), (Outcome::Reused, &old.folder));
    assert_eq!(new.meta.rules, Rules::NEWEST);
    assert_eq!(Meta { rules: Rules::V1, ..new.meta }, old.meta);

    // A file that was taken for text is looked at again.
    let zeros = place.write("zeros.txt", [0; 99]);
    prepared_by_v1(&place, &zeros);
    assert!(place.error(&zeros).contains("zeros.txt holds binary data, not text"));
}
