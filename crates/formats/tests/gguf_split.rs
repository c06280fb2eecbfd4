//! Models that are split into several files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use formats::gguf::{self, Gguf, TensorInfo, TensorType, Value};

/// A part with tensors of these names. Their values are the first byte of the name.
fn part(keys: &[(&str, Value)], names: &[&str]) -> Vec<u8> {
    let metadata: Vec<_> = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let info = |name: &&str| TensorInfo { name: (*name).to_owned(), dims: vec![4, 2], ty: TensorType::F16 };
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, &metadata, &names.iter().map(info).collect::<Vec<_>>(), |tensor| {
        Ok::<_, gguf::Error>(vec![f32::from(tensor.name.as_bytes()[0]); 8].into())
    })
    .unwrap();
    bytes
}

fn split_keys(number: u16, count: u16, n_tensors: i32) -> [(&'static str, Value); 3] {
    [
        ("split.no", Value::U16(number)),
        ("split.count", Value::U16(count)),
        ("split.tensors.count", Value::I32(n_tensors)),
    ]
}

fn joined(parts: &[Vec<u8>]) -> gguf::Result<Gguf<'_>> {
    Gguf::join(parts.iter().map(|part| Gguf::parse(part).unwrap()).collect())
}

#[test]
fn all_tensors_of_all_parts_are_found() {
    let model = [&[("general.name", Value::from("tale"))][..], &split_keys(0, 3, 3)].concat();
    // llama-gguf-split can put only metadata into the first part.
    let parts =
        [part(&model, &[]), part(&split_keys(1, 3, 3), &["b", "a"]), part(&split_keys(2, 3, 3), &["c"])];
    let whole = joined(&parts).unwrap();
    assert_eq!(whole.metadata(), [("general.name", Value::from("tale"))]);
    assert_eq!(whole.string("general.name").unwrap(), "tale");
    assert_eq!(whole.value("split.count"), None);
    assert_eq!(whole.tensors().iter().map(|tensor| tensor.name).collect::<Vec<_>>(), ["b", "a", "c"]);
    for name in ["a", "b", "c"] {
        assert_eq!(whole.tensor(name).unwrap().to_f32(), [f32::from(name.as_bytes()[0]); 8]);
    }
}

#[test]
fn a_single_file_is_returned_unchanged() {
    let keys = split_keys(1, 3, 9);
    let file = [part(&keys, &["a"])];
    let read = joined(&file).unwrap();
    assert_eq!((read.metadata().len(), read.tensors().len()), (3, 1));
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let refusal = |second: &[(&str, Value)], names: &[&str]| {
        let parts = [part(&split_keys(0, 2, 2), &["a"]), part(second, names)];
        joined(&parts).unwrap_err().to_string()
    };
    let check = |message: String, expected: &str| assert!(message.contains(expected), "{message}");
    check(
        refusal(&split_keys(0, 2, 2), &["b"]),
        "part 2 of the split model is wrong: `split.no` is 0, expected 1",
    );
    check(refusal(&split_keys(1, 3, 2), &["b"]), "`split.count` is 3, expected 2");
    check(refusal(&[], &["b"]), "`split.no` is missing, expected 1");
    check(refusal(&split_keys(1, 2, 2), &[]), "have 1 tensors, but `split.tensors.count` is 2");
    check(refusal(&split_keys(1, 2, 2), &["a"]), "there are two tensors \"a\"");
}
