//! Import and export, and common options of `generate` and `score`.

use std::{
    fs,
    io::Write,
    process::{Output, Stdio},
};

use crate::support::{fixture, kindling, run, trained};
use serde_json::Value;

const GREEDY: [&str; 6] = ["--temperature", "0", "--max-tokens", "20", "--prompt", "To be"];

fn generate(model: &str, args: &[&str]) -> Value {
    let args = [&["generate", model, "--json", "--seed", "1"], args].concat();
    serde_json::from_str(&run(trained(), &args).success().stdout).unwrap()
}

fn with_input(args: &[&str], input: &str) -> Output {
    let mut child = kindling(trained(), args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn an_export_can_be_imported() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let export = |args: &[&str]| run(trained(), &[&["export", "debug"], args].concat());
    export(&["--format", "safetensors", "-o", &path("whole")]).success();
    export(&["--format", "safetensors", "--dtype", "bf16", "-o", &path("half")]).success();
    assert_eq!(generate(&path("whole"), &GREEDY), generate("debug", &GREEDY));
    let size = |name: &str| fs::metadata(folder.path().join(name).join("model.safetensors")).unwrap().len();
    assert!(size("half") < size("whole") * 6 / 10);
    let config = fs::read_to_string(folder.path().join("half/config.json")).unwrap();
    assert!(config.contains("\"dtype\": \"bfloat16\""), "{config}");
    // The export has no training state.
    assert!(!folder.path().join("whole/recipe.toml").exists());

    let imported = run(folder.path(), &["import", &path("half"), "--run", "again"]).success();
    assert!(imported.stderr.contains("generate runs/again"), "{}", imported.stderr);
    assert!(folder.path().join("runs/again/model.safetensors").is_file());
    let refused = run(folder.path(), &["import", &path("half"), "--run", "again"]).failure();
    assert!(refused.contains("runs/again already exists"), "{refused}");

    let gguf = export(&["--format", "gguf", "--dtype", "q8_0", "-o", &path("debug.gguf")]).success();
    assert!(gguf.stderr.contains("note: llama.cpp rounds the block size of 16 up"), "{}", gguf.stderr);
    assert!(fs::read(path("debug.gguf")).unwrap().starts_with(b"GGUF\x03\0\0\0"));
    let refused = export(&["--format", "gguf", "-o", &path("debug.gguf")]).failure();
    assert!(refused.contains("debug.gguf already exists; choose another path with -o"), "{refused}");
    let refused = export(&["--format", "safetensors", "--dtype", "q8_0", "-o", &path("no")]).usage_failure();
    assert!(refused.contains("--dtype q8_0 needs --format gguf"), "{refused}");
}

/// The `meta.pkl` of the fixture checkpoint: {'vocab_size': 12, 'stoi': {'a': 0, ..., 'l': 11}}, pickled with protocol
/// 2.
pub(crate) fn nanogpt_meta() -> Vec<u8> {
    let mut meta = b"\x80\x02}(X\x0a\0\0\0vocab_sizeK\x0cX\x04\0\0\0stoi}(".to_vec();
    for id in 0..12 {
        meta.extend([b'X', 1, 0, 0, 0, b'a' + id, b'K', id]);
    }
    meta.extend(b"uu.");
    meta
}

#[test]
fn a_nanogpt_checkpoint_needs_its_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = fixture("../checkpoint/tests/fixtures/layouts/nanogpt/ckpt.pt");
    fs::copy(checkpoint, folder.path().join("ckpt.pt")).unwrap();
    let refused = run(folder.path(), &["import", "ckpt.pt"]).failure();
    assert!(
        refused.contains("contains no tokenizer for its 12 tokens; give one with --tokenizer"),
        "{refused}"
    );
    fs::write(folder.path().join("meta.pkl"), nanogpt_meta()).unwrap();
    run(folder.path(), &["import", "ckpt.pt", "--run", "nano"]).success();
    let text = run(folder.path(), &["generate", "nano", "--prompt", "abc", "--max-tokens", "4"]).success();
    assert_eq!(text.stdout.trim_end().len(), 7, "{}", text.stdout);
    let wrong = run(folder.path(), &["import", "ckpt.pt", "--tokenizer", "gpt2"]).failure();
    assert!(wrong.contains("the tokenizer has 50257 tokens, but the model only 12"), "{wrong}");
}

