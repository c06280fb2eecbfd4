//! Damaged and malicious files: each is refused with one line that names the problem and its offset.

mod support;

use formats::gguf::{Error, Gguf};
use support::FileBytes;

const U32: u32 = 4;
const BOOL: u32 = 7;
const STRING: u32 = 8;
const ARRAY: u32 = 9;
const F32: u32 = 0;

fn refusal(bytes: &[u8]) -> String {
    let message = Gguf::parse(bytes).expect_err("the file is not refused").to_string();
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
    message
}

/// Checks that a file is refused and that the message contains `expected`.
fn check(file: FileBytes, expected: &str) {
    let message = refusal(&file.build());
    assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
}

/// A file with these tensors, each a name, dimensions, type and offset, and `n_bytes` of data.
fn with_tensors(tensors: &[(&str, &[u64], u32, u64)], n_bytes: usize) -> FileBytes {
    let file = FileBytes::new(3, tensors.len() as u64, 0);
    let add = |file: FileBytes, &(name, dims, ty, offset): &(&str, &[u64], u32, u64)| {
        file.tensor(name, dims, ty, offset)
    };
    tensors.iter().fold(file, add).align().raw(&vec![0; n_bytes])
}

#[test]
fn other_formats_and_versions() {
    assert_eq!(
        refusal(b"PK\x03\x04 an archive"),
        "not a GGUF file: it starts with PK\\x03\\x04 instead of GGUF"
    );
    assert!(refusal(b"GG").contains("the magic number at byte 0 takes 4 bytes, but only 2 are left"));
    assert_eq!(refusal(b""), "the file is empty; copy or download it again");
    check(FileBytes::new(4, 0, 0), "unsupported GGUF version 4");
    check(FileBytes::new(0, 0, 0), "version 0");
    assert!(matches!(Gguf::parse(b"GGUF\0\0\0\x03"), Err(Error::BigEndian)));
}

#[test]
fn counts_that_the_file_has_no_room_for() {
    check(
        FileBytes::new(3, u64::MAX, 0),
        "18446744073709551615 tensors at byte 8 do not fit into the remaining 8 bytes",
    );
    check(
        FileBytes::new(3, 0, 1 << 60),
        "1152921504606846976 keys at byte 16 do not fit into the remaining 0 bytes",
    );
    // A tensor takes at least 24 bytes; for two tensors, one byte is missing here.
    check(FileBytes::new(3, 2, 0).raw(&[0; 39]), "2 tensors");
    check(FileBytes::new(1, 0, u32::MAX.into()), "4294967295 keys at byte 12");
    let array = |ty: u32, n: u64| FileBytes::new(3, 0, 1).key("bomb", ARRAY).u32(ty).u64(n).raw(&[0; 64]);
    check(
        array(U32, 1 << 62),
        "4611686018427387904 values at byte 44 do not fit into the remaining 64 bytes",
    );
    check(array(STRING, 9), "9 values");
    check(array(ARRAY, 6), "6 values");
    check(array(BOOL, 65), "65 values");
}

#[test]
fn texts() {
    let long = FileBytes::new(3, 0, 1).u64(u64::MAX).raw(&[b'a'; 64]);
    check(long, "the key at byte 32 takes 18446744073709551615 bytes, but only 64 are left");
    let value = FileBytes::new(3, 0, 1).key("name", STRING).u64(2).raw(&[0xC3, 0x28]);
    check(value, "a value at byte 48 is not UTF-8");
    check(FileBytes::new(3, 0, 1).key("", U32).u32(7).raw(&[0; 8]), "the key \"\" has 0 bytes");
    let key = "k".repeat(65_536);
    check(FileBytes::new(3, 0, 1).key(&key, U32).u32(7), "kkk...\" has 65536 bytes; 1 to 65535 are allowed");
    check(with_tensors(&[(&"t".repeat(64), &[], F32, 0)], 32), "has 64 bytes; 1 to 63 are allowed");
}

