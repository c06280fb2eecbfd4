//! Malformed model files of every kind: a one-line error that names the file, exit code 1, bounded time and memory.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::support::{bounded, fixture};

/// Many times longer than any refusal takes.
const TIME: Duration = Duration::from_secs(10);

/// A copy of a valid model, to be damaged.
struct Copy {
    folder: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let whole = fixture("tests/fixtures/finetune");
        let copy = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(copy.folder.path().join("model")).unwrap();
        for file in ["config.json", WEIGHTS, TOKENIZER] {
            fs::copy(whole.join(file), copy.path(file)).unwrap();
        }
        copy
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join("model").join(file)
    }

    fn write(&self, file: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(file), contents).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }

    fn replace(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}: {text}");
        self.write(file, text.replacen(from, to, 1));
    }

    /// Checks that each command refuses the model and leaves nothing behind.
    fn check_refused_by(&self, name: &str, file: &str, commands: &[&[&str]]) {
        for args in commands {
            let started = Instant::now();
            let error = bounded(self.folder.path(), args).failure();
            assert!(started.elapsed() < TIME, "{name}, {args:?}: {:?}", started.elapsed());
            assert!(!error.contains("panicked"), "{name}, {args:?}: {error}");
            assert!(error.starts_with("error: ") && error.ends_with('\n'), "{name}, {args:?}: {error:?}");
            assert_eq!(error.lines().count(), 1, "{name}, {args:?}: {error}");
            assert!(error.contains(file), "{name}, {args:?}: {file} is not named: {error}");
            assert!(error.len() < 500, "{name}, {args:?}: {error}");
        }
        assert!(!self.folder.path().join("runs").exists(), "{name}: a run is left behind");
        assert!(!self.folder.path().join("executed").exists(), "{name}: code was executed");
    }
}

const WEIGHTS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";

/// A name, and a function that damages a model.
type Case<'a> = (&'a str, &'a dyn Fn(&Copy));

