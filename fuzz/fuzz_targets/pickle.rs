//! PyTorch files: a whole file in any container, or a pickle that the target puts into a zip archive.
#![no_main]

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;

use formats::weights::{self, Weights, read_value};
use fuzz::{Allowance, read_file, read_tensors};
use libfuzzer_sys::fuzz_target;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// The reader copies up to 64 MiB and a million objects for memo references in a pickle.
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

/// One field for each type that training settings have.
#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "the fields exist for deserialisation")]
struct Settings {
    size: usize,
    share: Option<f64>,
    on: bool,
    words: HashMap<String, Vec<u32>>,
}

/// The archive that `torch.save` writes, with a pickle and the 64 bytes of one tensor.
fn in_archive(pickle: &[u8]) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, contents) in [("data.pkl", pickle), ("data/0", &[0; 64]), ("version", b"3\n")] {
        archive.start_file(format!("archive/{name}"), stored).expect("the name is new");
        archive.write_all(contents).expect("writing to memory succeeds");
    }
    archive.finish().expect("writing to memory succeeds").into_inner()
}
