//! Models as a whole: what is written of them is read again, and what is not computed here is refused.

mod support;

use gguf::{
    Architecture, Array, Biases, Config, Gguf, Joins, Pattern, TensorInfo, TensorType, Token, TokenKind,
    Value, Vocabulary,
};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{sizes, written};

fn token(text: &str, kind: TokenKind) -> Token {
    Token { text: text.to_owned(), kind }
}

/// Seven tokens that are joined by merges.
fn merges() -> Vocabulary {
    let normal = ["a", "b", "Ġ", "Ġa", "Ġab"].map(|text| token(text, TokenKind::Normal));
    let marks = [token("<|im_end|>", TokenKind::Control), token("<tool>", TokenKind::UserDefined)];
    let pair = |left: &str, right: &str| (left.to_owned(), right.to_owned());
    Vocabulary {
        joins: Joins::Merges { pattern: Pattern::Smollm, merges: vec![pair("Ġ", "a"), pair("Ġa", "b")] },
        begin_of_text: Some(5),
        ends_of_text: vec![5, 6],
        ..Vocabulary::merges([&normal[..], &marks].concat(), Vec::new())
    }
}

/// Seven tokens that are joined by scores.
fn scores() -> Vocabulary {
    Vocabulary {
        tokens: vec![
            token("<unk>", TokenKind::Unknown),
            token("<s>", TokenKind::Control),
            token("</s>", TokenKind::Control),
            token("<0x0A>", TokenKind::Byte),
            token("▁", TokenKind::Normal),
            token("▁a", TokenKind::Normal),
            token("[PAD6]", TokenKind::Unused),
        ],
        joins: Joins::Scores { scores: vec![0.0, 0.0, 0.0, 0.0, -2.0, -1.0, -1000.0], adds_space: false },
        begin_of_text: Some(1),
        ends_of_text: vec![2],
        adds_begin: true,
    }
}

#[test]
fn a_model_is_read_as_it_was_written() {
    for architecture in Architecture::ALL {
        let config = sizes(architecture);
        for vocabulary in [merges(), scores()] {
            let bytes = written(&config, TensorType::F16, &vocabulary);
            let file = Gguf::parse(&bytes).unwrap();
            assert_eq!(Config::read(&file).unwrap(), config);
            assert_eq!(Vocabulary::read(&file).unwrap(), vocabulary);
        }
    }
    for (attention, feed_forward) in [(true, false), (false, true), (true, true)] {
        let biases = Biases { attention, feed_forward };
        let config = Config { biases, ..sizes(Architecture::Llama) };
        let bytes = written(&config, TensorType::F16, &merges());
        assert_eq!(Config::read(&Gguf::parse(&bytes).unwrap()).unwrap(), config);
    }
}

/// Keys and values of a file.
type Metadata = Vec<(String, Value)>;

#[test]
fn ends_are_those_of_keys_and_those_that_llama_cpp_knows_by_text() {
    let ends = |change: &dyn Fn(&mut Metadata)| {
        let (mut metadata, tensors) = parts(Architecture::Llama, &merges());
        metadata.retain(|(key, _)| !key.ends_with("eos_token_id") && !key.ends_with("eot_token_id"));
        change(&mut metadata);
        let bytes = file(&(metadata, tensors));
        Vocabulary::read(&Gguf::parse(&bytes).unwrap()).map(|vocabulary| vocabulary.ends_of_text)
    };
    let key = |name: &str, id: u32| (format!("tokenizer.ggml.{name}"), Value::from(id));
    assert_eq!(ends(&|_| {}).unwrap(), [5], "<|im_end|>");
    assert_eq!(ends(&|keys| keys.push(key("eos_token_id", 2))).unwrap(), [2, 5]);
    let turns = [key("eos_token_id", 5), key("eot_token_id", 1), key("eom_token_id", 0)];
    assert_eq!(ends(&|keys| keys.extend(turns.clone())).unwrap(), [5, 1, 0]);
    assert_eq!(ends(&|keys| keys.push(key("fim_sep_token_id", 3))).unwrap(), [3, 5]);
    assert_eq!(ends(&|keys| keys.push(key("eom_token_id", 9))).unwrap(), [5], "it is beyond the tokens");
}