#[test]
fn an_invalid_model_name_is_an_error_without_a_hub_request() {
    for name in ["./missing", "runs/a/b", "no such"] {
        let error = run(trained(), &["import", name]).failure();
        assert!(error.contains(&format!("there is no file or folder {name}")), "{error}");
    }
}

#[test]
fn samples_of_a_batch_equal_samples_generated_alone() {
    let options = ["--prompt", "O", "--max-tokens", "30", "--samples"];
    let together = generate("debug", &[&options[..], &["11"]].concat());
    let samples = together["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 11);
    let alone = generate("debug", &[&options[..], &["1"]].concat());
    assert_eq!(samples[0]["ids"], alone["samples"][0]["ids"]);
    assert_ne!(samples[1]["ids"], samples[0]["ids"]);
    assert_ne!(samples[10]["ids"], samples[2]["ids"], "sample numbers continue in the second batch");
}

#[test]
fn bias_stop_tokens_and_penalties_change_the_tokens() {
    let only_z = generate("debug", &["--logit-bias", "z=100", "--max-tokens", "5"]);
    assert_eq!(only_z["samples"][0]["text"], "zzzzz");
    let stopped = generate("debug", &["--logit-bias", "z=100", "--stop-token", "z", "--max-tokens", "5"]);
    assert_eq!(stopped["samples"][0]["text"], "");
    assert_eq!(stopped["samples"][0]["stopped_by"], "stop_token");
    // A frequency penalty breaks a repetition.
    let penalized =
        generate("debug", &["--temperature", "0", "--frequency-penalty", "2", "--max-tokens", "40"]);
    let plain = generate("debug", &["--temperature", "0", "--max-tokens", "40"]);
    assert_ne!(penalized["samples"][0]["ids"], plain["samples"][0]["ids"]);
    generate("debug", &["--typical-p", "0.5", "--presence-penalty", "-1", "--max-tokens", "3"]);

    let fails = |args: &[&str]| run(trained(), &[&["generate", "debug"], args].concat()).usage_failure();
    assert!(
        fails(&["--logit-bias", "zz=1"]).contains("--logit-bias: \"zz\" is neither a single token nor an id")
    );
    assert!(
        fails(&["--logit-bias", "z"])
            .contains("--logit-bias must be TOKEN=X, where X is a number (got \"z\")")
    );
    assert!(fails(&["--logit-bias", "z=x"]).contains("(got \"z=x\")"));
    assert!(fails(&["--logit-bias", "z=101"]).contains("is 101; it must be between -100 and 100"));
    assert!(fails(&["--stop-token", "65"]).contains("nor an id of this model, which has 65 tokens"));
    assert!(fails(&["--stop", ""]).contains("stop string 1 is empty"));
    assert!(fails(&["--typical-p", "0"]).contains("typical_p is 0"));
    assert!(fails(&["--frequency-penalty", "3"]).contains("frequency_penalty is 3"));
}

#[test]
fn values_may_begin_with_a_hyphen() {
    let few = ["--max-tokens", "3"];
    for prompt in [&["--prompt", "- milk"][..], &["--prompt=- milk"], &["--prompt", "--json"]] {
        let args = [&["generate", "debug"], &few[..], prompt].concat();
        let text = run(trained(), &args).success().stdout;
        let expected = prompt.last().unwrap().trim_start_matches("--prompt=");
        assert!(text.starts_with(expected), "{text}");
    }
    let hyphens = generate("debug", &[&["--logit-bias", "-=100"], &few[..]].concat());
    assert_eq!(hyphens["samples"][0]["text"], "---");
    let stopped = generate("debug", &["--logit-bias", "-=100", "--stop", "---"]);
    assert_eq!(stopped["samples"][0]["stop"], "---");
    let stopped = generate("debug", &["--logit-bias", "-=100", "--stop-token", "-"]);
    assert_eq!(stopped["samples"][0]["stopped_by"], "stop_token");
    let score = run(trained(), &["score", "debug", "--text", "-a"]).success().stdout;
    assert!(score.contains("mean of 1 token\n"), "{score}");
}

#[test]
fn a_prompt_is_read_from_a_file_or_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    fs::write(&file, "To be").unwrap();
    let options = ["--temperature", "0", "--max-tokens", "20"];
    let expected = generate("debug", &GREEDY);
    let from_file = generate("debug", &[&["--prompt-file", file.to_str().unwrap()], &options[..]].concat());
    assert_eq!(from_file, expected);
    let args = [&["generate", "debug", "--json", "--seed", "1", "--prompt-file", "-"], &options[..]].concat();
    let output = with_input(&args, "To be");
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), expected);
}

