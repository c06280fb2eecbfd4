//! Models with architecture options other than GPT-2's: their Hugging Face layout, and the errors for options without
//! one.

use std::{fs, path::Path};

use crate::support::run;
use serde_json::Value;

/// Architecture options of Llama.
const LLAMA: [&str; 8] = [
    "--set",
    "model.position=rope",
    "--set",
    "model.norm=rms_norm",
    "--set",
    "model.activation=swiglu",
    "--set",
    "model.bias=false",
];

fn train(folder: &Path, name: &str, more: &[&str]) {
    run(folder, &[&["train", "debug", "--run", name], &LLAMA[..], more].concat()).success();
}

fn greedy(folder: &Path, model: &str) -> String {
    let options = ["--temperature", "0", "--max-tokens", "40", "--prompt", "To be"];
    run(folder, &[&["generate", model], &options[..]].concat()).success().stdout
}

fn config(folder: &Path, model: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join(model).join("config.json")).unwrap()).unwrap()
}

#[test]
fn the_architecture_options_decide_the_layout() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let qwen3 = ["--set", "model.qk_norm=true", "--set", "model.n_kv_head=1", "--set", "model.head_dim=10"];
    let learning = ["--set", "model.zero_init=true", "--set", "optimizer.kind=muon"];
    train(folder, "qwen3", &[&qwen3[..], &learning].concat());
    assert_eq!(config(folder, "runs/qwen3")["architectures"][0], "Qwen3ForCausalLM");
    let card = fs::read_to_string(folder.join("runs/qwen3/README.md")).unwrap();
    assert!(card.contains("tags: [qwen3, kindling]") && card.contains("A Qwen3 language model of"), "{card}");
    for text in [&card, &run(folder, &["info", "qwen3"]).success().stdout] {
        let options = "position = rope, norm = rms_norm, activation = swiglu, qk_norm = true, n_kv_head = 1, head_dim = 10";
        assert!(
            text.contains(options) && text.contains("zero_init = true") && text.contains("Muon, and AdamW"),
            "{text}"
        );
    }
    let info: Value =
        serde_json::from_str(&run(folder, &["info", "qwen3", "--json"]).success().stdout).unwrap();
    assert_eq!((&info["architecture"], &info["key_value_heads"]), (&"Qwen3ForCausalLM".into(), &1.into()));

    run(folder, &["export", "qwen3", "--format", "safetensors", "-o", "there"]).success();
    run(folder, &["import", "there", "--run", "back"]).success();
    assert_eq!(greedy(folder, "back"), greedy(folder, "qwen3"));
    let weights = |name: &str| fs::read(folder.join(name).join("model.safetensors")).unwrap();
    assert_eq!(weights("runs/back"), weights("runs/qwen3"));
    run(folder, &["export", "qwen3", "--format", "gguf", "-o", "qwen3.gguf"]).success();
    run(folder, &["score", "there", "--text", "To be, or not to be"]).success();
    fs::write(folder.join("my.txt"), "To be, or not to be: that is the question.").unwrap();
    run(folder, &["eval", "there", "--data", "my.txt"]).success();
}

#[test]
fn a_llama_is_fine_tuned_with_its_own_options() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "llama", &["--set", "model.n_kv_head=1"]);
    assert_eq!(config(folder, "runs/llama")["architectures"][0], "LlamaForCausalLM");
    for (recipe, name) in [("debug", "again"), ("finetune", "tuned")] {
        let few = ["--set", "schedule.max_steps=2", "--set", "model.block_size=8"];
        let args = ["train", recipe, "--init-from", "llama", "--run", name, "--data", "shakespeare"];
        run(folder, &[&args[..], &few, &["--set", "schedule.eval_batches=1"]].concat()).success();
        let (mut before, mut after) = (config(folder, "runs/llama"), config(folder, &format!("runs/{name}")));
        assert_eq!(
            (before["max_position_embeddings"].take(), after["max_position_embeddings"].take()),
            (16.into(), 8.into())
        );
        assert_eq!(after, before);
    }
    run(folder, &["train", "--resume", "--run", "again", "--set", "schedule.max_steps=4"]).success();
}