#[test]
fn ids_beyond_the_tokens_count_as_none_and_are_told() {
    let (mut metadata, tensors) = parts(Architecture::Llama, &scores());
    metadata.retain(|(key, _)| !key.ends_with("bos_token_id") && !key.ends_with("eos_token_id"));
    for (name, id) in
        [("bos_token_id", 7), ("eos_token_id", 99), ("eot_token_id", u32::MAX), ("eom_token_id", 3)]
    {
        metadata.push((format!("tokenizer.ggml.{name}"), id.into()));
    }
    let bytes = file(&(metadata, tensors));
    let file = Gguf::parse(&bytes).unwrap();
    let vocabulary = Vocabulary::read(&file).unwrap();
    // In place of what is beyond, llama.cpp's defaults for SentencePiece.
    assert_eq!((vocabulary.begin_of_text, vocabulary.ends_of_text), (Some(1), vec![2, 3]));
    let beyond =
        [("tokenizer.ggml.bos_token_id".to_owned(), 7), ("tokenizer.ggml.eos_token_id".to_owned(), 99)];
    assert_eq!(Vocabulary::keys_beyond(&file), beyond);
}

#[test]
fn files_of_other_kinds_are_named() {
    let refusal = |keys: &[(&str, Value)]| {
        let (mut metadata, tensors) = parts(Architecture::Llama, &merges());
        metadata.retain(|(key, _)| keys.iter().all(|(other, _)| key != other));
        metadata.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let bytes = file(&(metadata, tensors));
        Config::read(&Gguf::parse(&bytes).unwrap()).map_err(|error| error.to_string())
    };
    let adapter = refusal(&[("general.type", "adapter".into())]).unwrap_err();
    assert!(
        adapter.starts_with("it is a LoRA adapter (`general.type` is \"adapter\"), not a model; merge"),
        "{adapter}"
    );
    let projector = refusal(&[("general.type", "mmproj".into())]).unwrap_err();
    assert!(projector.contains("name the file of the language model"), "{projector}");
    let other = refusal(&[("general.type", "dataset".into())]).unwrap_err();
    assert_eq!(other, "it is another file (`general.type` is \"dataset\"), not a model");
    let part = refusal(&[("split.no", Value::U16(1)), ("split.count", Value::U16(3))]).unwrap_err();
    assert!(
        part.starts_with("it is part 2 of 3 of a model (`split.count`); merge all of them first"),
        "{part}"
    );
    refusal(&[("split.no", Value::U16(0)), ("split.count", Value::U16(1))]).unwrap();

    let linear = |factor: f32| {
        [("llama.rope.scaling.type", "linear".into()), ("llama.rope.scaling.factor", factor.into())]
    };
    refusal(&linear(1.0)).unwrap();
    assert!(refusal(&linear(2.0)).unwrap_err().contains("its rotations are scaled"));
}

#[test]
fn single_bytes_and_characters_are_known_again() {
    for chars in [vec!['b', 'a', '\n', '\\', 'ü', '🙂', '€'], "gfedcba".chars().collect()] {
        let bytes = written(&sizes(Architecture::Llama), TensorType::F32, &Vocabulary::from_chars(&chars));
        let read = Vocabulary::read(&Gguf::parse(&bytes).unwrap()).unwrap();
        assert_eq!(read.chars(), Some(chars));
    }
    let mut padded = Vocabulary::from_chars(&['ü', 'a']);
    padded.pad(7);
    assert_eq!(padded.chars(), Some(vec!['ü', 'a']));
    assert_eq!((merges().chars(), scores().chars()), (None, None));
    let ended = Vocabulary { ends_of_text: vec![0], ..Vocabulary::from_chars(&['a', 'b']) };
    assert_eq!(ended.chars(), None);
}

/// The keys and tensors of a whole model, to be changed.
fn parts(architecture: Architecture, vocabulary: &Vocabulary) -> (Vec<(String, Value)>, Vec<TensorInfo>) {
    let config = sizes(architecture);
    let metadata = config.metadata("changed", TensorType::F32, vocabulary).expect("a vocabulary that fits");
    (metadata, config.tensors(TensorType::F32))
}