/// Checks that `generate` and `import` refuse each damaged model and name the file.
fn check_refused(file: &str, cases: &[Case<'_>]) {
    check_refused_by(&[&["generate", "model"], &["import", "model"]], file, cases);
}

fn check_refused_by(commands: &[&[&str]], file: &str, cases: &[Case<'_>]) {
    for (name, damage) in cases {
        let copy = Copy::new();
        damage(&copy);
        copy.check_refused_by(name, file, commands);
    }
}

/// Edits the header and the values of a safetensors file.
fn edited(edit: impl Fn(&mut String, &mut Vec<u8>)) -> impl Fn(&Copy) {
    move |copy| {
        let bytes = fs::read(copy.path(WEIGHTS)).unwrap();
        let (len, rest) = bytes.split_first_chunk().unwrap();
        let (header, values) = rest.split_at(u64::from_le_bytes(*len) as usize);
        let (mut header, mut values) = (String::from_utf8(header.to_vec()).unwrap(), values.to_vec());
        edit(&mut header, &mut values);
        copy.write(WEIGHTS, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &values].concat());
    }
}

/// Replaces a string in the header.
fn header(from: &'static str, to: &'static str) -> impl Fn(&Copy) {
    edited(move |header, _| {
        assert!(header.contains(from), "{header}");
        *header = header.replace(from, to);
    })
}

fn header_length(len: u64) -> impl Fn(&Copy) {
    move |copy| {
        let mut bytes = fs::read(copy.path(WEIGHTS)).unwrap();
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        copy.write(WEIGHTS, bytes);
    }
}

fn truncated(file: &'static str, len: usize) -> impl Fn(&Copy) {
    move |copy| {
        let bytes = fs::read(copy.path(file)).unwrap();
        assert!(bytes.len() > len);
        copy.write(file, &bytes[..len]);
    }
}

fn last_value(x: f32) -> impl Fn(&Copy) {
    edited(move |_, values| {
        let start = values.len() - 4;
        values[start..].copy_from_slice(&x.to_le_bytes());
    })
}

#[test]
fn safetensors() {
    check_refused(
        WEIGHTS,
        &[
            ("an empty file", &truncated(WEIGHTS, 0)),
            ("half a length", &truncated(WEIGHTS, 5)),
            ("half a header", &truncated(WEIGHTS, 900)),
            ("half the values", &truncated(WEIGHTS, 9000)),
            ("too many values", &edited(|_, values| values.extend([0; 4]))),
            ("a Git LFS pointer", &|copy| {
                copy.write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n")
            }),
            ("a header of 2^64 bytes", &header_length(u64::MAX)),
            ("a header of 2^40 bytes", &header_length(1 << 40)),
            ("an empty header", &header_length(0)),
            ("a truncated header", &header_length(700)),
            (
                "a deeply nested header",
                &edited(|header, _| *header = format!("{}{header}", "[".repeat(100_000))),
            ),
            ("an unknown dtype", &header("\"F32\"", "\"F33\"")),
            ("a number as dtype", &header("\"F32\"", "32")),
            ("an integer dtype", &header("\"F32\"", "\"I32\"")),
            ("a negative size", &header("\"shape\":[", "\"shape\":[-1,")),
            ("sizes beyond 2^64", &header("\"shape\":[", "\"shape\":[4294967296,4294967296,4294967296,")),
            ("an offset beyond the file", &header("\"data_offsets\":[0,", "\"data_offsets\":[0,1000000000")),
            ("an end before the start", &header("\"data_offsets\":[0,", "\"data_offsets\":[99999,")),
            (
                "overlapping tensors",
                &edited(|header, values| {
                    // All start at offset 0.
                    let mut tensors: serde_json::Value = serde_json::from_str(header).unwrap();
                    for (_, tensor) in
                        tensors.as_object_mut().unwrap().iter_mut().filter(|(key, _)| key.contains('.'))
                    {
                        let [start, end] = [0, 1].map(|idx| tensor["data_offsets"][idx].as_u64().unwrap());
                        tensor["data_offsets"] = serde_json::json!([0, end - start]);
                    }
                    *header = tensors.to_string();
                    values.truncate(4000);
                }),
            ),
            ("NaN", &last_value(f32::NAN)),
            ("infinity", &last_value(f32::NEG_INFINITY)),
        ],
    );
}

#[test]
fn configs() {
    let config =
        |from: &'static str, to: &'static str| move |copy: &Copy| copy.replace("config.json", from, to);
    let cases: [Case<'_>; 11] = [
        ("an empty file", &|copy| copy.write("config.json", "")),
        ("invalid UTF-8", &|copy| copy.write("config.json", [0xff, 0xfe, 0])),
        ("a list", &|copy| copy.write("config.json", "[]")),
        ("a string as a number", &config("\"n_embd\": 10", "\"n_embd\": \"10\"")),
        ("a negative number", &config("\"n_layer\": 2", "\"n_layer\": -2")),
        ("a huge number", &config("\"n_layer\": 2", "\"n_layer\": 1e300")),
        ("a huge vocabulary", &config("\"vocab_size\": 12", "\"vocab_size\": 1000000000000")),
        ("a huge number of layers", &config("\"n_layer\": 2", "\"n_layer\": 18446744073709551615")),
        ("no heads", &config("\"n_head\": 2", "\"n_head\": 0")),
        ("another model type", &config("\"model_type\": \"gpt2\"", "\"model_type\": \"llama\"")),
        ("deep nesting", &|copy| copy.write("config.json", "[".repeat(1_000_000))),
    ];
    check_refused_by(
        &[&["generate", "model"], &["import", "model"], &["info", "model"]],
        "config.json",
        &cases,
    );

    const INDEX: &str = "model.safetensors.index.json";
    let index = |text: &'static str| {
        move |copy: &Copy| {
            copy.remove(WEIGHTS);
            copy.write(INDEX, text);
        }
    };
    check_refused(
        INDEX,
        &[
            ("a list as a map", &index("{\"weight_map\": []}")),
            (
                "a shard outside the folder",
                &index("{\"weight_map\": {\"wte.weight\": \"../../secret.safetensors\"}}"),
            ),
        ],
    );
}

#[test]
fn sizes_larger_than_the_file() {
    let copy = Copy::new();
    copy.replace("config.json", "\"vocab_size\": 12", "\"vocab_size\": 10000000000");
    let error = bounded(copy.folder.path(), &["import", "model"]).failure();
    assert!(error.contains(WEIGHTS) && error.lines().count() == 1, "{error}");
    assert!(error.contains("parameters, but the file only 3030"), "{error}");
}

