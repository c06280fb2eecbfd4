//! Reading and writing of model metadata, and refusal of unsupported models.

mod support;

use families::{
    FAMILIES, Family,
    gguf::{FileType, GgufModel, metadata, tensors},
};
use formats::gguf::{
    Array, BpeModel, Gguf, Pattern, TensorInfo, TensorType, Token, TokenKind, Value, Vocabulary,
};
use model::GptConfig;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{family, sizes, written};

fn token(text: &str, kind: TokenKind) -> Token {
    Token { text: text.to_owned(), kind }
}

/// A vocabulary of seven tokens with merges.
fn merges() -> Vocabulary {
    let normal = ["a", "b", "Ġ", "Ġa", "Ġab"].map(|text| token(text, TokenKind::Normal));
    let special = [token("<|im_end|>", TokenKind::Control), token("<tool>", TokenKind::UserDefined)];
    let pair = |left: &str, right: &str| (left.to_owned(), right.to_owned());
    Vocabulary {
        bpe: BpeModel::Merges { pattern: Pattern::Smollm, merges: vec![pair("Ġ", "a"), pair("Ġa", "b")] },
        bos: Some(5),
        eos: vec![5, 6],
        ..Vocabulary::merges([&normal[..], &special].concat(), Vec::new())
    }
}

/// A vocabulary of seven tokens with scores.
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
        bpe: BpeModel::Scores { scores: vec![0.0, 0.0, 0.0, 0.0, -2.0, -1.0, -1000.0], adds_space: false },
        bos: Some(1),
        eos: vec![2],
        adds_bos: true,
    }
}

/// The config of the model in a file, or the error.
fn read(bytes: &[u8]) -> Result<GptConfig, String> {
    let file = Gguf::parse(bytes).expect("a valid file");
    GgufModel::read(&file).map(|model| model.config).map_err(|error| error.to_string())
}

#[test]
fn metadata_survive_the_round_trip() {
    for family in FAMILIES {
        let config = sizes(family);
        for vocabulary in [merges(), scores()] {
            let bytes = written(&config, family, FileType::F16, &vocabulary);
            assert_eq!(read(&bytes).unwrap(), config);
            assert_eq!(Vocabulary::read(&Gguf::parse(&bytes).unwrap()).unwrap(), vocabulary);
        }
    }
}

#[test]
fn a_llama_may_have_biases_in_some_matrices() {
    let config = GptConfig { bias: true, ..sizes(family("llama")) };
    let metadata = metadata(&config, family("llama"), "biased", FileType::F16, &merges()).expect("it fits");
    let all = tensors(&config, family("llama"), FileType::F16);
    for part in ["attn_", "ffn_", "."] {
        let is_kept = |name: &str| !name.ends_with(".bias") || name.contains(part);
        let tensors = all.iter().filter(|tensor| is_kept(&tensor.name)).cloned().collect();
        assert_eq!(read(&file(&(metadata.clone(), tensors))).unwrap(), config, "biases of {part}");
    }
}

type Metadata = Vec<(String, Value)>;

#[test]
fn eos_tokens_come_from_keys_and_from_texts() {
    let eos = |change: &dyn Fn(&mut Metadata)| {
        let (mut metadata, tensors) = parts(family("llama"), &merges());
        metadata.retain(|(key, _)| !key.ends_with("eos_token_id") && !key.ends_with("eot_token_id"));
        change(&mut metadata);
        let bytes = file(&(metadata, tensors));
        Vocabulary::read(&Gguf::parse(&bytes).unwrap()).map(|vocabulary| vocabulary.eos)
    };
    let key = |name: &str, id: u32| (format!("tokenizer.ggml.{name}"), Value::from(id));
    assert_eq!(eos(&|_| {}).unwrap(), [5], "<|im_end|>");
    assert_eq!(eos(&|keys| keys.push(key("eos_token_id", 2))).unwrap(), [2, 5]);
    let turns = [key("eos_token_id", 5), key("eot_token_id", 1), key("eom_token_id", 0)];
    assert_eq!(eos(&|keys| keys.extend(turns.clone())).unwrap(), [5, 1, 0]);
    assert_eq!(eos(&|keys| keys.push(key("fim_sep_token_id", 3))).unwrap(), [3, 5]);
    assert_eq!(eos(&|keys| keys.push(key("eom_token_id", 9))).unwrap(), [5], "it is out of range");
}

