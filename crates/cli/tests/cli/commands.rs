//! Each command, on a small training run.

use std::{fs, io::Read, process::Stdio};
#[cfg(unix)]
use std::{
    io::{BufRead, BufReader},
    process::Child,
};

use crate::support::{fixture, kindling, run, trained};
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&run(trained(), args).success().stdout).unwrap()
}

#[test]
fn training_writes_all_files_of_the_run_folder() {
    let path = trained().join("runs/debug");
    for file in [
        "recipe.toml",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "metrics.jsonl",
        "samples.txt",
        "checkpoints/step-00000040/manifest.json",
    ] {
        assert!(path.join(file).is_file(), "{file}");
    }
    let config: Value = serde_json::from_str(&fs::read_to_string(path.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["architectures"][0], "GPT2LMHeadModel");
    assert_eq!(config["vocab_size"], 65);
}

#[test]
fn training_prints_losses_samples_and_the_next_commands() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(folder.path(), &["train", "debug"]).success();
    for expected in [
        "training runs/debug: ",
        "step      0/40  validation loss 4.",
        "step     40/40  validation loss ",
        "tokens/s",
        "--- sample after step 40 ---",
        "kindling generate runs/debug --prompt ",
    ] {
        assert!(ran.stderr.contains(expected), "{expected:?} is not in\n{}", ran.stderr);
    }
    assert!(ran.stdout.len() > 500, "the samples: {}", ran.stdout);

    // The next run gets a new name.
    let again = run(folder.path(), &["train", "debug"]).success();
    assert!(again.stderr.contains("runs/debug-2"), "{}", again.stderr);
    assert_eq!(again.stdout, ran.stdout, "the same seed gives the same samples");
}

#[test]
fn a_seed_makes_generation_reproducible() {
    let generate = |seed: &str| {
        let args = ["generate", "--prompt", "ROMEO:", "--max-tokens", "50", "--seed", seed];
        run(trained(), &args).success().stdout
    };
    let text = generate("1");
    assert!(text.starts_with("ROMEO:"), "{text}");
    assert_eq!(text.chars().count(), "ROMEO:".len() + 50 + "\n".len());
    assert_eq!(generate("1"), text);
    assert_ne!(generate("2"), text);
}

#[test]
fn prompt_lookup_does_not_change_the_text() {
    for temperature in ["0", "0.7"] {
        let options = ["generate", "--prompt", "ROMEO:\nROMEO:\n", "--max-tokens", "80", "--samples", "2"];
        let generate = |n: &str| {
            let args = ["--seed", "1", "--temperature", temperature, "--prompt-lookup", n];
            run(trained(), &[&options[..], &args].concat()).success().stdout
        };
        assert_eq!(generate("8"), generate("0"));
    }
}

#[test]
fn a_random_seed_is_printed_and_reproduces_the_text() {
    let options = ["generate", "--prompt", "ROMEO:", "--max-tokens", "30"];
    let first = run(trained(), &options).success();
    let seed = first.stderr.strip_prefix("seed ").unwrap().trim_end();
    assert!(seed.parse::<u64>().unwrap() < 1 << 53, "{seed}");
    let again = run(trained(), &[&options[..], &["--seed", seed]].concat()).success();
    assert_eq!((again.stdout, again.stderr.as_str()), (first.stdout, ""));

    let quiet = run(trained(), &[&options[..], &["--quiet", "--json"]].concat()).success();
    assert_eq!(quiet.stderr, "");
    let value: Value = serde_json::from_str(&quiet.stdout).unwrap();
    let seed = value["seed"].as_u64().unwrap().to_string();
    let again = run(trained(), &[&options[..], &["--seed", &seed, "--json"]].concat()).success();
    assert_eq!(again.stdout, quiet.stdout);
}

