//! Tiny models.

use std::{env, fs, path::Path};

use engine::{Model, Models};
use model::GptConfig;
use serde_json::{Map, Value, json};
use tokenizer::{Companions, SpecialTokens, Tokenizer};

/// A trained model of 22 characters with a context of 48. After "the cat" it continues with " saw it.\nthe hen sle".
pub(crate) fn story() -> Model {
    let root = env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let folder = Path::new(&root).join("../engine/tests/fixtures/story");
    Models::default().open(&folder).unwrap().load(&kernels::testing::test_device()).unwrap()
}

/// [`story`] with an EOS token.
pub(crate) fn story_with_eos(eos: &str) -> Model {
    let mut model = story();
    model.special_tokens.eos = model.tokenizer.encode(eos).unwrap();
    model
}

/// An untrained model of 256 bytes.
pub(crate) fn bytes() -> Model {
    untrained(Tokenizer::byte(), 64, SpecialTokens::default())
}

/// An untrained model with a context that takes minutes to fill.
pub(crate) fn endless() -> Model {
    untrained(Tokenizer::byte(), 1 << 17, SpecialTokens::default())
}

/// The tokens of [`chatting`] before its special tokens.
const CHARACTERS: std::ops::RangeInclusive<char> = ' '..='~';
/// The byte of the character `a`, whose text is the same.
pub(crate) const SECOND_A: u32 = 95;
pub(crate) const BOS: u32 = 96;
const START: u32 = 97;
pub(crate) const END: u32 = 98;

/// An untrained model with the prompt prefix `<bos>`, an EOS token, a chat template, and two tokens of the same text.
pub(crate) fn chatting() -> Model {
    let template = "{{ bos_token }}{% for message in messages %}<start>{{ message.role }} {{ message.content }}<end>\
        {% endfor %}{% if add_generation_prompt %}<start>assistant {% endif %}";
    let tokenizer = Tokenizer::from_json(&tokenizer_json().to_string()).unwrap();
    assert_eq!(tokenizer.prompt_prefix(), [BOS]);
    let companions = with_template(template);
    untrained(tokenizer, 128, SpecialTokens { bos: Some(BOS), eos: vec![END], companions })
}

/// [`bytes`] with a chat template.
pub(crate) fn chatting_bytes() -> Model {
    let companions = with_template("{{ messages[0].content }}");
    untrained(Tokenizer::byte(), 64, SpecialTokens { companions, ..SpecialTokens::default() })
}

fn with_template(template: &str) -> Companions {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("chat_template.jinja"), template).unwrap();
    Companions::read(folder.path(), &Value::Null).unwrap()
}

fn tokenizer_json() -> Value {
    let special = |(id, text): (u32, &str)| {
        json!({
            "id": id, "content": text, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        })
    };
    let added = [(BOS, "<bos>"), (START, "<start>"), (END, "<end>")].map(special);
    let mut vocab: Map<String, Value> =
        CHARACTERS.zip(0..).map(|(c, id)| (c.to_string(), json!(id))).collect();
    vocab.insert("<0x61>".to_owned(), json!(SECOND_A));
    // As of SentencePiece, which knows tokens for single bytes.
    let decoders = [
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "<bos>", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { "<bos>": { "id": "<bos>", "ids": [BOS], "tokens": ["<bos>"] } },
        },
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    })
}

fn untrained(tokenizer: Tokenizer, block_size: usize, special_tokens: SpecialTokens) -> Model {
    let config = GptConfig { vocab_size: tokenizer.vocab_size(), block_size, ..GptConfig::debug() };
    let gpt = config.init(7, &kernels::testing::test_device()).unwrap();
    Model { gpt, tokenizer, special_tokens }
}
