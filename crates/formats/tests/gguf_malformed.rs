//! Damaged and hostile files: each is refused with a line that says what and where.

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

/// A file that is refused, and what the message has to have in it.
fn check(file: FileBytes, expected: &str) {
    let message = refusal(&file.build());
    assert!(message.contains(expected), "{message:?} does not have {expected:?} in it");
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
        "not a GGUF file: it begins with PK\\x03\\x04 and not with GGUF"
    );
    assert!(refusal(b"GG").contains("the magic number at byte 0 takes 4 bytes, and 2 are left"));
    assert_eq!(refusal(b""), "the file is empty; copy it again from where it came from");
    check(FileBytes::new(4, 0, 0), "version 4 of GGUF is not supported");
    check(FileBytes::new(0, 0, 0), "version 0");
    assert!(matches!(Gguf::parse(b"GGUF\0\0\0\x03"), Err(Error::BigEndian)));
}

#[test]
fn counts_that_the_file_has_no_room_for() {
    check(FileBytes::new(3, u64::MAX, 0), "18446744073709551615 tensors at byte 8 do not fit in the 8 bytes");
    check(FileBytes::new(3, 0, 1 << 60), "1152921504606846976 keys at byte 16 do not fit in the 0 bytes");
    // The least that a tensor takes is 24 bytes: one byte fewer for two of them.
    check(FileBytes::new(3, 2, 0).raw(&[0; 39]), "2 tensors");
    check(FileBytes::new(1, 0, u32::MAX.into()), "4294967295 keys at byte 12");
    let array = |ty: u32, n: u64| FileBytes::new(3, 0, 1).key("bomb", ARRAY).u32(ty).u64(n).raw(&[0; 64]);
    check(array(U32, 1 << 62), "4611686018427387904 values at byte 44 do not fit in the 64 bytes");
    check(array(STRING, 9), "9 values");
    check(array(ARRAY, 6), "6 values");
    check(array(BOOL, 65), "65 values");
}

#[test]
fn texts() {
    let long = FileBytes::new(3, 0, 1).u64(u64::MAX).raw(&[b'a'; 64]);
    check(long, "the key at byte 32 takes 18446744073709551615 bytes, and 64 are left");
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
    let truth = FileBytes::new(3, 0, 1).key("answer", BOOL).raw(&[2]);
    check(truth, "at byte 42, \"answer\" has a bool that is 2");
    let twice = FileBytes::new(3, 0, 2).key("answer", U32).u32(42).key("answer", U32).u32(42);
    check(twice, "there are two keys \"answer\"");

    // Arrays of one array each. Without a limit, a file of some megabytes would overflow the stack.
    let deep = |depth: usize| {
        let file = FileBytes::new(3, 0, 1).key("deep", ARRAY);
        (1..depth).fold(file, |file, _| file.u32(ARRAY).u64(1)).u32(U32).u64(0).build()
    };
    assert!(Gguf::parse(&deep(4)).is_ok());
    assert!(refusal(&deep(5)).contains("\"deep\" has arrays more than 4 deep"));
    assert!(refusal(&deep(1_000_000)).contains("\"deep\" has arrays more than 4 deep"));
}

#[test]
fn alignments() {
    let aligned = |alignment: u32| FileBytes::new(3, 0, 1).key("general.alignment", U32).u32(alignment);
    assert!(Gguf::parse(&aligned(64).build()).is_ok_and(|file| file.alignment() == 64));
    check(aligned(0), "`general.alignment` is u32 0; it has to be a u32 that is a power of two");
    check(aligned(48), "`general.alignment` is u32 48");
    check(
        FileBytes::new(3, 0, 1).key("general.alignment", STRING).string("32"),
        "`general.alignment` is str \"32\"",
    );
}

#[test]
fn tensors() {
    check(with_tensors(&[("a", &[2; 5], F32, 0)], 128), "\"a\" has 5 dimensions; at most 4");
    check(with_tensors(&[("a", &[1], 12, 0)], 32), "\"a\" is of type q4_K, which is not supported");
    check(with_tensors(&[("a", &[1], 77, 0)], 32), "\"a\" is of type number 77");
    check(
        with_tensors(&[("a", &[33, 2], 8, 0)], 128),
        "\"a\" has rows of 33 values; q8_0 needs multiples of 32",
    );
    check(
        with_tensors(&[("a", &[1 << 32, 1 << 32], F32, 0)], 32),
        "size of tensor \"a\", [4294967296, 4294967296]",
    );
    check(with_tensors(&[("a", &[1 << 62], F32, 0)], 32), "is beyond the numbers of this machine");
    check(with_tensors(&[("a", &[1], F32, 0), ("a", &[1], F32, 32)], 64), "there are two tensors \"a\"");
}

#[test]
fn places_of_tensors() {
    check(with_tensors(&[("a", &[4], F32, 4)], 64), "\"a\" begins at 4, not a multiple of 32");
    let beyond =
        "cut short or damaged: it has 96 bytes, and tensor \"a\" takes 16 from byte 96 on; copy it again";
    check(with_tensors(&[("a", &[4], F32, 32)], 32), beyond);
    check(
        with_tensors(&[("a", &[4], F32, u64::MAX - 31)], 32),
        "\"a\" takes 16 from byte 18446744073709551648 on",
    );
    check(
        with_tensors(&[("a", &[4], F32, 0)], 15),
        "it has 79 bytes, and tensor \"a\" takes 16 from byte 64 on",
    );
    check(with_tensors(&[("b", &[4], F32, 0), ("a", &[9], F32, 0)], 64), "share bytes");
    check(
        with_tensors(&[("b", &[4], F32, 32), ("a", &[9], F32, 0)], 64),
        "tensors \"a\" and \"b\" share bytes",
    );
    // In any order, with gaps, or with nothing in them, they are fine.
    let fine = [("b", &[4][..], F32, 64), ("none", &[0, 7], F32, 64), ("a", &[8], F32, 0)];
    let bytes = with_tensors(&fine, 80).build();
    let file = Gguf::parse(&bytes).unwrap();
    assert_eq!(file.tensor("a").unwrap().bytes.len(), 32);
    assert!(file.tensor("none").unwrap().to_f32().is_empty());
}

#[test]
fn every_beginning_of_a_file() {
    let file =
        FileBytes::new(3, 1, 2).key("name", STRING).string("tiny").key("sizes", ARRAY).u32(U32).u64(2).u64(7);
    let whole = file.tensor("a", &[2, 4], F32, 0).align().raw(&[0; 32]).build();
    assert!(Gguf::parse(&whole).is_ok());
    for length in 0..whole.len() {
        assert!(Gguf::parse(&whole[..length]).is_err(), "{length} bytes are taken for a whole file");
    }
}
