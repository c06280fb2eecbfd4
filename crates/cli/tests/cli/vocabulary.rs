//! Tokenizers in GPT-2's older files, and tokenizers with more or fewer tokens than their model.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::support::{run, trained};
use serde_json::{Value, json};

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// A copy of the trained model whose `tokenizer.json` has been edited.
fn with_tokenizer(folder: &Path, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let model = folder.join("model");
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(trained().join("runs/debug").join(file), model.join(file)).unwrap();
    }
    let mut tokenizer = read_json(&trained().join("runs/debug/tokenizer.json"));
    edit(&mut tokenizer);
    fs::write(model.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    model
}

#[test]
fn tokens_that_the_tokenizer_lacks_are_never_generated() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_tokenizer(folder.path(), |tokenizer| {
        tokenizer["model"]["vocab"].as_object_mut().unwrap().remove("z").expect("z is the last character");
    });
    let ids = |model: &str, args: &[&str]| -> Vec<u64> {
        let all = [&["generate", model, "--json", "--seed", "1", "--max-tokens", "300"], args].concat();
        let generated: Value = serde_json::from_str(&run(folder.path(), &all).success().stdout).unwrap();
        generated["samples"][0]["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    };
    let whole = trained().join("runs/debug");
    let hot = ["--temperature", "20"];
    assert!(ids(whole.to_str().unwrap(), &hot).contains(&64), "all tokens are about as likely");
    assert!(ids("model", &hot).iter().all(|&id| id < 64));
    // The missing tokens have no probability.
    let greedy = ["--temperature", "0"];
    let without_z = [&greedy[..], &["--logit-bias", "z=-100"]].concat();
    assert_eq!(ids("model", &greedy), ids(whole.to_str().unwrap(), &without_z));
    let refused = run(folder.path(), &["generate", "model", "--logit-bias", "#64=100"]).usage_failure();
    assert!(refused.contains("nor an id of this model, which has 64 tokens"), "{refused}");

    // Import, training and export keep the model's vocabulary size.
    let size = |config: &str| read_json(&folder.path().join(config))["vocab_size"].clone();
    run(folder.path(), &["import", "model", "--run", "again"]).success();
    assert_eq!(size("runs/again/config.json"), 65);
    fs::write(folder.path().join("my.txt"), "To be, or not to be: that is a question.\n".repeat(20)).unwrap();
    let few = ["--set", "schedule.max_steps=1", "--set", "schedule.eval_batches=1"];
    let train = ["train", "finetune", "--init-from", "again", "--data", "my.txt", "--run", "mine"];
    run(folder.path(), &[&train[..], &few].concat()).success();
    assert_eq!(size("runs/mine/config.json"), 65);
    run(folder.path(), &["export", "mine", "--format", "gguf", "-o", "mine.gguf"]).success();
    let score = run(folder.path(), &["score", model.to_str().unwrap(), "--text", "buzz"]).failure();
    assert!(score.contains("character 'z'"), "{score}");
}

#[test]
fn a_tokenizer_larger_than_its_model_refuses_only_texts_with_the_extra_tokens() {
    let folder = tempfile::tempdir().unwrap();
    with_tokenizer(folder.path(), |tokenizer| tokenizer["model"]["vocab"]["é"] = json!(65));
    const WARNING: &str = "warning: the tokenizer has 66 tokens and the model only 65; texts that need the others are rejected\n";
    let greedy = |model: &str| {
        let options =
            ["--prompt", "To be", "--temperature", "0", "--seed", "1", "--max-tokens", "9", "--json"];
        run(folder.path(), &[&["generate", model], &options[..]].concat()).success()
    };
    let opened = greedy("model");
    assert!(opened.stderr.contains(WARNING), "{}", opened.stderr);
    assert_eq!(opened.stdout, greedy(trained().join("runs/debug").to_str().unwrap()).stdout);
    fs::write(folder.path().join("cafe.txt"), "a café ".repeat(40)).unwrap();
    let few = ["--set", "schedule.max_steps=1", "--set", "schedule.eval_windows=2"];
    let train = [&["train", "finetune", "--init-from", "model", "--data", "cafe.txt"], &few[..]].concat();
    let needs =
        "the text has the token \"é\" (id 65), but the model has only 65 tokens; remove it from the text";
    for args in [
        &["generate", "model", "--prompt", "café"][..],
        &["score", "model", "--text", "café"],
        &["eval", "model", "--data", "cafe.txt"],
        &train,
    ] {
        let refused = run(folder.path(), args).failure();
        assert!(refused.contains(needs), "{args:?}: {refused}");
    }
    let other = run(folder.path(), &["generate", "model", "--logit-bias", "é=1"]).usage_failure();
    assert!(other.contains("which has 65 tokens"), "{other}");

    // Import keeps the whole tokenizer; a GGUF file has only as many tokens as the model.
    run(folder.path(), &["import", "model", "--run", "again"]).success();
    let tokenizer = read_json(&folder.path().join("runs/again/tokenizer.json"));
    assert_eq!(tokenizer["model"]["vocab"]["é"], 65);
    run(folder.path(), &["export", "again", "--format", "gguf", "-o", "again.gguf"]).success();
    assert!(greedy("again").stderr.contains(WARNING));
    assert!(!greedy("again.gguf").stderr.contains("tokenizer has"));
}

#[test]
fn special_token_ids_beyond_the_vocabulary_are_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_tokenizer(folder.path(), |_| {});
    let mut config = read_json(&model.join("config.json"));
    // The defaults of transformers for GPT-2.
    (config["bos_token_id"], config["eos_token_id"]) = (json!(50256), json!(50256));
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let warning = "model: ignoring bos_token_id or eos_token_id 50256: the model has only 65 tokens\n";
    let imported = run(folder.path(), &["import", "model", "--run", "again"]).success();
    assert!(imported.stderr.contains(warning), "{}", imported.stderr);
    fs::write(folder.path().join("my.txt"), "To be, or not to be: that is a question.\n".repeat(20)).unwrap();
    let few = ["--set", "schedule.max_steps=1", "--set", "schedule.eval_windows=2"];
    let train = ["train", "finetune", "--init-from", "model", "--data", "my.txt", "--run", "mine"];
    let trained = run(folder.path(), &[&train[..], &few].concat()).success();
    assert_eq!(trained.stderr.matches(warning).count(), 1, "{}", trained.stderr);
    for run_name in ["again", "mine"] {
        let file = read_json(&folder.path().join("runs").join(run_name).join("generation_config.json"));
        assert_eq!(
            (&file["bos_token_id"], &file["eos_token_id"]),
            (&Value::Null, &Value::Null),
            "{run_name}"
        );
    }
    for (origin, is_told) in [("model", true), ("mine", false)] {
        let output = format!("{origin}.gguf");
        let exported = run(folder.path(), &["export", origin, "--format", "gguf", "-o", &output]).success();
        assert_eq!(exported.stderr.contains(warning), is_told, "{}", exported.stderr);
        let generate = ["generate", &output, "--prompt", "To", "--max-tokens", "3"];
        run(folder.path(), &generate).success();
    }
}

