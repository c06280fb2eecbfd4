//! PyTorch's files: whole ones of any container, or a pickle that the target puts into the usual one.
#![no_main]

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;

use fuzz::{Allowance, read_file, read_tensors};
use libfuzzer_sys::fuzz_target;
use formats::weights::{self, Weights, read_value};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// The reader copies up to 64 MiB and a million objects of what a pickle refers to again.
const ALLOWANCE: Allowance = Allowance { fixed: 512 << 20, per_byte: 1 << 10 };

fuzz_target!(|input: &[u8]| {
    let Some((&layout, rest)) = input.split_first() else { return };
    let file = if layout.is_multiple_of(2) { rest.to_vec() } else { in_archive(rest) };
    let read = |open: &dyn Fn(&Path) -> weights::Result<Weights>| {
        read_file("pytorch_model.bin", &file, ALLOWANCE, |path| open(path).and_then(read_tensors));
    };
    read(&|path| Weights::open(path));
    read(&|path| Weights::open_under(path, "model"));
    read_file("pytorch_model.bin", &file, ALLOWANCE, |path| read_value::<Settings>(path, Some("settings")));
});

/// Of every kind that settings of training have.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "they are there to be read")]
struct Settings {
    size: usize,
    share: Option<f64>,
    on: bool,
    words: HashMap<String, Vec<u32>>,
}

/// What `torch.save` makes of a pickle and of one tensor's 64 bytes.
fn in_archive(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, contents) in [("data.pkl", pickle), ("data/0", &[0; 64]), ("version", b"3\n")] {
        archive.start_file(format!("archive/{name}"), stored).expect("the name is new");
        archive.write_all(contents).expect("memory takes it");
    }
    archive.finish().expect("memory takes it").into_inner()
}
