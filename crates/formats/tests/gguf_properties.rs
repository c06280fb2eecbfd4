//! Properties of all files: they survive the round trip, and no input makes the reader panic.

use std::borrow::Cow;

use formats::gguf::{Array, Error, Gguf, TensorInfo, TensorType, Value};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

fn array() -> impl Strategy<Value = Array> {
    let flat = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i8>(), 0..9).prop_map(Array::I8),
        vec(any::<u16>(), 0..9).prop_map(Array::U16),
        vec(any::<i16>(), 0..9).prop_map(Array::I16),
        vec(any::<u32>(), 0..9).prop_map(Array::U32),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(any::<f32>(), 0..9).prop_map(Array::F32),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec(".{0,9}", 0..9).prop_map(Array::String),
        vec(any::<u64>(), 0..9).prop_map(Array::U64),
        vec(any::<i64>(), 0..9).prop_map(Array::I64),
        vec(any::<f64>(), 0..9).prop_map(Array::F64),
    ];
    flat.prop_recursive(3, 9, 3, |inner| vec(inner, 0..4).prop_map(Array::Array))
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<f32>().prop_map(Value::F32),
        any::<bool>().prop_map(Value::Bool),
        ".{0,20}".prop_map(Value::String),
        array().prop_map(Value::Array),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        any::<f64>().prop_map(Value::F64),
    ]
}

fn tensor() -> impl Strategy<Value = (Vec<usize>, TensorType)> {
    let ty = prop_oneof![
        Just(TensorType::F32),
        Just(TensorType::F16),
        Just(TensorType::BF16),
        Just(TensorType::Q8_0)
    ];
    (vec(prop_oneof![0_usize..6, Just(32), Just(64)], 0..4), ty).prop_map(|(dims, ty)| {
        let has_blocks = dims.first().is_some_and(|row| row.is_multiple_of(ty.block_len()));
        (dims, if has_blocks { ty } else { TensorType::F32 })
    })
}

fn content() -> impl Strategy<Value = (Vec<(String, Value)>, Vec<TensorInfo>)> {
    let metadata = btree_map("[a-z.]{1,20}", value(), 0..9);
    let tensors = btree_map("[a-z.]{1,20}", tensor(), 0..9);
    (metadata, tensors).prop_map(|(metadata, tensors)| {
        let info = |(name, (dims, ty))| TensorInfo { name, dims, ty };
        (metadata.into_iter().collect(), tensors.into_iter().map(info).collect())
    })
}

/// Values that every type represents exactly: quanta up to ±127 times 2^-6. Every block has the largest.
fn weights(tensor: &TensorInfo) -> Vec<f32> {
    let n_values: usize = tensor.dims.iter().product();
    let salt = tensor.name.len();
    let quantum = |idx: usize| if idx.is_multiple_of(32) { 254 } else { (idx * 37 + salt) % 255 };
    (0..n_values).map(|idx| (quantum(idx) as f32 - 127.0) / 64.0).collect()
}

fn written(metadata: &[(String, Value)], tensors: &[TensorInfo]) -> Vec<u8> {
    let mut bytes = Vec::new();
    formats::gguf::write(&mut bytes, metadata, tensors, |tensor| Ok::<_, Error>(weights(tensor).into()))
        .expect("the strategies only make valid files");
    bytes
}

proptest! {
    #[test]
    fn a_file_survives_the_round_trip((metadata, tensors) in content()) {
        let bytes = written(&metadata, &tensors);
        let read = Gguf::parse(&bytes).unwrap();
        let keys = read.metadata().iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let keys: Vec<_> = keys.collect();
        prop_assert_eq!(&keys, &metadata);
        for (tensor, info) in read.tensors().iter().zip(&tensors) {
            prop_assert_eq!((tensor.name, &tensor.dims, tensor.ty), (info.name.as_str(), &info.dims, info.ty));
            prop_assert_eq!(tensor.to_f32(), weights(info));
            let start = tensor.bytes.as_ptr() as usize - bytes.as_ptr() as usize;
            prop_assert!(tensor.bytes.is_empty() || start.is_multiple_of(32));
        }
        prop_assert_eq!(read.tensors().len(), tensors.len());
        prop_assert!(bytes.len().is_multiple_of(32));
        // Written again, it is the same file.
        prop_assert_eq!(written(&keys, &tensors), bytes);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), version in 1_u32..4) {
        let _ = Gguf::parse(&bytes);
        let file = [b"GGUF".as_slice(), &version.to_le_bytes(), &bytes].concat();
        let _ = Gguf::parse(&file);
    }

    #[test]
    fn changed_files_never_panic(
        (metadata, tensors) in content(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = written(&metadata, &tensors);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // Files that can still be parsed can be decoded and shown.
        for bytes in [&bytes[..], &bytes[..length.index(bytes.len())]] {
            if let Ok(read) = Gguf::parse(bytes) {
                let n_values: usize = read.tensors().iter().map(|tensor| tensor.to_f32().len()).sum();
                // A block of 18 bytes has 32.
                prop_assert!(n_values <= 2 * bytes.len());
                prop_assert!(!read.to_string().is_empty());
            }
        }
    }

    #[test]
    fn encoding_errors_are_bounded(values in vec(-8.0_f32..8.0, 64)) {
        // Half a unit in the last place, relative. For blocks half a step of 1/127 of the largest value, and the
        // rounding of the scale, times up to 127.
        for (ty, relative, of_largest) in [
            (TensorType::F32, 0.0, 0.0),
            (TensorType::F16, 2.0_f32.powi(-11), 0.0),
            (TensorType::BF16, 2.0_f32.powi(-8), 0.0),
            (TensorType::Q8_0, 2.0_f32.powi(-11), 0.501 / 127.0),
        ] {
            let info = TensorInfo { name: "a".to_owned(), dims: vec![64, 1], ty };
            let mut bytes = Vec::new();
            formats::gguf::write(&mut bytes, &[], &[info], |_| Ok::<_, Error>(values.as_slice().into())).unwrap();
            let decoded = Gguf::parse(&bytes).unwrap().tensor("a").unwrap().to_f32();
            for (block, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
                let largest = block.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                for (value, decoded) in block.iter().zip(decoded) {
                    // The last term bounds subnormal f16 values.
                    let bound = value.abs() * relative + largest * of_largest + 2.0_f32.powi(-17);
                    prop_assert!((value - decoded).abs() <= bound, "{ty}: {value} became {decoded}");
                }
            }
        }
    }
}