/// Starts a generation that does not end within the test.
#[cfg(unix)]
fn generate_endlessly(more: &[&str]) -> Child {
    let args = [&["generate", "debug", "--max-tokens", "1000000000", "--prompt", "ROMEO:"], more].concat();
    kindling(trained(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_output_with_a_line_break() {
    let mut child = generate_endlessly(&[]);
    let mut start_of_text = [0; 7];
    child.stdout.as_mut().unwrap().read_exact(&mut start_of_text).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(start_of_text.starts_with(b"ROMEO:") && output.stdout.ends_with(b"\n"), "{output:?}");
}

#[cfg(unix)]
#[test]
fn ctrl_c_prints_the_json_of_the_text_so_far() {
    let mut child = generate_endlessly(&["--json", "--samples", "19"]);
    let mut seed = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut seed).unwrap();
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seed, format!("seed {}\n", value["seed"]));
    let samples = value["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 16, "all samples of the first batch");
    for sample in samples {
        assert_eq!((&sample["stopped_by"], &sample["stop"]), (&"interrupted".into(), &Value::Null));
        let n_tokens = sample["ids"].as_array().unwrap().len();
        assert!(n_tokens > 0);
        assert_eq!(sample["text"].as_str().unwrap().len(), n_tokens, "a character is a token here");
        assert_eq!(sample["logprobs"].as_array().unwrap().len(), n_tokens);
    }
}

#[test]
fn generated_json_has_the_documented_keys() {
    let value = json(&[
        "generate",
        "runs/debug",
        "--prompt",
        "To be",
        "--samples",
        "2",
        "--max-tokens",
        "7",
        "--seed",
        "9007199254740993",
        "--json",
    ]);
    assert_eq!(value["seed"], 9_007_199_254_740_993_u64);
    let samples = value["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 2);
    for sample in samples {
        let mut keys: Vec<&String> = sample.as_object().unwrap().keys().collect();
        keys.sort_unstable();
        assert_eq!(keys, ["ids", "logprobs", "stop", "stopped_by", "text"]);
        assert_eq!(sample["stop"], Value::Null);
        assert_eq!(sample["ids"].as_array().unwrap().len(), 7);
        assert_eq!(sample["stopped_by"], "max_tokens");
        assert!(sample["logprobs"].as_array().unwrap().iter().all(|p| p.as_f64().unwrap() <= 0.0));
    }
    assert_ne!(samples[0], samples[1]);
}

#[test]
fn a_stop_string_ends_the_text_before_it() {
    let value = json(&["generate", "debug", "--stop", "e", "--seed", "1", "--json"]);
    let sample = &value["samples"][0];
    assert_eq!((&sample["stopped_by"], &sample["stop"]), (&"stop_string".into(), &"e".into()));
    assert!(!sample["text"].as_str().unwrap().contains('e'));
}

#[test]
fn a_long_prompt_is_cropped_with_a_warning() {
    let ran = run(
        trained(),
        &["generate", "--prompt", "To be, or not to be, that is the question", "--max-tokens", "5"],
    );
    let warning = "warning: the prompt has 41 tokens, more than the block size of 16; dropping the first ";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
    assert!(ran.success().stdout.starts_with("To be, or not to be"));
}

#[test]
fn greedy_text_agrees_with_its_scores() {
    let value = json(&[
        "generate",
        "debug",
        "--prompt",
        "ROMEO:",
        "--temperature",
        "0",
        "--max-tokens",
        "9",
        "--json",
    ]);
    let sample = &value["samples"][0];
    let text = format!("ROMEO:{}", sample["text"].as_str().unwrap());
    let score = json(&["score", "debug", "--text", &text, "--json"]);
    assert_eq!(score["logprobs"].as_array().unwrap().len(), text.len());
    assert!(score["logprobs"][0].is_null());
    for idx in 0..9 {
        assert_eq!(score["ids"][6 + idx], sample["ids"][idx]);
        let (scored, generated) =
            (score["logprobs"][6 + idx].as_f64().unwrap(), sample["logprobs"][idx].as_f64().unwrap());
        assert!((scored - generated).abs() < 1e-4, "{scored} is not {generated}");
    }
    let mean = score["mean_logprob"].as_f64().unwrap();
    let sum: f64 = score["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
    // The sum is of f32 rounded to decimals.
    assert!((mean - sum / (text.len() - 1) as f64).abs() < 1e-6);
}

#[test]
fn evaluation_measures_the_validation_part_or_a_text() {
    let value = json(&["eval", "--json"]);
    assert_eq!(value["tokens"], 111_539);
    let loss = value["loss"].as_f64().unwrap();
    assert!(loss > 2.0 && loss < 4.2, "{loss}");
    assert!((value["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-6);
    // One byte is one character here.
    assert!((value["bits_per_byte"].as_f64().unwrap() - loss / 2f64.ln()).abs() < 1e-9);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.txt");
    fs::write(&path, "To be, or not to be").unwrap();
    let value = json(&["eval", "debug", "--data", path.to_str().unwrap(), "--json"]);
    assert_eq!(value["tokens"], 18);
    assert_eq!(value["bytes"], 19);
}

#[test]
fn info_knows_the_run() {
    let value = json(&["info", "--json"]);
    assert_eq!(value["steps"], 40);
    assert_eq!(value["corpus"], "shakespeare");
    assert_eq!(value["tokenizer"], "char");
    assert_eq!(value["tokens_seen"], 40 * 8 * 16);
    let text = run(trained(), &["info", "runs/debug"]).success().stdout;
    assert!(text.contains("40 of 40 steps"), "{text}");
}

#[test]
fn bench_measures_the_requested_parts() {
    let value = json(&["bench", "debug", "--steps", "2", "--decode", "3", "--json"]);
    for part in ["train", "prefill", "decode"] {
        assert!(value[part]["tokens_per_second"].as_f64().unwrap() > 0.0, "{part}");
        assert!(value[part]["first_milliseconds"].as_f64().unwrap() > 0.0, "{part}");
    }
    assert_eq!(value["train"]["measurements"], 2, "without the warm-up");
    let value = json(&["bench", "runs/debug", "--only", "decode", "--decode", "3", "--json"]);
    assert!(value["train"].is_null() && value["decode"].is_object());
}

#[test]
fn bench_counts_the_bytes_that_decoding_reads() {
    let bytes = |args: &[&str]| {
        let bench = ["bench", "runs/debug", "--only", "decode", "--decode", "16", "--json"];
        json(&[&bench, args].concat())["decode"]["bytes_read"].as_u64().unwrap()
    };
    // The block is 16, so half of it is in the cache on average.
    let (one, two, half) = (bytes(&[]), bytes(&["--samples", "2"]), bytes(&["--kv-cache", "f16"]));
    let cached = two - one;
    assert_eq!((cached % 8, 2 * half), (0, 2 * one - cached), "{one}, {two}, {half}");
    let value = json(&["bench", "runs/debug", "--only", "decode", "--decode", "40", "--json"]);
    assert_eq!(value["decode"]["bytes_read"], one, "a full block starts again");
    assert_eq!(value["decode"]["measurements"], 40);
    let text = run(trained(), &["bench", "runs/debug", "--only", "decode"]).success().stdout;
    assert!(text.contains(" read per step\n") && text.contains(" GB/s, "), "{text}");
}

#[test]
fn bench_stops_after_its_time() {
    let endless = ["--steps", "1000000000", "--decode", "1000000000", "--seconds", "1", "--json"];
    let value = json(&[&["bench", "debug"][..], &endless].concat());
    for part in ["train", "decode"] {
        assert!(value[part]["measurements"].as_u64().unwrap() > 0, "{part}");
    }
    assert_eq!(value["prefill"]["tokens"], 16, "the block");
}

#[test]
fn an_f16_kv_cache_changes_probabilities_little() {
    let generate = |args: &[&str]| {
        let options = ["generate", "debug", "--prompt", "the", "--max-tokens", "12", "--temperature", "0"];
        let value = json(&[&options[..], &["--seed", "1", "--json"], args].concat());
        value["samples"][0].clone()
    };
    let (exact, rounded) = (generate(&[]), generate(&["--kv-cache", "f16"]));
    assert_eq!(rounded["ids"], exact["ids"]);
    assert_ne!(rounded["logprobs"], exact["logprobs"], "nothing was rounded");
    assert_eq!(generate(&["--kv-cache", "f32"]), exact);
}

#[test]
fn a_resumed_run_logs_each_sample_once() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["train", "debug"]).success();
    // As if the process had stopped before the last checkpoint.
    let path = folder.path().join("runs/debug");
    fs::remove_dir_all(path.join("checkpoints/step-00000040")).unwrap();
    let samples = || fs::read_to_string(path.join("samples.txt")).unwrap();
    let before = samples();
    run(folder.path(), &["train", "--resume"]).success();
    assert_eq!(samples(), before);
    assert_eq!(before.matches("--- step ").count(), 2);
}

#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_the_run_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let endless =
        ["train", "debug", "--run", "mine"].into_iter().chain(["--set", "schedule.max_steps=1000000000"]);
    let mut command = kindling(folder.path(), &endless.collect::<Vec<_>>());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut output = String::new();
    while !output.contains("tokens/s") {
        assert_ne!(stderr.read_line(&mut output).unwrap(), 0, "it ended before its first step:\n{output}");
    }
    interrupt(&child);
    stderr.read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{output}");
    assert!(output.contains("kindling train --resume --run runs/mine"), "{output}");
    let (_, after) = output.split_once("stopped after step ").unwrap();
    let step: u64 = after.split(',').next().unwrap().parse().unwrap();
    let checkpoint = folder.path().join(format!("runs/mine/checkpoints/step-{step:08}"));
    assert!(checkpoint.join("manifest.json").is_file(), "{output}");

    let one_more = format!("schedule.max_steps={}", step + 1);
    let ran = run(folder.path(), &["train", "--resume", "--run", "mine", "--set", &one_more]).success();
    assert!(ran.stderr.contains(&format!("--- sample after step {} ---", step + 1)), "{}", ran.stderr);
}

#[test]
fn an_interrupted_run_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let five = ["train", "debug", "--run", "mine", "--set", "schedule.max_steps=5"];
    run(folder.path(), &five).success();
    let ran = run(folder.path(), &["train", "--resume", "--set", "schedule.max_steps=40"]).success();
    assert!(ran.stderr.contains("resuming runs/mine"), "{}", ran.stderr);
    let metrics = fs::read_to_string(folder.path().join("runs/mine/metrics.jsonl")).unwrap();
    let steps: Vec<u64> = metrics
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["step"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(steps.last(), Some(&40));
}

#[test]
fn any_text_trains_and_generates_with_any_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let greek = "Ἄνδρα μοι ἔννεπε, Μοῦσα, πολύτροπον, ὃς μάλα πολλὰ\n学而时习之，不亦说乎 🙂\n".repeat(60);
    fs::write(folder.path().join("odyssey.txt"), greek).unwrap();
    for tokenizer in ["char", "byte", "gpt2", "bpe:300"] {
        let set = format!("data.tokenizer={tokenizer}");
        let args =
            ["train", "debug", "--data", "odyssey.txt", "--run", &tokenizer.replace(':', "-"), "--set", &set];
        let short = [
            "--set",
            "schedule.max_steps=3",
            "--set",
            "schedule.warmup_steps=1",
            "--set",
            "schedule.eval_batches=1",
        ];
        run(folder.path(), &[args.as_slice(), &short].concat()).success();
        let prompt = ["generate", "--prompt", "Μοῦσα", "--max-tokens", "20"];
        let text = run(folder.path(), &prompt).success().stdout;
        assert!(text.starts_with("Μοῦσα"), "{tokenizer}: {text}");
    }
}

#[test]
fn a_run_starts_from_the_weights_of_another_model() {
    let folder = tempfile::tempdir().unwrap();
    let origin = trained().join("runs/debug");
    let origin = origin.to_str().unwrap();
    let args = [
        "train",
        "debug",
        "--init-from",
        origin,
        "--set",
        "schedule.max_steps=1",
        "--set",
        "schedule.warmup_steps=0",
    ];
    let ran = run(folder.path(), &args).success();
    let first = ran.stderr.lines().find(|line| line.contains("step      0/1  validation loss")).unwrap();
    let loss: f64 = first.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(loss < 4.0, "it starts from the trained weights: {first}");
    // Resuming reuses the data prepared with the other model's tokenizer.
    let prepared = || fs::read_dir(folder.path().join("datasets/shakespeare")).unwrap().count();
    assert_eq!(prepared(), 1);
    run(folder.path(), &["train", "--resume", "--set", "schedule.max_steps=2"]).success();
    assert_eq!(prepared(), 1);
}

#[test]
fn a_closed_pipe_is_success() {
    let mut command = kindling(trained(), &["generate", "--max-tokens", "400", "--seed", "1"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(status.success(), "{stderr}");
    assert_eq!(stderr, "");
}

#[test]
fn the_engine_and_the_command_generate_the_same_text() {
    let story = fixture("../engine/tests/fixtures/story");
    let texts = [" saw it.\nthe hen ran to the roof, and th", " saw it.\nthe hen ran to the wall, and th"];
    let options =
        sampler::Options { max_tokens: 40, top_k: Some(10), seed: 5, ..sampler::Options::default() };

    let model = engine::Models::default().open(&story).unwrap();
    let model = model.load(&burn::prelude::Device::flex()).unwrap();
    let prompt = engine::encode_prompt(&model.tokenizer, "the cat").unwrap();
    let request = engine::Request { samples: 0..2, ..engine::Request::new(prompt, options) };
    let pieces = engine::Generation::begin(&model.gpt, &model.tokenizer, request).unwrap();
    let mut generated = [String::new(), String::new()];
    for piece in pieces {
        let piece = piece.unwrap();
        generated[piece.sample] += &piece.text;
    }
    assert_eq!(generated, texts);

    let story = story.to_str().unwrap();
    let args = ["--seed", "5", "--samples", "2", "--max-tokens", "40", "--top-k", "10", "--json"];
    let printed = json(&[&["generate", story, "--prompt", "the cat"], &args[..]].concat());
    let printed: Vec<_> = printed["samples"].as_array().unwrap().iter().map(|it| &it["text"]).collect();
    assert_eq!(printed, texts);
}
