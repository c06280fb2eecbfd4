//! Safetensors: a whole file, a header to which the target adds the length and zeros as values, or an index of shards.
#![no_main]

use std::fs;
use std::path::Path;

use formats::weights::Weights;
use fuzz::{Allowance, read_file, read_tensors};
use libfuzzer_sys::fuzz_target;

const ALLOWANCE: Allowance = Allowance { fixed: 1 << 17, per_byte: 64 };

fuzz_target!(|input: &[u8]| {
    let Some((&layout, rest)) = input.split_first() else { return };
    let read = |path: &Path| Weights::open(path).and_then(read_tensors);
    match layout % 3 {
        0 => read_file("model.safetensors", rest, ALLOWANCE, read),
        1 => {
            let Some((n_bytes, header)) = rest.split_first_chunk() else { return };
            let n_bytes = usize::from(u16::from_le_bytes(*n_bytes));
            read_file("model.safetensors", &with_values(header, n_bytes), ALLOWANCE, read);
        }
        _ => read_file("model.safetensors.index.json", rest, ALLOWANCE, |path| {
            let header = br#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
            fs::write(path.with_file_name("a.safetensors"), with_values(header, 8))
                .expect("the disk has space");
            read(path)
        }),
    }
});

fn with_values(header: &[u8], n_bytes: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length, header, &vec![0; n_bytes]].concat()
}
