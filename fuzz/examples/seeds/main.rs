//! Writes seeds for fuzzing to `corpus/`: small valid files of every supported layout.

use std::fs;
use std::path::Path;

use anyhow::Result;
use dataset::{Options, Source, TokenizerChoice, prepare};
use formats::gguf::{self, Array, BpeModel, TensorInfo, TensorType, Value, Vocabulary};
use tokenizer::TokenizerKind;

mod pickles;
mod tokenizers;

fn main() -> Result<()> {
    for (target, seeds) in [
        ("checkpoint", run_folder()),
        ("dataset", prepared_folder()?),
        ("gguf", ggufs()?),
        ("gguf_model", ggufs()?),
        ("pickle", pickles::all()?),
        ("quant", blocks()),
        ("recipe", recipes()?),
        ("safetensors", safetensors()),
        ("tokenizer", tokenizers::all()?),
    ] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}

/// 512 values in each format, after the target's number for the format; they are blocks too.
fn blocks() -> Vec<Vec<u8>> {
    let values: Vec<u8> = (0..512_u16).flat_map(|idx| (f32::from(idx) / 256.0 - 1.0).to_le_bytes()).collect();
    (0..10).map(|format| [&[format], values.as_slice()].concat()).collect()
}

/// Files of a run folder, each after the target's number for the file.
fn run_folder() -> Vec<Vec<u8>> {
    let state = concat!(
        r#"{"step":10,"tokens":9,"elapsed_seconds":0.5,"best_loss":1.5,"best_step":5,"evaluations_since_best":1,"#,
        r#""evaluation_pending":true,"interval":{"loss_sum":1.5,"n_losses":1},"losses":{"count":1,"mean":2.5,"#,
        r#""variance":0.1},"skipped_steps":0,"not_finite_in_a_row":0,"data":["a","b"]}"#
    );
    let empty =
        r#"{"size_bytes":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}"#;
    let manifest = format!(r#"{{"files":{{"model.bpk":{empty},"state.json":{empty}}}}}"#);
    let config = concat!(
        r#"{"model_type":"gpt2","vocab_size":12,"n_positions":8,"n_embd":6,"n_layer":2,"n_head":3,"n_inner":null,"#,
        r#""activation_function":"gelu_new","resid_pdrop":0.1,"embd_pdrop":0.1,"attn_pdrop":0.1,"#,
        r#""layer_norm_epsilon":1e-05,"tie_word_embeddings":true,"eos_token_id":[1,2],"torch_dtype":"float32"}"#
    );
    let seeds = [(0, state), (1, &manifest), (2, ""), (3, config)];
    seeds.map(|(number, contents)| [&[number], contents.as_bytes()].concat()).to_vec()
}

/// The presets, and one with overrides.
fn recipes() -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let presets =
        fs::read_dir(folder)?.map(|entry| Ok(fs::read(entry?.path())?)).collect::<Result<Vec<_>>>()?;
    let overrides = b"\n---\nschedule.max_steps=9\noptimizer.grad_clip=none\ndata.corpus=kjv";
    let overridden = [presets[0].as_slice(), overrides].concat();
    Ok(presets.into_iter().chain([overridden]).collect())
}

/// Files of a prepared folder, each after the target's number for the file.
fn prepared_folder() -> Result<Vec<Vec<u8>>> {
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("text.txt");
    fs::write(&text, "a text of some length")?;
    let options = Options { root: folder.path().join("datasets"), ..Options::default() };
    let choice = TokenizerChoice::Kind(TokenizerKind::Char);
    let prepared = prepare(&Source::Path(text), &choice, &options, &|_| ())?;
    let files = ["meta.json", "train.bin", "val.bin", "tokenizer.json", "train.bin"];
    let seed = |(number, name)| Ok([&[number], fs::read(prepared.folder.join(name))?.as_slice()].concat());
    (0_u8..).zip(files).map(seed).collect()
}

fn ggufs() -> Result<Vec<Vec<u8>>> {
    let merged = Vocabulary::from_chars(&['a', 'é']);
    let bpe = BpeModel::Scores { scores: vec![0.0, 1.0], adds_space: true };
    let scored = Vocabulary { bpe, bos: Some(1), adds_bos: true, ..merged.clone() };
    let arrays = [
        Array::U8(vec![1]),
        Array::F64(vec![0.5]),
        Array::Bool(vec![true, false]),
        Array::String(vec!["a".to_owned(), String::new()]),
        Array::Array(vec![Array::I16(vec![-1, 2]), Array::Array(vec![])]),
    ];
    let arrays = ('a'..).map(String::from).zip(arrays.map(Value::Array)).collect();
    let tensor =
        |name: &str, dims: &[usize], ty| TensorInfo { name: name.to_owned(), dims: dims.to_vec(), ty };
    let tensors = vec![
        tensor("x", &[3, 2], TensorType::F16),
        tensor("y", &[], TensorType::F32),
        tensor("z", &[0], TensorType::BF16),
    ];
    let mut files = vec![(arrays, tensors), (vec![], vec![])];
    for (architecture, vocabulary) in [("gpt2", &merged), ("llama", &scored)] {
        let mut metadata = vec![("general.architecture".to_owned(), Value::from(architecture))];
        metadata.extend(vocabulary.metadata()?);
        files.push((metadata, vec![tensor("token_embd.weight", &[32, 2], TensorType::Q8_0)]));
    }
    // Whole models.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/checkpoint/tests/fixtures/gguf");
    let mut seeds =
        fs::read_dir(fixtures)?.map(|entry| Ok(fs::read(entry?.path())?)).collect::<Result<Vec<_>>>()?;
    for (metadata, tensors) in files {
        let mut file = Vec::new();
        gguf::write(&mut file, &metadata, &tensors, |tensor| {
            Ok::<_, gguf::Error>(vec![0.5; tensor.dims.iter().product()].into())
        })?;
        seeds.push(file);
    }
    // Version 1, whose lengths have 32 bits: a key, and a tensor of two values.
    let first: [&[u8]; 6] = [
        b"GGUF\x01\0\0\0\x01\0\0\0\x01\0\0\0",
        b"\x01\0\0\0k\x08\0\0\0\x01\0\0\0v",
        b"\x01\0\0\0t\x01\0\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        &[0; 9],
        &1.5_f32.to_le_bytes(),
        &2.5_f32.to_le_bytes(),
    ];
    seeds.push(first.concat());
    Ok(seeds)
}

/// Whole files, headers without values and indices, each after the target's number for its kind.
fn safetensors() -> Vec<Vec<u8>> {
    let header = br#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let several = concat!(
        r#"{"__metadata__":{"format":"pt"},"a.weight":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"#,
        r#""b":{"dtype":"BF16","shape":[],"data_offsets":[12,14]},"c":{"dtype":"I64","shape":[0],"data_offsets":[14,14]}}"#
    );
    let index = br#"{"metadata":{"total_size":8},"weight_map":{"x":"a.safetensors"}}"#;
    vec![
        [&[0], (header.len() as u64).to_le_bytes().as_slice(), header, &[0; 8]].concat(),
        [&[1, 8, 0], header.as_slice()].concat(),
        [&[1, 14, 0], several.as_bytes()].concat(),
        [&[2], index.as_slice()].concat(),
    ]
}