#[test]
fn ids_out_of_range_are_ignored_and_reported() {
    let (mut metadata, tensors) = parts(family("llama"), &scores());
    metadata.retain(|(key, _)| !key.ends_with("bos_token_id") && !key.ends_with("eos_token_id"));
    for (name, id) in
        [("bos_token_id", 7), ("eos_token_id", 99), ("eot_token_id", u32::MAX), ("eom_token_id", 3)]
    {
        metadata.push((format!("tokenizer.ggml.{name}"), id.into()));
    }
    let bytes = file(&(metadata, tensors));
    let file = Gguf::parse(&bytes).unwrap();
    let vocabulary = Vocabulary::read(&file).unwrap();
    // They are replaced by llama.cpp's defaults for SentencePiece.
    assert_eq!((vocabulary.bos, vocabulary.eos), (Some(1), vec![2, 3]));
    let out_of_range =
        [("tokenizer.ggml.bos_token_id".to_owned(), 7), ("tokenizer.ggml.eos_token_id".to_owned(), 99)];
    assert_eq!(Vocabulary::out_of_range_keys(&file), out_of_range);
}

#[test]
fn other_kinds_of_files_are_refused_by_kind() {
    let refusal = |keys: &[(&str, Value)]| {
        let (mut metadata, tensors) = parts(family("llama"), &merges());
        metadata.retain(|(key, _)| keys.iter().all(|(other, _)| key != other));
        metadata.extend(keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let bytes = file(&(metadata, tensors));
        read(&bytes)
    };
    let adapter = refusal(&[("general.type", "adapter".into())]).unwrap_err();
    assert!(
        adapter
            .starts_with("it is a LoRA adapter (`general.type` is \"adapter\"), not a model; give its base"),
        "{adapter}"
    );
    let projector = refusal(&[("general.type", "mmproj".into())]).unwrap_err();
    assert!(projector.contains("give the file of the language model"), "{projector}");
    let other = refusal(&[("general.type", "dataset".into())]).unwrap_err();
    assert_eq!(other, "it is another kind of file (`general.type` is \"dataset\"), not a model");
    let part = refusal(&[("split.no", Value::U16(1)), ("split.count", Value::U16(3))]).unwrap_err();
    assert!(
        part.starts_with(
            "it is part 2 of 3 of a model (`split.count`), but its name does not end in -00002-of-00003"
        ),
        "{part}"
    );
    refusal(&[("split.no", Value::U16(0)), ("split.count", Value::U16(1))]).unwrap();

    let linear = |factor: f32| {
        [("llama.rope.scaling.type", "linear".into()), ("llama.rope.scaling.factor", factor.into())]
    };
    refusal(&linear(1.0)).unwrap();
    assert!(refusal(&linear(2.0)).unwrap_err().contains("it uses RoPE scaling"));
}

#[test]
fn byte_and_character_vocabularies_are_recognised() {
    for chars in [vec!['b', 'a', '\n', '\\', 'ü', '🙂', '€'], "gfedcba".chars().collect()] {
        let bytes =
            written(&sizes(family("llama")), family("llama"), FileType::F32, &Vocabulary::from_chars(&chars));
        let read = Vocabulary::read(&Gguf::parse(&bytes).unwrap()).unwrap();
        assert_eq!(read.chars(), Some(chars));
    }
    let mut padded = Vocabulary::from_chars(&['ü', 'a']);
    padded.pad(7);
    assert_eq!(padded.chars(), Some(vec!['ü', 'a']));
    assert_eq!((merges().chars(), scores().chars()), (None, None));
    let with_eos = Vocabulary { eos: vec![0], ..Vocabulary::from_chars(&['a', 'b']) };
    assert_eq!(with_eos.chars(), None);
}

/// The metadata and tensors of a complete model.
fn parts(family: &Family, vocabulary: &Vocabulary) -> (Vec<(String, Value)>, Vec<TensorInfo>) {
    let (config, ty) = (sizes(family), FileType::F32);
    let metadata = metadata(&config, family, "changed", ty, vocabulary).expect("a vocabulary that fits");
    (metadata, tensors(&config, family, ty))
}

fn file((metadata, tensors): &(Vec<(String, Value)>, Vec<TensorInfo>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    formats::gguf::write(&mut bytes, metadata, tensors, |tensor| {
        Ok::<_, formats::gguf::Error>(vec![0.5; tensor.dims.iter().product()].into())
    })
    .expect("f32 represents all values");
    bytes
}

/// The error for a model with `key` set to `value`, or without the key.
fn refusal_of_key(family: &Family, vocabulary: &Vocabulary, key: &str, value: Option<Value>) -> String {
    let (mut metadata, tensors) = parts(family, vocabulary);
    metadata.retain(|(present, _)| present != key);
    metadata.extend(value.map(|value| (key.to_owned(), value)));
    let bytes = file(&(metadata, tensors));
    let read = Gguf::parse(&bytes).expect("a valid file");
    match (GgufModel::read(&read), Vocabulary::read(&read)) {
        (Err(error), _) => error.to_string(),
        (_, Err(error)) => error.to_string(),
        (Ok(model), Ok(vocabulary)) => panic!("{key}: {model:?} {vocabulary:?}"),
    }
}

#[test]
fn missing_keys_are_named() {
    let [gpt2, llama, qwen3] = ["gpt2", "llama", "qwen3"].map(family);
    for (family, key) in [
        (llama, "general.architecture"),
        (llama, "llama.context_length"),
        (qwen3, "qwen3.embedding_length"),
        (gpt2, "gpt2.feed_forward_length"),
        (llama, "llama.block_count"),
        (qwen3, "qwen3.attention.head_count"),
        (gpt2, "gpt2.attention.layer_norm_epsilon"),
        (llama, "llama.attention.layer_norm_rms_epsilon"),
        (llama, "tokenizer.ggml.model"),
        (llama, "tokenizer.ggml.tokens"),
        (llama, "tokenizer.ggml.merges"),
    ] {
        let error = refusal_of_key(family, &merges(), key, None);
        assert!(error.contains(&format!("the file has no `{key}`")), "{key}: {error}");
    }
    let error = refusal_of_key(llama, &scores(), "tokenizer.ggml.scores", None);
    assert!(error.contains("tokenizer.ggml.scores"), "{error}");
    let error = refusal_of_key(llama, &merges(), "tokenizer.ggml.pre", None);
    assert!(error.contains("no `tokenizer.ggml.pre`, so its pre-tokenizer is unknown"), "{error}");
}

#[test]
fn unsupported_options_are_refused_with_the_reason() {
    let check = |family, key: &str, value: Value, reason: &str| {
        let error = refusal_of_key(family, &merges(), key, Some(value));
        assert!(error.contains(reason), "{key}: {error}");
    };
    let [gpt2, llama, qwen3] = ["gpt2", "llama", "qwen3"].map(family);
    check(llama, "general.architecture", "mamba".into(), "unsupported architecture \"mamba\"; gpt2, llama");
    check(llama, "general.architecture", 7.into(), "`general.architecture` is u32 7; expected a string");
    check(llama, "llama.expert_count", 8.into(), "it is a mixture of experts (`llama.expert_count`)");
    check(
        qwen3,
        "qwen3.rope.scaling.type",
        "yarn".into(),
        "RoPE scaling (`qwen3.rope.scaling.type` is str \"yarn\")",
    );
    check(llama, "llama.rope.scaling.factor", 4.0.into(), "`llama.rope.scaling.factor` is f32 4.0");
    check(llama, "llama.rope.scale_linear", 2.0.into(), "`llama.rope.scale_linear` is f32 2.0");
    check(llama, "llama.rope.dimension_count", 4.into(), "`llama.rope.dimension_count` is 4; only 6");
    check(qwen3, "qwen3.attention.value_length", 8.into(), "is 8; only 6 is supported");
    check(llama, "llama.attention.sliding_window", 4.into(), "sliding-window attention over 4 tokens");
    check(llama, "llama.attention.causal", false.into(), "its attention is not causal");
    check(
        llama,
        "llama.attention.head_count_kv",
        3.into(),
        "`llama.attention.head_count` = 4 is not a multiple of `llama.attention.head_count_kv` = 3",
    );
    check(llama, "llama.attention.key_length", 5.into(), "value_length` is 6; only 5");
    check(
        gpt2,
        "gpt2.attention.head_count",
        5.into(),
        "`gpt2.embedding_length` = 32 is not a multiple of `gpt2.attention.head_count` = 5",
    );
    check(
        qwen3,
        "qwen3.rope.freq_base",
        Value::F64(1e-50),
        "`qwen3.rope.freq_base` is f64 1e-50; expected a positive",
    );
    check(
        gpt2,
        "gpt2.attention.head_count_kv",
        1.into(),
        "= 2 query heads and `gpt2.attention.head_count_kv` = 1 key heads",
    );
    let each = Value::Array(Array::U32(vec![4, 4]));
    check(llama, "llama.attention.head_count", each, "the same for all blocks");
    check(llama, "llama.block_count", 0.into(), "is u32 0; expected an integer from 1");
    check(llama, "llama.block_count", u32::MAX.into(), "\"blk.1.attn_norm.weight\" is missing");
    check(llama, "llama.vocab_size", 8.into(), "`llama.vocab_size` is 8; only 7");
    check(gpt2, "gpt2.attention.layer_norm_epsilon", f32::NAN.into(), "expected a positive number");
    check(llama, "tokenizer.ggml.model", "t5".into(), "its tokenizer is \"t5\"");
    check(llama, "tokenizer.ggml.model", "rwkv".into(), "\"Ġ\"; only single bytes are supported");
    check(llama, "tokenizer.ggml.pre", "tekken".into(), "its pre-tokenizer is \"tekken\"");
    check(llama, "tokenizer.ggml.merges", vec!["ab".to_owned()].into(), "the merge \"ab\" is not a pair");
    check(llama, "tokenizer.ggml.token_type", vec![1; 6].into(), "6 token types for 7 tokens");
    let twice = ["a", "b", "a"].map(str::to_owned).to_vec();
    let error = refusal_of_key(llama, &scores(), "tokenizer.ggml.scores", Some(1.into()));
    assert!(error.contains("expected an array of f32"), "{error}");
    let (mut metadata, tensors) = parts(llama, &merges());
    metadata.retain(|(key, _)| key != "tokenizer.ggml.tokens" && key != "tokenizer.ggml.token_type");
    metadata.push(("tokenizer.ggml.tokens".to_owned(), twice.into()));
    let bytes = file(&(metadata, tensors));
    let error = Vocabulary::read(&Gguf::parse(&bytes).unwrap()).unwrap_err().to_string();
    assert!(error.contains("tokens 0 and 2 are both \"a\""), "{error}");
}

#[test]
fn tensors_that_do_not_match_the_sizes_are_named() {
    let refusal = |change: &dyn Fn(&mut Vec<TensorInfo>)| {
        let (metadata, mut tensors) = parts(family("llama"), &merges());
        change(&mut tensors);
        let bytes = file(&(metadata, tensors));
        read(&bytes).unwrap_err()
    };
    let added = |name: &str| {
        let tensor = TensorInfo { name: name.to_owned(), dims: vec![48], ty: TensorType::F32 };
        move |tensors: &mut Vec<TensorInfo>| tensors.push(tensor.clone())
    };
    let error = refusal(&|tensors| tensors.retain(|tensor| tensor.name != "blk.0.ffn_gate.weight"));
    assert_eq!(error, "the tensor \"blk.0.ffn_gate.weight\" is missing");
    let error = refusal(&|tensors| tensors.retain(|tensor| tensor.name != "token_embd.weight"));
    assert_eq!(error, "the tensor \"token_embd.weight\" is missing");
    // With one bias, the others are required.
    assert_eq!(refusal(&added("blk.0.ffn_up.bias")), "the tensor \"blk.0.ffn_down.bias\" is missing");
    let error = refusal(&added("blk.0.attn_norm.bias"));
    assert!(
        error.contains("unexpected tensor \"blk.0.attn_norm.bias\" for the architecture llama"),
        "{error}"
    );
    assert!(refusal(&added("rope_freqs.weight")).contains("it uses RoPE scaling"));
    let error = refusal(&|tensors| tensors[1].dims = vec![31]);
    assert!(
        error.contains("\"blk.0.attn_norm.weight\" has the dimensions [31], but the metadata requires [32]"),
        "{error}"
    );
}

#[test]
fn defaults_match_llama_cpp() {
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
    let (llama, ty) = (family("llama"), FileType::F32);
    let mut config = sizes(llama);
    (config.attention.n_kv_head, config.attention.head_dim) = (None, None);
    let mut metadata = metadata(&config, llama, "short", ty, &scores()).unwrap();
    metadata.retain(|(key, _)| !absent.contains(&key.as_str()));
    let bytes = file(&(metadata, tensors(&config, llama, ty)));
    assert_eq!(read(&bytes).unwrap(), config);
    let file = Gguf::parse(&bytes).unwrap();
    let vocabulary = Vocabulary::read(&file).unwrap();
    assert!(vocabulary.adds_bos && matches!(vocabulary.bpe, BpeModel::Scores { adds_space: true, .. }));
    assert_eq!((vocabulary.bos, vocabulary.eos), (Some(1), vec![2]));
    assert!(vocabulary.tokens.iter().all(|token| token.kind == TokenKind::Normal));
}

proptest! {
    #[test]
    fn changed_models_never_panic(
        rotary in any::<bool>(),
        scored in any::<bool>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..9),
    ) {
        let family = family(if rotary { "qwen3" } else { "gpt2" });
        let vocabulary = if scored { scores() } else { merges() };
        let mut bytes = written(&sizes(family), family, FileType::Q8_0, &vocabulary);
        // The first part has the metadata and the tensor directory.
        let header = bytes.len().min(2400);
        for (place, byte) in changes {
            bytes[place.index(header)] = byte;
        }
        if let Ok(file) = Gguf::parse(&bytes) {
            if let Ok(GgufModel { config, family, .. }) = GgufModel::read(&file) {
                prop_assert_eq!(tensors(&config, family, FileType::F32).len(), file.tensors().len());
            }
            if let Ok(vocabulary) = Vocabulary::read(&file) {
                let _ = (vocabulary.stop_token(), vocabulary.chars());
            }
        }
    }
}
