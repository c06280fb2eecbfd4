//! A `tokenizer.json` of each Kindling kind, and some with other components of the `tokenizers` library.

use anyhow::Result;
use serde_json::{Value, json};
use tokenizer::Tokenizer;

pub(crate) fn all() -> Result<Vec<Vec<u8>>> {
    let corpus = || ["the cat and the dog sat on the mat ".repeat(9)].into_iter().map(Ok);
    let ours = [
        Tokenizer::from_chars("abc é🙂".chars())?,
        Tokenizer::byte(),
        Tokenizer::train_bpe(corpus(), 262, &mut |_| ())?,
    ];
    let ours = ours.iter().map(Tokenizer::to_json);
    let pair = "{\"a\":0,\"b\":1,\"ab\":2,\"Ġ\":3}\n---\n#version: 0.2\na b\n".to_owned();
    Ok(ours.chain(others().iter().map(Value::to_string)).chain([pair]).map(String::into_bytes).collect())
}

fn others() -> Vec<Value> {
    let added = json!([{
        "id": 0, "content": "<s>", "single_word": false, "lstrip": true, "rstrip": false, "normalized": false,
        "special": true
    }]);
    let file =
        |normalizer: Value, pre_tokenizer: Value, model: Value, post_processor: Value, decoder: Value| {
            json!({
                "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
                "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": post_processor,
                "decoder": decoder, "model": model,
            })
        };
    vec![
        file(
            json!({"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": true}),
            json!({"type": "BertPreTokenizer"}),
            json!({"type": "WordPiece", "unk_token": "<s>", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": {"<s>": 0, "a": 1, "##b": 2, "first": 3}}),
            json!({"type": "BertProcessing", "sep": ["<s>", 0], "cls": ["<s>", 0]}),
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ),
        file(
            json!({"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace",
                "pattern": {"String": " "}, "content": "▁"}, {"type": "Prepend", "prepend": "▁"}]}),
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}),
            json!({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
                "vocab": [["<s>", 0.0], ["▁", -1.5], ["a", -2.0], ["▁ci", -2.5]]}),
            json!({"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}}),
            json!({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}),
        ),
        file(
            json!({"type": "Lowercase"}),
            json!({"type": "Sequence", "pretokenizers": [{"type": "Split",
                "pattern": {"Regex": "\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)"}, "behavior": "Isolated", "invert": false},
                {"type": "Digits", "individual_digits": true}, {"type": "Punctuation", "behavior": "Isolated"},
                {"type": "Whitespace"}]}),
            json!({"type": "WordLevel", "vocab": {"<s>": 0, "first": 1, "x": 2}, "unk_token": "<s>"}),
            Value::Null,
            json!({"type": "CTC", "pad_token": "<s>", "word_delimiter_token": "|", "cleanup": true}),
        ),
        file(
            json!({"type": "StripAccents"}),
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}),
            json!({"type": "BPE", "dropout": null, "unk_token": "<s>", "continuing_subword_prefix": "##",
                "end_of_word_suffix": "</w>", "fuse_unk": true, "byte_fallback": true, "ignore_merges": true,
                "vocab": {"<s>": 0, "a": 1, "##b</w>": 2, "ab</w>": 3, "<0x0A>": 4}, "merges": [["a", "##b</w>"]]}),
            json!({"type": "RobertaProcessing", "sep": ["<s>", 0], "cls": ["<s>", 0], "trim_offsets": true,
                "add_prefix_space": false}),
            json!({"type": "BPEDecoder", "suffix": "</w>"}),
        ),
    ]
}
