//! Corrupted and malicious files: each is read, or the error names it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking; clippy.toml sees no test in a helper")]

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use formats::weights::{Weights, read_value};
use proptest::prelude::*;
use proptest::sample::Index;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// `{"w": 4x4 tensor}` in pickle protocol 2.
const PICKLE: &[u8] = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storage\
    ctorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x10tQK\0K\x04K\x04\x86K\x04K\x01\x86\x89\
    ccollections\nOrderedDict\n)RtRs.";

const HEADER: &str = concat!(
    r#"{"x":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"#,
    r#""y":{"dtype":"F32","shape":[],"data_offsets":[12,16]}}"#
);

const INDEX: &str = r#"{"metadata": {}, "weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}"#;

/// Names and values of the tensors of a file. A valid `a.safetensors` is in the same folder. Checks that an error names
/// one of the two.
fn read(name: &str, contents: &[u8]) -> Result<Vec<(String, Vec<f32>)>, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.safetensors"), safetensors()).unwrap();
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    let read = |path: &Path| {
        let tensors = Weights::open(path)?.into_tensors().into_iter();
        tensors.map(|(name, tensor)| Ok((name, tensor.read()?))).collect::<formats::weights::Result<Vec<_>>>()
    };
    read(&path).map_err(|error| {
        let error = error.to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        error
    })
}

fn safetensors() -> Vec<u8> {
    let length = (HEADER.len() as u64).to_le_bytes();
    [&length, HEADER.as_bytes(), &[0; 16]].concat()
}

/// An archive of `torch.save` with a pickle and the values of one tensor. `method` compresses the pickle.
fn archive(pickle: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents, method) in
        [("data.pkl", pickle, method), ("data/0", &[0; 64], CompressionMethod::Stored)]
    {
        let options = SimpleFileOptions::default().compression_method(method);
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// A valid file of each format.
fn valid() -> [(&'static str, Vec<u8>); 3] {
    [
        ("model.safetensors", safetensors()),
        ("model.safetensors.index.json", INDEX.into()),
        ("pytorch_model.bin", archive(PICKLE, CompressionMethod::Stored)),
    ]
}

fn n_values(tensors: &[(String, Vec<f32>)]) -> usize {
    tensors.iter().map(|(_, values)| values.len()).sum()
}

#[test]
fn valid_files_are_read() {
    assert_eq!(valid().map(|(name, contents)| n_values(&read(name, &contents).unwrap())), [7, 7, 16]);
    assert_eq!(n_values(&read("ckpt.pt", &archive(PICKLE, CompressionMethod::Deflated)).unwrap()), 16);
}

#[test]
fn a_pickle_that_unpacks_to_more_than_the_file_is_refused() {
    // Each byte makes an empty list.
    let lists = [b"\x80\x02", [b']'; 1 << 20].as_slice(), b"."].concat();
    let contents = archive(&lists, CompressionMethod::Deflated);
    assert!(contents.len() < 1 << 13);
    let error = read("pytorch_model.bin", &contents).unwrap_err();
    assert!(error.contains("its pickle unpacks to 1048579 bytes, but the file has"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ckpt.pt");
    fs::write(&path, contents).unwrap();
    let error = read_value::<Vec<u8>>(&path, Some("settings")).unwrap_err().to_string();
    assert!(error.contains("ckpt.pt: its pickle unpacks"), "{error}");
}

#[test]
fn a_missing_shard_is_named() {
    for shard in ["b.safetensors", "b.bin"] {
        let index = INDEX.replace("a.safetensors", shard);
        let error = read("model.safetensors.index.json", index.as_bytes()).unwrap_err();
        assert!(error.starts_with("cannot open ") && error.ends_with(shard), "{error}");
    }
}

/// A file of each format with some bytes changed, and truncated at `cut`.
fn changed(changes: &[(Index, u8)], cut: Option<Index>) -> [(&'static str, Vec<u8>); 3] {
    valid().map(|(name, mut contents)| {
        for (place, byte) in changes {
            let place = place.index(contents.len());
            contents[place] = *byte;
        }
        contents.truncate(cut.map_or(contents.len(), |cut| cut.index(contents.len())));
        (name, contents)
    })
}

proptest! {
    #[test]
    fn any_bytes_are_refused_by_name(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (name, _) in valid() {
            prop_assert!(read(name, &bytes).is_err());
        }
    }

    #[test]
    fn a_truncated_file_is_refused(cut: Index) {
        for (name, contents) in changed(&[], Some(cut)) {
            prop_assert!(read(name, &contents).is_err(), "{} of {} bytes", name, contents.len());
        }
    }

    #[test]
    fn changed_files_are_read_or_refused_by_name(
        changes in prop::collection::vec(any::<(Index, u8)>(), 1..5), cut: Option<Index>,
    ) {
        for (name, contents) in changed(&changes, cut) {
            let n_values_read = read(name, &contents).map_or(0, |tensors| n_values(&tensors));
            prop_assert!(n_values_read <= contents.len().max(safetensors().len()));
        }
    }

    #[test]
    fn changed_pickles_are_read_or_refused_by_name(changes in prop::collection::vec(any::<(Index, u8)>(), 1..5)) {
        // Within an archive with a correct checksum.
        let mut pickle = PICKLE.to_owned();
        for (place, byte) in changes {
            let place = place.index(pickle.len());
            pickle[place] = byte;
        }
        let _ = read("pytorch_model.bin", &archive(&pickle, CompressionMethod::Stored));
    }

    #[test]
    fn changed_headers_are_read_or_refused_by_name(changes in prop::collection::vec(any::<(Index, u8)>(), 1..5)) {
        let mut contents = safetensors();
        for (place, byte) in changes {
            contents[size_of::<u64>() + place.index(HEADER.len())] = byte;
        }
        let _ = read("model.safetensors", &contents);
    }
}
