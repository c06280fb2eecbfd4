//! Files of versions 1 to 3, built byte by byte.

mod support;

use formats::gguf::{Array, Gguf, TensorType, Value};
use support::FileBytes;

/// A file of `version` with two keys, two tensors and their data.
fn file(version: u32) -> Vec<u8> {
    let keys = FileBytes::new(version, 2, 2).key("general.name", 8).string("tiny");
    let keys = keys.key("sizes", 9).u32(10).length(2).u64(5).u64(u64::MAX);
    let tensors = keys.tensor("norm", &[3], 0, 0).tensor("head", &[2, 1], 1, 32).align();
    let norm = [1.5_f32, -2.0, 0.0].map(f32::to_le_bytes).concat();
    tensors.raw(&norm).align().raw(&[0x00, 0x3C, 0x00, 0xC0]).build()
}

#[test]
fn all_versions_are_read_alike() {
    for version in [1, 2, 3] {
        let bytes = file(version);
        let read = Gguf::parse(&bytes).unwrap();
        assert_eq!((read.version(), read.alignment()), (version, 32));
        assert_eq!(read.value("general.name").and_then(Value::as_str), Some("tiny"));
        assert_eq!(read.value("sizes"), Some(&Value::Array(Array::U64(vec![5, u64::MAX]))));
        assert_eq!(read.value("size"), None);

        let norm = read.tensor("norm").unwrap();
        assert_eq!((norm.ty, &norm.dims[..]), (TensorType::F32, &[3][..]));
        assert_eq!(norm.to_f32(), [1.5, -2.0, 0.0]);
        let head = read.tensor("head").unwrap();
        assert_eq!((head.ty, &head.dims[..]), (TensorType::F16, &[2, 1][..]));
        assert_eq!(head.to_f32(), [1.0, -2.0]);
        assert!(read.tensor("tail").is_none());
    }
    // Version 1 has other lengths than version 3.
    let mut relabelled = file(3);
    relabelled[4] = 1;
    assert!(Gguf::parse(&relabelled).is_err());
}

#[test]
fn the_writer_writes_version_3() {
    let metadata = [
        ("general.name".to_owned(), Value::from("tiny")),
        ("sizes".to_owned(), Value::Array(Array::U64(vec![5, u64::MAX]))),
    ];
    let tensor = |name: &str, dims: &[usize], ty| formats::gguf::TensorInfo {
        name: name.to_owned(),
        dims: dims.to_vec(),
        ty,
    };
    let tensors = [tensor("norm", &[3], TensorType::F32), tensor("head", &[2, 1], TensorType::F16)];
    let mut bytes = Vec::new();
    formats::gguf::write(&mut bytes, &metadata, &tensors, |tensor| {
        let values: &[f32] = if tensor.name == "norm" { &[1.5, -2.0, 0.0] } else { &[1.0, -2.0] };
        Ok::<_, formats::gguf::Error>(values.into())
    })
    .unwrap();
    let mut expected = file(3);
    // The last tensor is padded too.
    expected.resize(expected.len().next_multiple_of(32), 0);
    assert_eq!(bytes, expected);
}
