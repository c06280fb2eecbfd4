//! Chat template, special tokens and sampling settings of an imported model are kept through import, training and
//! export, in folders and GGUF files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use formats::gguf::{Gguf, Value as GgufValue};
use serde_json::{Value, json};

use crate::{
    gguf_files::write_model_with,
    support::{fixture, run, trained},
};

const TEMPLATE: &str = "{% for m in messages %}<|begin|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}";
const TOOLS: &str = "{{ tools }}<|begin|>";

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn write_json(path: &Path, value: &Value) {
    fs::write(path, value.to_string()).unwrap();
}

/// A model with the tokenizer of a fixture and all companion files.
fn chat_model(folder: &Path) -> PathBuf {
    let tokenizer = fixture("../tokenizer/tests/fixtures/special/stripping/tokenizer.json");
    let mut tokenizer = read_json(&tokenizer);
    // llama.cpp has no equivalent of `single_word` tokens.
    tokenizer["added_tokens"].as_array_mut().unwrap().retain(|token| token["single_word"] == false);
    let n_tokens = tokenizer["added_tokens"].as_array().unwrap().last().unwrap()["id"].as_u64().unwrap() + 1;
    let text = "the kettle sings once more and the cat listens\na mason and a miller walk to the market in the morning\n\
        seven lanterns hang over the river, and seven more hang over the mill\nonce more the miller sings, \
        once more the cat walks away\n";
    fs::write(folder.join("my.txt"), text.repeat(30)).unwrap();
    write_json(&folder.join("bpe.json"), &tokenizer);
    let sizes = ["--set", "schedule.max_steps=1", "--set", "schedule.eval_windows=2"];
    let train = ["train", "debug", "--data", "my.txt", "--run", "sizes", "--set", "data.tokenizer=bpe:331"];
    run(folder, &[&train[..], &sizes].concat()).success();
    let model = folder.join("chat");
    run(folder, &["export", "sizes", "--format", "safetensors", "-o", "chat"]).success();
    write_json(&model.join("tokenizer.json"), &tokenizer);
    assert!(n_tokens > 331, "the model lacks the last tokens: {n_tokens}");
    let mut config = read_json(&model.join("config.json"));
    (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) = (json!(0), json!(1), json!(1));
    write_json(&model.join("config.json"), &config);
    write_json(
        &model.join("tokenizer_config.json"),
        &json!({
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>", "eos_token": "<|end|>",
            "pad_token": "<|end|>", "unk_token": {"__type": "AddedToken", "content": "<|begin|>"}, "cls_token": "<|begin|>",
            "additional_special_tokens": ["<|begin|>"], "padding_side": "left", "chat_template": "{{ an_older_one }}",
            "name_or_path": "someone/chat",
        }),
    );
    fs::write(model.join("chat_template.jinja"), TEMPLATE).unwrap();
    fs::create_dir(model.join("additional_chat_templates")).unwrap();
    fs::write(model.join("additional_chat_templates/tool_use.jinja"), TOOLS).unwrap();
    write_json(
        &model.join("special_tokens_map.json"),
        &json!({"eos_token": "<|end|>", "pad_token": "<|end|>"}),
    );
    write_json(
        &model.join("generation_config.json"),
        &json!({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "temperature": 0.2, "top_p": 0.9, "do_sample": true}),
    );
    model
}