/// A model with a BPE tokenizer in GPT-2's older files, `vocab.json` and `merges.txt`.
fn with_two_files(folder: &Path) -> PathBuf {
    fs::write(folder.join("my.txt"), "the old elm fell at dawn, and the old oak fell at dusk\n".repeat(40))
        .unwrap();
    let train = ["train", "debug", "--data", "my.txt", "--run", "bpe", "--set", "schedule.max_steps=1"];
    run(folder, &[&train[..], &["--set", "data.tokenizer=bpe:270"]].concat()).success();
    let model = folder.join("old");
    fs::create_dir(&model).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(folder.join("runs/bpe").join(file), model.join(file)).unwrap();
    }
    let tokenizer = read_json(&folder.join("runs/bpe/tokenizer.json"));
    let mut vocabulary = tokenizer["model"]["vocab"].clone();
    // In vocab.json, the special token is an ordinary entry.
    vocabulary["<|endoftext|>"] = tokenizer["added_tokens"][0]["id"].clone();
    fs::write(model.join("vocab.json"), vocabulary.to_string()).unwrap();
    let merge = |pair: &Value| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    let merges: Vec<_> = tokenizer["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    assert!(!merges.is_empty());
    fs::write(model.join("merges.txt"), format!("#version: 0.2\n{}\n", merges.join("\n"))).unwrap();
    model
}

#[test]
fn vocab_json_and_merges_txt_are_the_same_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let model = with_two_files(folder.path());
    let score = |model: &str| {
        let text = "the old elm <|endoftext|> fell\n über 3 dusks";
        run(folder.path(), &["score", model, "--json", "--text", text]).success().stdout
    };
    assert_eq!(score("old"), score("bpe"));
    let special = |model: &str| {
        let options =
            ["--json", "--seed", "1", "--temperature", "0", "--special", "--prompt", "dawn<|endoftext|>"];
        run(folder.path(), &[&["generate", model], &options[..]].concat()).success().stdout
    };
    assert_eq!(special("old"), special("bpe"));
    run(folder.path(), &["import", "old", "--run", "new"]).success();
    let tokenizer = |run: &str| read_json(&folder.path().join("runs").join(run).join("tokenizer.json"));
    assert_eq!(tokenizer("new"), tokenizer("bpe"));

    let refused = |file: &str, contents: &str| {
        fs::write(model.join(file), contents).unwrap();
        run(folder.path(), &["generate", "old"]).failure()
    };
    let error = refused("merges.txt", "t h e\nth");
    assert!(error.contains("merges.txt: the line \"th\" is not two tokens"), "{error}");
    let error = refused("merges.txt", "x yz\n");
    assert!(error.contains("merges.txt: "), "{error}");
    fs::remove_file(model.join("merges.txt")).unwrap();
    let error = run(folder.path(), &["generate", "old"]).failure();
    assert!(
        error.contains("cannot load the tokenizer file old/vocab.json: its merges.txt is missing"),
        "{error}"
    );
}