fn file((metadata, tensors): &(Vec<(String, Value)>, Vec<TensorInfo>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    gguf::write(&mut bytes, metadata, tensors, |tensor| {
        Ok::<_, gguf::Error>(vec![0.5; tensor.dims.iter().product()].into())
    })
    .expect("numbers that f32 holds");
    bytes
}

/// What is said of a model with `key` as `value`, or without it.
fn refusal_of_key(
    architecture: Architecture,
    vocabulary: &Vocabulary,
    key: &str,
    value: Option<Value>,
) -> String {
    let (mut metadata, tensors) = parts(architecture, vocabulary);
    metadata.retain(|(present, _)| present != key);
    metadata.extend(value.map(|value| (key.to_owned(), value)));
    let bytes = file(&(metadata, tensors));
    let read = Gguf::parse(&bytes).expect("it was written");
    match (Config::read(&read), Vocabulary::read(&read)) {
        (Err(error), _) | (_, Err(error)) => error.to_string(),
        (Ok(config), Ok(vocabulary)) => panic!("{key}: {config:?} {vocabulary:?}"),
    }
}

#[test]
fn what_a_model_cannot_be_without_is_named() {
    use Architecture::{Gpt2, Llama, Qwen3};
    for (architecture, key) in [
        (Llama, "general.architecture"),
        (Llama, "llama.context_length"),
        (Qwen3, "qwen3.embedding_length"),
        (Gpt2, "gpt2.feed_forward_length"),
        (Llama, "llama.block_count"),
        (Qwen3, "qwen3.attention.head_count"),
        (Gpt2, "gpt2.attention.layer_norm_epsilon"),
        (Llama, "llama.attention.layer_norm_rms_epsilon"),
        (Llama, "tokenizer.ggml.model"),
        (Llama, "tokenizer.ggml.tokens"),
        (Llama, "tokenizer.ggml.merges"),
    ] {
        let error = refusal_of_key(architecture, &merges(), key, None);
        assert!(error.contains(&format!("the file has no `{key}`")), "{key}: {error}");
    }
    let error = refusal_of_key(Llama, &scores(), "tokenizer.ggml.scores", None);
    assert!(error.contains("tokenizer.ggml.scores"), "{error}");
    let error = refusal_of_key(Llama, &merges(), "tokenizer.ggml.pre", None);
    assert!(error.contains("no `tokenizer.ggml.pre`, so how text is cut is unknown"), "{error}");
}

#[test]
fn what_is_not_computed_is_refused_with_the_reason() {
    let check = |architecture, key: &str, value: Value, reason: &str| {
        let error = refusal_of_key(architecture, &merges(), key, Some(value));
        assert!(error.contains(reason), "{key}: {error}");
    };
    use Architecture::{Gpt2, Llama, Qwen3};
    check(Llama, "general.architecture", "mamba".into(), "\"mamba\" is not supported; gpt2, llama and qwen3");
    check(Llama, "general.architecture", 7.into(), "`general.architecture` is u32 7, and not a text");
    check(Llama, "llama.expert_count", 8.into(), "it chooses among experts (`llama.expert_count`)");
    check(
        Qwen3,
        "qwen3.rope.scaling.type",
        "yarn".into(),
        "scaled (`qwen3.rope.scaling.type` is str \"yarn\")",
    );
    check(Llama, "llama.rope.scaling.factor", 4.0.into(), "`llama.rope.scaling.factor` is f32 4.0");
    check(Llama, "llama.rope.scale_linear", 2.0.into(), "`llama.rope.scale_linear` is f32 2.0");
    check(Llama, "llama.rope.dimension_count", 4.into(), "`llama.rope.dimension_count` is 4, and only 6");
    check(Qwen3, "qwen3.attention.value_length", 8.into(), "is 8, and only 6 is supported");
    check(Llama, "llama.attention.sliding_window", 4.into(), "attention reaches back 4 tokens");
    check(Llama, "llama.attention.causal", false.into(), "sees what is to come");
    check(
        Llama,
        "llama.attention.head_count_kv",
        3.into(),
        "`llama.attention.head_count` = 4 is not a multiple of `llama.attention.head_count_kv` = 3",
    );
    check(Llama, "llama.attention.key_length", 5.into(), "value_length` is 6, and only 5");
    check(
        Gpt2,
        "gpt2.attention.head_count",
        5.into(),
        "`gpt2.embedding_length` = 32 is not a multiple of `gpt2.attention.head_count` = 5",
    );
    check(
        Qwen3,
        "qwen3.rope.freq_base",
        Value::F64(1e-50),
        "`qwen3.rope.freq_base` is f64 1e-50, and not a positive",
    );
    check(
        Gpt2,
        "gpt2.attention.head_count_kv",
        1.into(),
        "= 2 heads of queries and `gpt2.attention.head_count_kv` = 1 of keys",
    );
    let each = Value::Array(Array::U32(vec![4, 4]));
    check(Llama, "llama.attention.head_count", each, "the same for all blocks");
    check(Llama, "llama.block_count", 0.into(), "is u32 0, and not a number from 1");
    check(Llama, "llama.block_count", u32::MAX.into(), "\"blk.1.attn_norm.weight\" is missing");
    check(Llama, "llama.vocab_size", 8.into(), "`llama.vocab_size` is 8, and only 7");
    check(Gpt2, "gpt2.attention.layer_norm_epsilon", f32::NAN.into(), "not a positive number");
    check(Llama, "tokenizer.ggml.model", "t5".into(), "its tokenizer is \"t5\"");
    check(Llama, "tokenizer.ggml.model", "rwkv".into(), "\"Ġ\" is no single byte");
    check(Llama, "tokenizer.ggml.pre", "tekken".into(), "it cuts text as \"tekken\"");
    check(Llama, "tokenizer.ggml.merges", vec!["ab".to_owned()].into(), "the merge \"ab\" is not two pieces");
    check(Llama, "tokenizer.ggml.token_type", vec![1; 6].into(), "6 kinds of 7 tokens");
    let twice = ["a", "b", "a"].map(str::to_owned).to_vec();
    let error = refusal_of_key(Llama, &scores(), "tokenizer.ggml.scores", Some(1.into()));
    assert!(error.contains("not an array of f32"), "{error}");
    let (mut metadata, tensors) = parts(Llama, &merges());
    metadata.retain(|(key, _)| key != "tokenizer.ggml.tokens" && key != "tokenizer.ggml.token_type");
    metadata.push(("tokenizer.ggml.tokens".to_owned(), twice.into()));
    let bytes = file(&(metadata, tensors));
    let error = Vocabulary::read(&Gguf::parse(&bytes).unwrap()).unwrap_err().to_string();
    assert!(error.contains("tokens 0 and 2 are both \"a\""), "{error}");
}

#[test]
fn tensors_that_do_not_fit_the_sizes_are_named() {
    let refusal = |change: &dyn Fn(&mut Vec<TensorInfo>)| {
        let (metadata, mut tensors) = parts(Architecture::Llama, &merges());
        change(&mut tensors);
        let bytes = file(&(metadata, tensors));
        Config::read(&Gguf::parse(&bytes).unwrap()).unwrap_err().to_string()
    };
    let added = |name: &str| {
        let tensor = TensorInfo { name: name.to_owned(), dims: vec![48], ty: TensorType::F32 };
        move |tensors: &mut Vec<TensorInfo>| tensors.push(tensor.clone())
    };
    let error = refusal(&|tensors| tensors.retain(|tensor| tensor.name != "blk.0.ffn_gate.weight"));
    assert_eq!(error, "the tensor \"blk.0.ffn_gate.weight\" is missing");
    let error = refusal(&|tensors| tensors.retain(|tensor| tensor.name != "token_embd.weight"));
    assert_eq!(error, "the tensor \"token_embd.weight\" is missing");
    // One of them, and then all.
    assert_eq!(refusal(&added("blk.0.ffn_up.bias")), "the tensor \"blk.0.ffn_down.bias\" is missing");
    let error = refusal(&added("blk.0.attn_norm.bias"));
    assert!(
        error.contains("\"blk.0.attn_norm.bias\" belongs to no model of the architecture llama"),
        "{error}"
    );
    assert!(refusal(&added("rope_freqs.weight")).contains("its rotations are scaled"));
    let error = refusal(&|tensors| tensors[1].dims = vec![31]);
    assert!(
        error.contains("\"blk.0.attn_norm.weight\" is [31], and by the metadata it has to be [32]"),
        "{error}"
    );
}

#[test]
fn defaults_are_those_of_llama_cpp() {
    let absent = [
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.freq_base",
        "llama.rope.dimension_count",
        "llama.vocab_size",
        "tokenizer.ggml.token_type",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_space_prefix",
    ];
    let config =
        Config { head_count_kv: 4, key_length: 8, rope_freq_base: 10_000.0, ..sizes(Architecture::Llama) };
    let mut metadata = config.metadata("short", TensorType::F32, &scores()).unwrap();
    metadata.retain(|(key, _)| !absent.contains(&key.as_str()));
    let bytes = file(&(metadata, config.tensors(TensorType::F32)));
    let file = Gguf::parse(&bytes).unwrap();
    assert_eq!(Config::read(&file).unwrap(), config);
    let vocabulary = Vocabulary::read(&file).unwrap();
    assert!(vocabulary.adds_begin && matches!(vocabulary.joins, Joins::Scores { adds_space: true, .. }));
    assert_eq!((vocabulary.begin_of_text, vocabulary.ends_of_text), (Some(1), vec![2]));
    assert!(vocabulary.tokens.iter().all(|token| token.kind == TokenKind::Normal));
}

proptest! {
    #[test]
    fn changed_models_never_panic(
        rotary in any::<bool>(),
        scored in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
    ) {
        let architecture = if rotary { Architecture::Qwen3 } else { Architecture::Gpt2 };
        let vocabulary = if scored { scores() } else { merges() };
        let mut bytes = written(&sizes(architecture), TensorType::Q8_0, &vocabulary);
        // Keys and tensors are described in the first part.
        let header = bytes.len().min(2400);
        for (place, byte) in changes {
            bytes[place.index(header)] = byte;
        }
        if let Ok(file) = Gguf::parse(&bytes) {
            if let Ok(config) = Config::read(&file) {
                prop_assert_eq!(config.tensors(TensorType::F32).len(), file.tensors().len());
            }
            if let Ok(vocabulary) = Vocabulary::read(&file) {
                let _ = (vocabulary.stop_token(), vocabulary.chars());
            }
        }
    }
}