/// Fails unless a folder has the companion files of [`chat_model`].
#[track_caller]
fn check_companions(folder: &Path) {
    let tokenizer = read_json(&folder.join("tokenizer_config.json"));
    for (key, value) in [
        ("bos_token", json!("<|begin|>")),
        ("eos_token", json!("<|end|>")),
        ("pad_token", json!("<|end|>")),
        ("cls_token", json!("<|begin|>")),
        ("additional_special_tokens", json!(["<|begin|>"])),
        ("padding_side", json!("left")),
    ] {
        assert_eq!(tokenizer[key], value, "{key} of {}", folder.display());
    }
    assert_eq!(tokenizer["unk_token"]["content"], "<|begin|>");
    assert_eq!(fs::read_to_string(folder.join("chat_template.jinja")).unwrap(), TEMPLATE);
    assert_eq!(fs::read_to_string(folder.join("additional_chat_templates/tool_use.jinja")).unwrap(), TOOLS);
    assert_eq!(read_json(&folder.join("special_tokens_map.json"))["pad_token"], "<|end|>");
    let generation = read_json(&folder.join("generation_config.json"));
    let expected = json!({"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1, "temperature": 0.2, "top_p": 0.9, "do_sample": true});
    assert_eq!(generation, expected, "{}", folder.display());
    assert_eq!(read_json(&folder.join("config.json"))["pad_token_id"], 1);
}

#[test]
fn companion_files_are_kept_through_import_training_and_export() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    check_companions(&chat_model(path));
    run(path, &["import", "chat", "--run", "imported"]).success();
    check_companions(&path.join("runs/imported"));
    let imported = read_json(&path.join("runs/imported/tokenizer_config.json"));
    assert_eq!(imported["name_or_path"], Value::Null, "the origin of the model is left out");
    let few = ["--set", "schedule.max_steps=1", "--set", "schedule.eval_windows=2"];
    let train = ["train", "finetune", "--init-from", "imported", "--data", "my.txt", "--run", "tuned"];
    run(path, &[&train[..], &few].concat()).success();
    check_companions(&path.join("runs/tuned"));
    run(path, &["export", "tuned", "--format", "safetensors", "-o", "out"]).success();
    check_companions(&path.join("out"));

    // A GGUF file has what it has keys for, and a note reports the rest.
    let exported = run(path, &["export", "tuned", "--format", "gguf", "-o", "out.gguf"]).success().stderr;
    for note in [
        "note: GGUF has no keys for temperature, top_p of generation_config.json; left out\n",
        "note: GGUF has no key for cls_token \"<|begin|>\"; left out\n",
    ] {
        assert!(exported.contains(note), "{exported}");
    }
    let bytes = fs::read(path.join("out.gguf")).unwrap();
    let file = Gguf::parse(&bytes).unwrap();
    let number = |key: &str| file.value(&format!("tokenizer.ggml.{key}")).and_then(GgufValue::as_u64);
    assert_eq!(
        ["bos_token_id", "eos_token_id", "padding_token_id", "unknown_token_id"].map(number),
        [0, 1, 1, 0].map(Some)
    );
    let text = |key: &str| file.value(key).and_then(GgufValue::as_str);
    assert_eq!(text("tokenizer.chat_template"), Some(TEMPLATE), "not the older one");
    assert_eq!(text("tokenizer.chat_template.tool_use"), Some(TOOLS));

    // Back from GGUF.
    run(path, &["import", "out.gguf", "--run", "back"]).success();
    run(path, &["export", "back", "--format", "safetensors", "-o", "again"]).success();
    let again = read_json(&path.join("again/tokenizer_config.json"));
    assert_eq!((&again["pad_token"], &again["unk_token"]), (&json!("<|end|>"), &json!("<|begin|>")));
    assert_eq!(fs::read_to_string(path.join("again/chat_template.jinja")).unwrap(), TEMPLATE);
    run(path, &["export", "back", "--format", "gguf", "-o", "again.gguf"]).success();
    let again = fs::read(path.join("again.gguf")).unwrap();
    let again = Gguf::parse(&again).unwrap();
    for key in
        ["tokenizer.chat_template", "tokenizer.chat_template.tool_use", "tokenizer.ggml.padding_token_id"]
    {
        assert_eq!(again.value(key), file.value(key), "{key}");
    }
}

#[test]
fn template_names_in_a_gguf_file_cannot_escape_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let names = vec!["../../outside".to_owned(), "rag".to_owned()];
    let keys = [
        ("tokenizer.chat_templates", names.into()),
        ("tokenizer.chat_template.../../outside", "{{ bad }}".into()),
        ("tokenizer.chat_template.rag", TOOLS.into()),
    ];
    write_model_with(folder.path(), "small.gguf", &keys);
    run(folder.path(), &["import", "small.gguf", "--run", "small"]).success();
    let templates = folder.path().join("runs/small/additional_chat_templates");
    let written: Vec<_> = fs::read_dir(templates).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(written, ["rag.jinja"]);
    assert!(!folder.path().join("runs/outside.jinja").exists());
}

