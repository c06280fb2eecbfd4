//! Broken models of every kind: one line that names the file, exit code 1, within a bound of time and memory.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::support::{bounded, fixture};

/// What any refusal takes, many times over.
const TIME: Duration = Duration::from_secs(10);

/// A copy of a whole model, to be broken.
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

    /// Fails unless each command refuses it as it should, and leaves nothing behind.
    fn is_refused_by(&self, name: &str, file: &str, commands: &[&[&str]]) {
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

/// A name, and how a model is broken.
type Case<'a> = (&'a str, &'a dyn Fn(&Copy));

/// Expects `generate` and `import` to refuse each broken model by the name of a file.
fn are_refused(file: &str, cases: &[Case<'_>]) {
    are_refused_by(&[&["generate", "model"], &["import", "model"]], file, cases);
}

fn are_refused_by(commands: &[&[&str]], file: &str, cases: &[Case<'_>]) {
    for (name, spoil) in cases {
        let copy = Copy::new();
        spoil(&copy);
        copy.is_refused_by(name, file, commands);
    }
}

/// Header and numbers of a safetensors file, edited.
fn edited(edit: impl Fn(&mut String, &mut Vec<u8>)) -> impl Fn(&Copy) {
    move |copy| {
        let bytes = fs::read(copy.path(WEIGHTS)).unwrap();
        let (len, rest) = bytes.split_first_chunk().unwrap();
        let (header, numbers) = rest.split_at(u64::from_le_bytes(*len) as usize);
        let (mut header, mut numbers) = (String::from_utf8(header.to_vec()).unwrap(), numbers.to_vec());
        edit(&mut header, &mut numbers);
        copy.write(WEIGHTS, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &numbers].concat());
    }
}

/// One word of a header for another, wherever it is.
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

fn last_number(x: f32) -> impl Fn(&Copy) {
    edited(move |_, numbers| {
        let start = numbers.len() - 4;
        numbers[start..].copy_from_slice(&x.to_le_bytes());
    })
}

#[test]
fn safetensors() {
    are_refused(
        WEIGHTS,
        &[
            ("nothing", &truncated(WEIGHTS, 0)),
            ("half a length", &truncated(WEIGHTS, 5)),
            ("half a header", &truncated(WEIGHTS, 900)),
            ("half the numbers", &truncated(WEIGHTS, 9000)),
            ("too many numbers", &edited(|_, numbers| numbers.extend([0; 4]))),
            ("a text", &|copy| copy.write(WEIGHTS, "version https://git-lfs.github.com/spec/v1\n")),
            ("a header of 2^64 bytes", &header_length(u64::MAX)),
            ("a header of 2^40 bytes", &header_length(1 << 40)),
            ("a header of none", &header_length(0)),
            ("a header without its end", &header_length(700)),
            (
                "a header of too much",
                &edited(|header, _| *header = format!("{}{header}", "[".repeat(100_000))),
            ),
            ("no such type", &header("\"F32\"", "\"F33\"")),
            ("a number for a type", &header("\"F32\"", "32")),
            ("integers", &header("\"F32\"", "\"I32\"")),
            ("a negative size", &header("\"shape\":[", "\"shape\":[-1,")),
            ("sizes beyond 2^64", &header("\"shape\":[", "\"shape\":[4294967296,4294967296,4294967296,")),
            ("an offset beyond the file", &header("\"data_offsets\":[0,", "\"data_offsets\":[0,1000000000")),
            ("an end before its beginning", &header("\"data_offsets\":[0,", "\"data_offsets\":[99999,")),
            (
                "overlapping tensors",
                &edited(|header, numbers| {
                    // All begin where the first does.
                    let mut tensors: serde_json::Value = serde_json::from_str(header).unwrap();
                    for (_, tensor) in
                        tensors.as_object_mut().unwrap().iter_mut().filter(|(key, _)| key.contains('.'))
                    {
                        let [start, end] = [0, 1].map(|idx| tensor["data_offsets"][idx].as_u64().unwrap());
                        tensor["data_offsets"] = serde_json::json!([0, end - start]);
                    }
                    *header = tensors.to_string();
                    numbers.truncate(4000);
                }),
            ),
            ("NaN", &last_number(f32::NAN)),
            ("infinity", &last_number(f32::NEG_INFINITY)),
        ],
    );
}

#[test]
fn descriptions() {
    let config =
        |from: &'static str, to: &'static str| move |copy: &Copy| copy.replace("config.json", from, to);
    let cases: [Case<'_>; 11] = [
        ("nothing", &|copy| copy.write("config.json", "")),
        ("no text", &|copy| copy.write("config.json", [0xff, 0xfe, 0])),
        ("a list", &|copy| copy.write("config.json", "[]")),
        ("a text for a number", &config("\"n_embd\": 10", "\"n_embd\": \"10\"")),
        ("a negative number", &config("\"n_layer\": 2", "\"n_layer\": -2")),
        ("a number beyond all", &config("\"n_layer\": 2", "\"n_layer\": 1e300")),
        ("tokens without end", &config("\"vocab_size\": 12", "\"vocab_size\": 1000000000000")),
        ("layers without end", &config("\"n_layer\": 2", "\"n_layer\": 18446744073709551615")),
        ("no heads", &config("\"n_head\": 2", "\"n_head\": 0")),
        ("another model", &config("\"model_type\": \"gpt2\"", "\"model_type\": \"llama\"")),
        ("nested without end", &|copy| copy.write("config.json", "[".repeat(1_000_000))),
    ];
    are_refused_by(
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
    are_refused(
        INDEX,
        &[
            ("a list for a map", &index("{\"weight_map\": []}")),
            ("a shard elsewhere", &index("{\"weight_map\": {\"wte.weight\": \"../../secret.safetensors\"}}")),
        ],
    );
}

#[test]
fn sizes_of_more_than_the_file_holds() {
    let copy = Copy::new();
    copy.replace("config.json", "\"vocab_size\": 12", "\"vocab_size\": 10000000000");
    let error = bounded(copy.folder.path(), &["import", "model"]).failure();
    assert!(error.contains(WEIGHTS) && error.lines().count() == 1, "{error}");
    assert!(error.contains("parameters, and the file holds 3030"), "{error}");
}

#[test]
fn tokenizers() {
    are_refused_by(
        &[&["generate", "model"], &["import", "model"], &["info", "model"]],
        TOKENIZER,
        &[
            ("nothing", &truncated(TOKENIZER, 0)),
            ("half of it", &truncated(TOKENIZER, 300)),
            ("a list of tokens", &|copy| copy.write(TOKENIZER, "[\"a\", \"b\"]")),
            ("an id beyond all", &|copy| copy.replace(TOKENIZER, "\"a\": 1", "\"a\": 4294967295")),
            ("an id below all", &|copy| copy.replace(TOKENIZER, "\"a\": 1", "\"a\": -1")),
        ],
    );
    let pair = |vocabulary: &'static str, merges: &'static str| {
        move |copy: &Copy| {
            copy.remove(TOKENIZER);
            copy.write("vocab.json", vocabulary);
            copy.write("merges.txt", merges);
        }
    };
    are_refused(
        "vocab.json",
        &[
            ("a list of tokens", &pair("[\"a\"]", "")),
            ("an id beyond all", &pair("{\"a\": 4294967295}", "")),
            ("half of it", &pair("{\"a\": 0, ", "")),
        ],
    );
    are_refused("merges.txt", &[("a merge of no tokens", &pair("{\"a\": 0}", "a b"))]);
}

#[test]
fn pickles() {
    const PICKLE: &str = "pytorch_model.bin";
    // Each would make a file if somebody executed it.
    const CALL: &[u8] = b"\x80\x02cposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85R.";
    const ENTRY: &[u8] = b"\x80\x02}X\x01\x00\x00\x00xcposix\nsystem\nX\x0e\x00\x00\x00touch executed\x85Rs.";
    let pickle = |bytes: &'static [u8]| {
        move |copy: &Copy| {
            copy.remove(WEIGHTS);
            copy.write(PICKLE, bytes);
        }
    };
    let layouts = fixture("../checkpoint/tests/fixtures/layouts");
    are_refused(
        PICKLE,
        &[
            ("a call", &pickle(CALL)),
            ("a call among the tensors", &pickle(ENTRY)),
            ("no dictionary", &pickle(b"\x80\x02].")),
            ("a text of 2 GB", &pickle(b"\x80\x02X\xff\xff\xff\x7f")),
            ("bytes of 2^63", &pickle(b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f")),
            ("half an archive", &|copy| {
                copy.remove(WEIGHTS);
                fs::copy(layouts.join("pickle/pytorch_model.bin"), copy.path(PICKLE)).unwrap();
                truncated(PICKLE, 5000)(copy);
            }),
            ("one number for a thousand million", &|copy| {
                copy.remove(WEIGHTS);
                for file in ["config.json", PICKLE] {
                    fs::copy(layouts.join("stride_zero").join(file), copy.path(file)).unwrap();
                }
            }),
        ],
    );
    let checkpoint = |bytes: &'static [u8]| move |copy: &Copy| copy.write("ckpt.pt", bytes);
    are_refused_by(
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
        ("tensors without end", file(u64::MAX, 0, &[])),
        ("keys without end", file(0, u64::MAX, &[])),
        ("a key without end", file(0, 1, &u64::MAX.to_le_bytes())),
        ("arrays in arrays", file(0, 1, &deep)),
    ] {
        let copy = Copy::new();
        copy.write("model.gguf", bytes);
        copy.is_refused_by(
            name,
            "model.gguf",
            &[&["import", "model/model.gguf"], &["generate", "model/model.gguf"]],
        );
    }
}