#[test]
fn invalid_files_are_not_written() {
    let refusal = |metadata: &[(String, Value)], tensors: &[TensorInfo]| {
        let mut bytes = Vec::new();
        let error = formats::gguf::write(&mut bytes, metadata, tensors, |tensor| {
            Ok::<_, Error>(weights(tensor).into())
        });
        assert!(bytes.is_empty(), "nothing is written before all checks");
        error.unwrap_err().to_string()
    };
    let key = |key: &str| (key.to_owned(), Value::from(1));
    assert!(refusal(&[key("a"), key("a")], &[]).contains("two keys \"a\""));
    assert!(refusal(&[key("")], &[]).contains("1 to 65535"));
    assert!(refusal(&[("general.alignment".to_owned(), Value::from(24))], &[]).contains("u32 24"));
    let deep = (0..4).fold(Array::U8(vec![]), |inner, _| Array::Array(vec![inner]));
    assert!(refusal(&[("deep".to_owned(), Value::Array(deep))], &[]).contains("more than 4 levels deep"));

    let tensor = |name: &str, dims: &[usize]| TensorInfo {
        name: name.to_owned(),
        dims: dims.to_vec(),
        ty: TensorType::Q8_0,
    };
    assert!(refusal(&[], &[tensor("a", &[32]), tensor("a", &[32])]).contains("two tensors \"a\""));
    assert!(refusal(&[], &[tensor(&"a".repeat(64), &[32])]).contains("1 to 63"));
    assert!(refusal(&[], &[tensor("a", &[33, 2])]).contains("rows of 33 values"));
    assert!(refusal(&[], &[tensor("a", &[32; 5])]).contains("5 dimensions"));
    assert!(refusal(&[], &[tensor("a", &[usize::MAX / 64 * 32, 32])]).contains("too large for this machine"));
}

/// A tensor of more than one chunk, whose threads must not change the order.
#[test]
fn every_type_is_written_and_read() {
    let dims = vec![1024, 200];
    let values: Vec<f32> =
        (0..1024 * 200).map(|idx: u32| (idx as f32 * 0.37).sin() + idx as f32 * 1e-5).collect();
    for ty in TensorType::all() {
        let info = TensorInfo { name: "a".to_owned(), dims: dims.clone(), ty };
        let mut bytes = Vec::new();
        formats::gguf::write(&mut bytes, &[], &[info], |_| Ok::<_, Error>(values.as_slice().into())).unwrap();
        let read = Gguf::parse(&bytes).unwrap();
        let tensor = read.tensor("a").unwrap();
        assert_eq!((tensor.ty, tensor.bytes.len()), (ty, 1024 * 200 / ty.block_len() * ty.block_bytes()));
        for (idx, (value, read)) in values.iter().zip(tensor.to_f32()).enumerate() {
            // Half a step of 4 bits, with scales of 6 bits.
            assert!((value - read).abs() < 0.35, "{ty}: {value} became {read} at {idx}");
        }
    }
}

#[test]
fn values_are_checked() {
    let info = |ty| TensorInfo { name: "a".to_owned(), dims: vec![4, 2], ty };
    let write = |ty: TensorType, values: &[f32]| {
        formats::gguf::write(&mut Vec::new(), &[], &[info(ty)], |_| Ok::<_, Error>(values.into()))
            .map_err(|e| e.to_string())
    };
    assert_eq!(write(TensorType::F16, &[1.0; 8]), Ok(()));
    let few = write(TensorType::F16, &[1.0; 7]).unwrap_err();
    assert_eq!(few, "tensor \"a\" of [4, 2] needs 8 values (got 7)");
    let mut values = [1.0; 8];
    values[5] = 1e5;
    assert_eq!(
        write(TensorType::F16, &values).unwrap_err(),
        "tensor \"a\" has the value 100000 at index 5, which f16 cannot represent; choose f32 or bf16"
    );
    assert_eq!(write(TensorType::BF16, &values), Ok(()));

    // An error of the callback is returned unchanged.
    #[derive(Debug, PartialEq)]
    struct CallerError;
    impl From<Error> for CallerError {
        fn from(error: Error) -> Self {
            unreachable!("{error}")
        }
    }
    let values = |_: &TensorInfo| Err::<Cow<'static, [f32]>, _>(CallerError);
    assert_eq!(
        formats::gguf::write(&mut Vec::new(), &[], &[info(TensorType::F32)], values),
        Err(CallerError)
    );
}