#[test]
fn a_prompt_with_special_tokens_as_plain_text_gets_a_note() {
    let folder = tempfile::tempdir().unwrap();
    write_model_with(folder.path(), "small.gguf", &[]);
    let generate = |more: &[&str]| {
        let args = ["generate", "small.gguf", "--max-tokens", "1", "--seed", "1"];
        run(folder.path(), &[&args[..], more].concat()).success().stderr
    };
    let hint =
        "note: the prompt contains the special token </s> as plain text; --special encodes it as one token";
    assert!(generate(&["--prompt", "the kettle</s>"]).contains(hint));
    assert!(!generate(&["--prompt", "the kettle</s>", "--special"]).contains("note:"));
    assert!(!generate(&["--prompt", "the kettle"]).contains("note:"));
}

#[test]
fn added_tokens_beside_vocab_json_and_merges_txt_are_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let two_files = fixture("../tokenizer/tests/fixtures/special/two_files");
    let model = chat_model(folder.path());
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    for file in
        ["vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json", "special_tokens_map.json"]
    {
        fs::copy(two_files.join(file), model.join(file)).unwrap();
    }
    let refused = run(folder.path(), &["generate", "chat", "--special", "--prompt", "<|bot|>"]).failure();
    assert!(
        refused.contains("the text has the token \"<|bot|>\" (id 331), but the model has only 331"),
        "{refused}"
    );
    let special = ["generate", "chat", "--special", "--prompt", "<|user|>the cat", "--max-tokens", "1"];
    run(folder.path(), &special).success();
    let plain = ["generate", "chat", "--prompt", "<|user|>the cat", "--max-tokens", "1"];
    let hint = run(folder.path(), &plain).success().stderr;
    assert!(hint.contains("contains the special token <|user|>"), "{hint}");
}

#[test]
fn a_broken_companion_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("chat");
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        fs::copy(trained().join("runs/debug").join(file), model.join(file)).unwrap();
    }
    let import = |run_name: &str| run(folder.path(), &["import", "chat", "--run", run_name]);
    for (idx, (file, lost)) in [
        ("tokenizer_config.json", "its special tokens and chat template are left out"),
        ("special_tokens_map.json", "its special tokens are left out"),
        (
            "generation_config.json",
            "its sampling settings, and BOS and EOS tokens that only it names, are left out",
        ),
        ("chat_template.jinja", "its chat template is left out"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = model.join(file);
        fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
        let error = import("pointer").failure();
        assert!(error.contains(&format!("chat/{file} is a Git LFS pointer")), "{error}");
        fs::write(&path, b"{\xff").unwrap();
        let stderr = import(&format!("bytes-{idx}")).success().stderr;
        let warning = format!("chat/{file} can't be read (");
        assert!(
            stderr.matches("warning: ").count() == 1 && stderr.contains(&warning) && stderr.contains(lost),
            "{stderr}"
        );
        if file.ends_with(".json") {
            fs::write(&path, "[1]").unwrap();
            let stderr = import(&format!("array-{idx}")).success().stderr;
            let warning = format!("chat/{file} is not a valid JSON object (");
            assert!(
                stderr.matches("warning: ").count() == 1
                    && stderr.contains(&warning)
                    && stderr.contains(lost),
                "{stderr}"
            );
        }
        fs::remove_file(&path).unwrap();
    }
}
