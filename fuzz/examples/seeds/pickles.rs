//! PyTorch files in every container, written opcode by opcode.

use std::io::Write;

use anyhow::Result;

/// Start and end of a pickle of protocol 2.
const BEGIN: &[u8] = b"\x80\x02";
const END: &[u8] = b".";

/// The number of values of the one tensor, and their bytes.
const SIZE: u8 = 16;
const VALUES: [u8; 64] = [0; 64];

/// Seeds, each after the target's number for a whole file or for a pickle to put into an archive.
pub(crate) fn all() -> Result<Vec<Vec<u8>>> {
    let modern =
        [text("storage"), class("torch", "FloatStorage"), text("0"), text("cpu"), int(SIZE)].concat();
    let modern = tensor(&mark(&modern, b"tQ"));
    let weights = dict(&[("w", modern.clone())]);
    let settings = [
        ("size", int(3)),
        ("share", b"G\x3f\xe0\0\0\0\0\0\0".to_vec()),
        ("on", b"\x88".to_vec()),
        ("words", dict(&[("a", mark(&[int(1), int(2)].concat(), b"l"))])),
    ];
    let checkpoint = dict(&[("model", weights.clone()), ("settings", dict(&settings)), ("step", int(7))]);
    let nested = dict(&[("layer", dict(&[("weight", modern)]))]);
    let in_archive = |value: &Vec<u8>| [&[1], BEGIN, value, END].concat();
    let mut seeds: Vec<Vec<u8>> = [&weights, &checkpoint, &nested].map(in_archive).to_vec();
    seeds.push([&[0], BEGIN, &checkpoint_without_tensors(&settings), END].concat());
    seeds.push([vec![0], legacy()].concat());
    seeds.push([vec![0], tar()?].concat());
    Ok(seeds)
}

fn checkpoint_without_tensors(settings: &[(&str, Vec<u8>)]) -> Vec<u8> {
    dict(&[("settings", dict(settings)), ("model", dict(&[]))])
}

/// `torch.save` before 1.6: consecutive pickles, then the number of values and the values.
fn legacy() -> Vec<u8> {
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19".to_vec();
    let version = b"M\xe9\x03".to_vec();
    let system = dict(&[("little_endian", b"\x88".to_vec()), ("protocol_version", b"M\xe9\x03".to_vec())]);
    let storage =
        [text("storage"), class("torch", "FloatStorage"), text("0"), text("cpu"), int(SIZE), b"N".to_vec()]
            .concat();
    let weights = dict(&[("w", tensor(&mark(&storage, b"tQ")))]);
    let keys = mark(&text("0"), b"l");
    let pickles = [magic, version, system, weights, keys].map(|value| [BEGIN, &value, END].concat());
    [pickles.concat(), u64::from(SIZE).to_le_bytes().to_vec(), VALUES.to_vec()].concat()
}

/// `torch.save` before 0.1.10.
fn tar() -> Result<Vec<u8>> {
    let pickle = |value: &[u8]| [BEGIN, value, END].concat();
    let number = |number: u8| u64::from(number).to_le_bytes();
    let storage = mark(&[int(5), text("cpu"), class("torch", "FloatStorage")].concat(), b"t");
    let storages =
        [&pickle(&int(1)), &pickle(&storage), number(SIZE).as_slice(), &VALUES, &pickle(b"]")].concat();
    let shape = [number(2), number(4), number(4), number(4), number(1), number(0)].concat();
    let view = mark(&[int(6), int(5), class("torch", "FloatTensor")].concat(), b"t");
    let tensors = [pickle(&int(1)), pickle(&view), shape].concat();
    let weights = pickle(&dict(&[("w", [text("6"), b"Q".to_vec()].concat())]));
    let system = pickle(&dict(&[("little_endian", b"\x88".to_vec())]));

    let mut archive = ::tar::Builder::new(Vec::new());
    for (name, contents) in
        [("sys_info", system), ("storages", storages), ("tensors", tensors), ("pickle", weights)]
    {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, contents.as_slice())?;
    }
    let mut file = archive.into_inner()?;
    file.flush()?;
    Ok(file)
}

/// A 4 x 4 tensor of a storage.
fn tensor(storage: &[u8]) -> Vec<u8> {
    let arguments =
        [storage, b"K\0K\x04K\x04\x86K\x04K\x01\x86\x89", &class("collections", "OrderedDict"), b")R"];
    [class("torch._utils", "_rebuild_tensor_v2"), mark(&arguments.concat(), b"tR")].concat()
}

fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> =
        entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}".to_vec(), mark(&entries, b"u")].concat()
}

/// A MARK, values, and the opcode that collects them.
fn mark(values: &[u8], end: &[u8]) -> Vec<u8> {
    [b"(", values, end].concat()
}

fn class(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("the texts are short").to_le_bytes();
    [b"X", length.as_slice(), text.as_bytes()].concat()
}

fn int(number: u8) -> Vec<u8> {
    vec![b'K', number]
}