#[test]
fn interactive_mode_generates_for_each_line() {
    let output = with_input(&["generate", "debug", "-i", "--max-tokens", "5", "--seed", "1"], "To be\nO\n");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (first, second) = (text.find("To be").unwrap(), text.rfind('O').unwrap());
    assert!(first < second, "{text}");
}

#[test]
fn many_texts_are_scored_in_one_call() {
    let output = with_input(
        &["score", "debug", "--jsonl", "-"],
        "\"To be\"\n{\"text\": \"or not to be, that is the question\", \"id\": 7}\n\"\"\n",
    );
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let scores: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(scores.len(), 3);
    assert_eq!(scores[0]["logprobs"].as_array().unwrap().len(), 5);
    assert_eq!(scores[2]["logprobs"].as_array().unwrap().len(), 0);
    let alone: Value = serde_json::from_str(
        &run(trained(), &["score", "debug", "--text", "To be", "--json"]).success().stdout,
    )
    .unwrap();
    let mean = |score: &Value| score["mean_logprob"].as_f64().unwrap();
    assert!((mean(&scores[0]) - mean(&alone)).abs() < 1e-5);

    let output = with_input(&["score", "debug", "--jsonl", "-"], "\"a\"\n[1]\n");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("line 2 of standard input must be a JSON string, or an object with a string \"text\""),
        "{error}"
    );
    let stride = run(trained(), &["score", "debug", "--text", "To be", "--stride", "17"]).usage_failure();
    assert!(stride.contains("--stride must be between 1 and the block size 16 (got 17)"), "{stride}");
}

#[test]
fn a_model_is_fine_tuned_on_a_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.txt"), "To be, or not to be: that is the question.\n".repeat(60))
        .unwrap();
    let debug = trained().join("runs/debug");
    let train = |more: &[&str]| {
        let args = ["train", "finetune", "--data", "my.txt", "--set", "schedule.max_steps=2"];
        let few = ["--set", "schedule.eval_batches=2", "--set", "optimizer.grad_accumulation=2"];
        run(folder.path(), &[&args[..], &few, more].concat())
    };
    let origin = ["--init-from", debug.to_str().unwrap()];
    train(&[&origin[..], &["--run", "mine", "--set", "model.block_size=8"]].concat()).success();
    let config = fs::read_to_string(folder.path().join("runs/mine/config.json")).unwrap();
    assert!(config.contains("\"n_positions\": 8") && config.contains("\"vocab_size\": 65"), "{config}");

    let fails = |more: &[&str]| train(more).usage_failure();
    assert!(fails(&[]).contains("the recipe finetune has no model sizes"));
    let grown = fails(&[&origin[..], &["--set", "model.block_size=17"]].concat());
    assert!(
        grown.contains("was trained with 16 positions, and the block can be shortened but not extended"),
        "{grown}"
    );
    let resized = fails(&[&origin[..], &["--set", "model.n_layer=3"]].concat());
    assert!(resized.contains("--set model.n_layer=3 has no effect with --init-from"), "{resized}");
}

#[test]
fn a_weights_file_alone_is_refused() {
    let weights = trained().join("runs/debug/model.safetensors");
    let error = run(trained(), &["import", weights.to_str().unwrap()]).failure();
    assert!(error.contains("is one file of a model; give its folder"), "{error}");
}