#[test]
fn model_family_chooses_among_families_with_the_same_options() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "mistral", &["--set", "model.family=mistral"]);
    assert_eq!(config(folder, "runs/mistral")["architectures"][0], "MistralForCausalLM");
    run(folder, &["train", "--resume", "--run", "mistral", "--set", "schedule.max_steps=42"]).success();
    run(folder, &["import", "runs/mistral", "--run", "copy"]).success();
    assert_eq!(config(folder, "runs/copy"), config(folder, "runs/mistral"));
    run(folder, &["export", "mistral", "--format", "gguf", "-o", "mistral.gguf"]).success();
    assert_eq!(greedy(folder, "copy"), greedy(folder, "mistral"));

    let refused = |sets: &[&str]| {
        let args = [&["train", "debug", "--run", "other"], &LLAMA[..], sets].concat();
        run(folder, &args).usage_failure()
    };
    let error = refused(&["--set", "model.family=mixtral"]);
    assert!(error.contains("unknown `family` = \"mixtral\"; choose \"gpt2\", \"llama\""), "{error}");
    let error = refused(&["--set", "model.family=mistral", "--set", "model.bias=true"]);
    assert!(error.contains("`family` = \"mistral\" is incompatible with `bias` = true"), "{error}");
    let error = refused(&["--set", "model.qkv_bias=true", "--set", "model.bias=true"]);
    assert!(error.contains("`qkv_bias` has no effect with `bias` = true"), "{error}");
}

#[test]
fn a_model_without_a_hugging_face_layout_is_trained_but_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "own", &["--set", "model.norm=layer_norm", "--set", "model.zero_init=true"]);
    run(folder, &["train", "--resume", "--run", "own", "--set", "schedule.max_steps=50"]).success();
    run(folder, &["import", "runs/own", "--run", "copy"]).success();
    assert_eq!(greedy(folder, "copy"), greedy(folder, "own"));

    let reason = "no Hugging Face architecture combines `position` = \"rope\" with `norm` = \"layer_norm\"";
    let info = run(folder, &["info", "own"]).success().stdout;
    assert!(info.contains(&format!("layout      kindling only: {reason}")), "{info}");
    let card = fs::read_to_string(folder.join("runs/own/README.md")).unwrap();
    assert!(card.contains(reason) && !card.contains("transformers"), "{card}");
    for format in ["safetensors", "gguf"] {
        let refused = run(folder, &["export", "own", "--format", format, "-o", "out"]).failure();
        assert!(refused.contains(reason) && refused.contains("cannot export out"), "{refused}");
        assert!(!folder.join("out").exists());
    }
    let recipe = fs::read_to_string(folder.join("runs/own/recipe.toml")).unwrap();
    assert!(recipe.contains("zero_init = true"), "{recipe}");
}

#[test]
fn a_llama_works_with_an_imported_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    train(folder, "llama", &["--set", "data.tokenizer=bpe:280"]);
    run(folder, &["export", "llama", "--format", "safetensors", "-o", "there"]).success();
    // As in SmolLM: digits are split off before byte-level pre-tokenization.
    let file = folder.join("there/tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let byte_level = tokenizer["pre_tokenizer"].take();
    let digits = serde_json::json!({ "type": "Digits", "individual_digits": true });
    tokenizer["pre_tokenizer"] =
        serde_json::json!({ "type": "Sequence", "pretokenizers": [digits, byte_level] });
    fs::write(&file, tokenizer.to_string()).unwrap();

    let stdout = run(folder, &["info", "there"]).success().stdout;
    assert!(stdout.contains("layout      LlamaForCausalLM\n  tokenizer   from elsewhere"), "{stdout}");
    let of = |model: &str| -> Value {
        serde_json::from_str(&run(folder, &["score", model, "--text", "a 12", "--json"]).success().stdout)
            .unwrap()
    };
    assert_eq!(of("there")["logprobs"].as_array().unwrap().len(), 4);
    run(folder, &["import", "there", "--run", "back"]).success();
    assert_eq!(of("back"), of("there"));
    assert_eq!(greedy(folder, "back"), greedy(folder, "llama"));
}