#[test]
fn values() {
    let typed = |ty: u32| FileBytes::new(3, 0, 1).key("answer", ty).raw(&[0; 16]);
    check(typed(13), "at byte 38, \"answer\" has a value of unknown type 13");
    let elements = FileBytes::new(3, 0, 1).key("answer", ARRAY).u32(99).u64(0);
    check(elements, "at byte 42, \"answer\" has a value of unknown type 99");
    let invalid_bool = FileBytes::new(3, 0, 1).key("answer", BOOL).raw(&[2]);
    check(invalid_bool, "at byte 42, \"answer\" is a bool with the value 2");
    let twice = FileBytes::new(3, 0, 2).key("answer", U32).u32(42).key("answer", U32).u32(42);
    check(twice, "there are two keys \"answer\"");

    // Nested arrays of one array each. Without a limit, a file of a few megabytes would overflow the stack.
    let deep = |depth: usize| {
        let file = FileBytes::new(3, 0, 1).key("deep", ARRAY);
        (1..depth).fold(file, |file, _| file.u32(ARRAY).u64(1)).u32(U32).u64(0).build()
    };
    assert!(Gguf::parse(&deep(4)).is_ok());
    assert!(refusal(&deep(5)).contains("the arrays of \"deep\" are nested more than 4 levels deep"));
    assert!(refusal(&deep(1_000_000)).contains("the arrays of \"deep\" are nested more than 4 levels deep"));
}

#[test]
fn alignments() {
    let aligned = |alignment: u32| FileBytes::new(3, 0, 1).key("general.alignment", U32).u32(alignment);
    assert!(Gguf::parse(&aligned(64).build()).is_ok_and(|file| file.alignment() == 64));
    check(aligned(0), "invalid `general.alignment`: u32 0; it must be a u32 and a power of two");
    check(aligned(48), "invalid `general.alignment`: u32 48");
    check(
        FileBytes::new(3, 0, 1).key("general.alignment", STRING).string("32"),
        "invalid `general.alignment`: str \"32\"",
    );
}

#[test]
fn tensors() {
    check(with_tensors(&[("a", &[2; 5], F32, 0)], 128), "\"a\" has 5 dimensions; at most 4");
    check(
        with_tensors(&[("a", &[1], 10, 0)], 32),
        "\"a\" has the unsupported type q2_K; f32, f16, bf16, q4_0",
    );
    check(with_tensors(&[("a", &[1], 77, 0)], 32), "\"a\" has the unsupported type number 77");
    check(
        with_tensors(&[("a", &[33, 2], 8, 0)], 128),
        "\"a\" has rows of 33 values; q8_0 needs a multiple of 32",
    );
    check(
        with_tensors(&[("a", &[1 << 32, 1 << 32], F32, 0)], 32),
        "tensor \"a\" is too large for this machine: [4294967296, 4294967296]",
    );
    check(with_tensors(&[("a", &[1 << 62], F32, 0)], 32), "is too large for this machine");
    check(with_tensors(&[("a", &[1], F32, 0), ("a", &[1], F32, 32)], 64), "there are two tensors \"a\"");
}

#[test]
fn offsets_of_tensors() {
    check(with_tensors(&[("a", &[4], F32, 4)], 64), "the offset 4 of tensor \"a\" is not a multiple of 32");
    let beyond = "it has 96 bytes, but tensor \"a\" takes 16 at byte 96; copy or download it again";
    check(with_tensors(&[("a", &[4], F32, 32)], 32), beyond);
    check(
        with_tensors(&[("a", &[4], F32, u64::MAX - 31)], 32),
        "\"a\" takes 16 at byte 18446744073709551648",
    );
    check(with_tensors(&[("a", &[4], F32, 0)], 15), "it has 79 bytes, but tensor \"a\" takes 16 at byte 64");
    check(with_tensors(&[("b", &[4], F32, 0), ("a", &[9], F32, 0)], 64), "overlap");
    check(with_tensors(&[("b", &[4], F32, 32), ("a", &[9], F32, 0)], 64), "tensors \"a\" and \"b\" overlap");
    // Any order, gaps and empty tensors are valid.
    let valid = [("b", &[4][..], F32, 64), ("none", &[0, 7], F32, 64), ("a", &[8], F32, 0)];
    let bytes = with_tensors(&valid, 80).build();
    let file = Gguf::parse(&bytes).unwrap();
    assert_eq!(file.tensor("a").unwrap().bytes.len(), 32);
    assert!(file.tensor("none").unwrap().to_f32().is_empty());
}

#[test]
fn truncated_files() {
    let file =
        FileBytes::new(3, 1, 2).key("name", STRING).string("tiny").key("sizes", ARRAY).u32(U32).u64(2).u64(7);
    let whole = file.tensor("a", &[2, 4], F32, 0).align().raw(&[0; 32]).build();
    assert!(Gguf::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(Gguf::parse(&whole[..length]).is_err(), "{length} bytes are accepted as a whole file");
    }
}