#[test]
fn tokenizers() {
    check_refused_by(
        &[&["generate", "model"], &["import", "model"], &["info", "model"]],
        TOKENIZER,
        &[
            ("an empty file", &truncated(TOKENIZER, 0)),
            ("half of it", &truncated(TOKENIZER, 300)),
            ("a list of tokens", &|copy| copy.write(TOKENIZER, "[\"a\", \"b\"]")),
            ("a huge id", &|copy| copy.replace(TOKENIZER, "\"a\": 1", "\"a\": 4294967295")),
            ("a negative id", &|copy| copy.replace(TOKENIZER, "\"a\": 1", "\"a\": -1")),
        ],
    );
    let pair = |vocabulary: &'static str, merges: &'static str| {
        move |copy: &Copy| {
            copy.remove(TOKENIZER);
            copy.write("vocab.json", vocabulary);
            copy.write("merges.txt", merges);
        }
    };
    check_refused(
        "vocab.json",
        &[
            ("a list of tokens", &pair("[\"a\"]", "")),
            ("a huge id", &pair("{\"a\": 4294967295}", "")),
            ("half of it", &pair("{\"a\": 0, ", "")),
        ],
    );
    check_refused("merges.txt", &[("a merge of unknown tokens", &pair("{\"a\": 0}", "a b"))]);
}

#[test]
fn pickles() {
    const PICKLE: &str = "pytorch_model.bin";
    // Executing either would make a file.
    const CALL: &[u8] = b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.";
    const ENTRY: &[u8] = b"\x80\x02}X\x01\x00\x00\x00xcposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85Rs.";
    let pickle = |bytes: &'static [u8]| {
        move |copy: &Copy| {
            copy.remove(WEIGHTS);
            copy.write(PICKLE, bytes);
        }
    };
    let layouts = fixture("../checkpoint/tests/fixtures/layouts");
    check_refused(
        PICKLE,
        &[
            ("a call", &pickle(CALL)),
            ("a call among the tensors", &pickle(ENTRY)),
            ("no dictionary", &pickle(b"\x80\x02].")),
            ("a string of 2 GB", &pickle(b"\x80\x02X\xff\xff\xff\x7f")),
            ("bytes of 2^63", &pickle(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f")),
            ("half an archive", &|copy| {
                copy.remove(WEIGHTS);
                fs::copy(layouts.join("pickle/pytorch_model.bin"), copy.path(PICKLE)).unwrap();
                truncated(PICKLE, 5000)(copy);
            }),
            ("a stride of zero over 10⁹ values", &|copy| {
                copy.remove(WEIGHTS);
                for file in ["config.json", PICKLE] {
                    fs::copy(layouts.join("stride_zero").join(file), copy.path(file)).unwrap();
                }
            }),
        ],
    );
    let checkpoint = |bytes: &'static [u8]| move |copy: &Copy| copy.write("ckpt.pt", bytes);
    check_refused_by(
        &[&["import", "model/ckpt.pt"]],
        "ckpt.pt",
        &[
            ("a call", &checkpoint(CALL)),
            ("no model", &checkpoint(b"\x80\x02}.")),
            ("text", &checkpoint(b"weights")),
        ],
    );
}

#[test]
fn gguf_files() {
    let file = |n_tensors: u64, n_keys: u64, rest: &[u8]| {
        [b"GGUF\x03\0\0\0", &n_tensors.to_le_bytes()[..], &n_keys.to_le_bytes(), rest].concat()
    };
    // A key "k" whose value is an array of an array of an array.
    let mut deep = [&1_u64.to_le_bytes()[..], b"k", &9_u32.to_le_bytes()].concat();
    for _ in 0..100_000 {
        deep.extend([&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat());
    }
    for (name, bytes) in [
        ("a huge number of tensors", file(u64::MAX, 0, &[])),
        ("a huge number of keys", file(0, u64::MAX, &[])),
        ("a huge key", file(0, 1, &u64::MAX.to_le_bytes())),
        ("nested arrays", file(0, 1, &deep)),
    ] {
        let copy = Copy::new();
        copy.write("model.gguf", bytes);
        copy.check_refused_by(
            name,
            "model.gguf",
            &[&["import", "model/model.gguf"], &["generate", "model/model.gguf"]],
        );
    }
}
