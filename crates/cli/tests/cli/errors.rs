//! Error messages, and the help of each command.

use std::fs;

use crate::support::{Ran, run, trained};
use expect_test::expect;

#[track_caller]
fn fails(args: &[&str], expected: &expect_test::Expect) {
    ends_with(args, Ran::failure, expected);
}

/// Like [`fails`], for invalid arguments.
#[track_caller]
fn refuses(args: &[&str], expected: &expect_test::Expect) {
    ends_with(args, Ran::usage_failure, expected);
}

#[track_caller]
fn ends_with(args: &[&str], message: fn(Ran) -> String, expected: &expect_test::Expect) {
    let folder = tempfile::tempdir().unwrap();
    expected.assert_eq(&message(run(folder.path(), args)));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "files are left behind: {left:?}");
}

#[track_caller]
fn fails_with(file: &str, contents: &[u8], args: &[&str], expected: &expect_test::Expect) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file), contents).unwrap();
    let error = run(folder.path(), args).failure();
    expected
        .assert_eq(&error.replace(&folder.path().canonicalize().unwrap().display().to_string(), "[FOLDER]"));
    assert!(!folder.path().join("runs").exists(), "a run is left behind");
}

#[test]
fn an_invalid_recipe_is_named() {
    refuses(
        &["train", "huge"],
        &expect![[r#"
            error: there is no recipe huge: it is neither a preset (tiny, small, gpu, nanogpt-cpu, nanogpt-gpu, gpt2, finetune, sft, lora, dpo, debug) nor an existing file
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "model.n_layers=3"],
        &expect![[r#"
            error: invalid --set model.n_layers=3: unknown field `n_layers`, expected one of `family`, `block_size`, `n_layer`, `n_head`, `n_kv_head`, `n_embd`, `head_dim`, `n_inner`, `dropout`, `bias`, `qkv_bias`, `tie_embeddings`, `activation`, `position`, `rope_theta`, `norm`, `norm_epsilon`, `qk_norm`, `zero_init`
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "run.seed=7", "--set", "model.n_layer=two"],
        &expect![[r#"
            error: invalid --set model.n_layer=two: invalid type: string "two", expected a whole number, 0 or above
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "schedule.max_steps=none"],
        &expect![[r#"
            error: invalid --set schedule.max_steps=none: only model.family, model.n_kv_head, model.head_dim, model.n_inner, model.dropout, model.qkv_bias, model.position, model.rope_theta, model.norm, model.norm_epsilon, model.qk_norm, model.zero_init, data.valid, data.separator, chat.date, lora.dropout, lora.targets, lora.base, optimizer.kind, optimizer.grad_clip, optimizer.muon_learning_rate, optimizer.muon_momentum, optimizer.muon_weight_decay, schedule.kind, schedule.stable_steps, schedule.decay_steps, schedule.eval_windows, schedule.eval_batches, schedule.keep_last, schedule.keep_every, schedule.sample_interval, schedule.restart, guards.max_not_finite, guards.spike_z_score, guards.patience, run.precision, run.activations, run.keep_weights, run.overlap, run.gradient_precision, run.shard_optimizer, run.sync_interval can be none
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "run.sync_interval=8"],
        &expect![[r#"
            error: invalid --set run.sync_interval=8: `schedule.eval_interval` = 20 must be a multiple of `run.sync_interval` = 8, after which all ranks have the same weights; add --set schedule.eval_interval=24
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "run.sync_interval=10", "--set", "run.shard_optimizer=true"],
        &expect![[r#"
            error: invalid --set run.shard_optimizer=true: `run.shard_optimizer` divides the work of each step over ranks, which with `run.sync_interval` = 10 take steps by themselves; add --set run.shard_optimizer=false, or --set run.sync_interval=1
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "optimizer.min_learning_rate=1"],
        &expect![[r#"
            error: invalid --set optimizer.min_learning_rate=1: `optimizer.min_learning_rate` = 1 is above `optimizer.learning_rate` = 0.003; add --set optimizer.min_learning_rate=0.003, or raise the other
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "n_layer=3"],
        &expect![[r#"
            error: invalid --set n_layer=3: it must be section.key=value
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "model.n_head=3"],
        &expect![[r#"
            error: invalid --set model.n_head=3: `n_embd` = 32 is not a multiple of `n_head` = 3
        "#]],
    );
    refuses(
        &["train", "debug", "--set", "data.tokenizer=words"],
        &expect![[r#"
            error: invalid --set data.tokenizer=words: no tokenizer is called "words"; use char, byte, gpt2 or bpe:N, where N is the number of tokens
        "#]],
    );
    fails_with(
        "mine.toml",
        b"[model\n",
        &["train", "mine.toml"],
        &expect![[r#"
            error: invalid recipe mine.toml:1: unclosed table, expected `]`
        "#]],
    );
}

#[test]
fn invalid_data_is_named() {
    fails(
        &["train", "debug", "--data", "missing.txt"],
        &expect![[r#"
        error: there is no file or folder missing.txt
    "#]],
    );
    fails(
        &["train", "debug", "--data", "shakespear"],
        &expect![[r#"
        error: `shakespear` is neither a known corpus nor an existing file or folder (did you mean `shakespeare`?); known corpora: shakespeare, names, kjv, sotu, tinystories-valid, tinystories
    "#]],
    );
    fails_with(
        "empty.txt",
        b"",
        &["train", "debug", "--data", "empty.txt"],
        &expect![[r#"
            error: [FOLDER]/empty.txt is empty; give a file with text in it
        "#]],
    );
    fails_with(
        "short.txt",
        b"to be",
        &["train", "debug", "--data", "short.txt"],
        &expect![[r#"
            data: [FOLDER]/short.txt, 4 training tokens and 1 validation token (char)
            error: the training part of [FOLDER]/short.txt has 4 tokens, and model.block_size=16 needs at least 17; add --data with a longer text
        "#]],
    );
    fails_with(
        "latin.txt",
        b"caf\xe9 au lait",
        &["train", "debug", "--data", "latin.txt"],
        &expect![[r#"
            error: [FOLDER]/latin.txt is not UTF-8 text: invalid character at byte 3; it looks like WINDOWS-1252; convert it: `iconv -f WINDOWS-1252 -t UTF-8 [FOLDER]/latin.txt > [FOLDER]/latin.utf8.txt`
        "#]],
    );
}

#[test]
fn an_invalid_text_to_evaluate_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("latin.txt");
    fs::write(&path, b"caf\xe9 au lait").unwrap();
    let error = run(trained(), &["score", "--file", path.to_str().unwrap()]).failure();
    expect![[r#"
        error: latin.txt is not UTF-8 text: invalid character at byte 3; it looks like WINDOWS-1252; convert it: `iconv -f WINDOWS-1252 -t UTF-8 latin.txt > latin.utf8.txt`
    "#]].assert_eq(&error.replace(&format!("{}/", folder.path().display()), ""));
    expect![[r#"
        error: the text is empty; there is no token to score
    "#]]
    .assert_eq(&run(trained(), &["score", "--text", ""]).failure());
    expect![[r#"
        error: there is no file or folder missing.txt
    "#]]
    .assert_eq(&run(trained(), &["eval", "--data", "missing.txt"]).failure());
}

#[test]
fn a_device_that_is_not_built_in_says_how_to_build_it() {
    fails(
        &["train", "debug", "--device", "cuda"],
        &expect![[r#"
        error: kindling was built without the device `cuda`; rebuild it with the feature: cargo run -p cli --features cuda -- ...
    "#]],
    );
}

#[test]
fn a_missing_model_says_what_to_do() {
    fails(
        &["generate"],
        &expect![[r#"
        error: there is no run in runs/ yet; train one first: kindling train
    "#]],
    );
    fails(
        &["generate", "runs/none"],
        &expect![[r#"
            error: there is no run, folder or GGUF file runs/none; give a run in runs/, a model folder or a GGUF file
        "#]],
    );
    fails(
        &["train", "--init-from", "none"],
        &expect![[r#"
            error: there is no run, folder or GGUF file none; give a run in runs/, a model folder or a GGUF file
        "#]],
    );
    fails(
        &["train", "--resume", "--run", "none"],
        &expect![[r#"
            error: there is no run, folder or GGUF file runs/none; give a run in runs/, a model folder or a GGUF file
        "#]],
    );
    fails_with(
        "notes.txt",
        b"",
        &["info", "."],
        &expect![[r#"
        error: . is not a model: it has no config.json; give a run folder or a folder in Hugging Face layout
    "#]],
    );
    fails(
        &["train", "--resume"],
        &expect![[r#"
        error: there is no run in runs/ yet; train one first: kindling train
    "#]],
    );
}

#[test]
fn a_damaged_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = |file: &str, damage: &dyn Fn(Vec<u8>) -> Vec<u8>| {
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            fs::copy(trained().join("runs/debug").join(file), folder.path().join(file)).unwrap();
        }
        let path = folder.path().join(file);
        fs::write(&path, damage(fs::read(&path).unwrap())).unwrap();
        run(folder.path(), &["generate", "."]).failure()
    };
    let cut = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    expect![[r#"
        error: ./model.safetensors is damaged or truncated: its tensors need 112256 bytes, but it has 54828; copy or download it again
    "#]].assert_eq(&damaged("model.safetensors", &cut));
    expect![[r#"
        error: cannot load the tokenizer of .; restore the tokenizer.json that the model was trained with: ./tokenizer.json is not a Hugging Face tokenizer.json: EOF while parsing a value at line 41 column 2
    "#]].assert_eq(&damaged("tokenizer.json", &cut));
    expect![[r#"
        error: ./config.json is not a valid model config; restore the file that belongs to the weights: EOF while parsing an object at line 13 column 17
    "#]].assert_eq(&damaged("config.json", &cut));
    let no_text = |mut bytes: Vec<u8>| {
        bytes[20] = 0xff;
        bytes
    };
    expect![[r#"
        error: ./model.safetensors is damaged or truncated: invalid unicode code point at line 1 column 13; copy or download it again
    "#]].assert_eq(&damaged("model.safetensors", &no_text));
    let longer = |bytes: Vec<u8>| {
        let config = String::from_utf8(bytes).unwrap();
        config.replace("\"n_positions\": 16", "\"n_positions\": 24").into_bytes()
    };
    expect![[r#"
        error: ./model.safetensors does not match the model config; the two belong to different models: transformer.wpe.weight is [16, 32] in the file and [24, 32] in the model
    "#]]
    .assert_eq(&damaged("config.json", &longer));
}

#[test]
fn a_character_outside_the_vocabulary_is_named() {
    expect![[r#"
        error: character 'Ω' (U+03A9) at line 1, column 1 (byte 0) is not in the vocabulary; remove it from the text, or train a new model with data.tokenizer=byte, gpt2 or bpe:N, which encode any text
    "#]].assert_eq(&run(trained(), &["generate", "--prompt", "Ω"]).failure());
    expect![[r#"
        error: character 'ö' (U+00F6) at line 2, column 5 (byte 10) is not in the vocabulary; remove it from the text, or train a new model with data.tokenizer=byte, gpt2 or bpe:N, which encode any text
    "#]].assert_eq(&run(trained(), &["score", "--text", "to be\nor nöt"]).failure());
}

#[test]
fn sampling_options_out_of_range_are_named() {
    expect![[r#"
        error: temperature is -1; it must be 0 (always the most probable token) or a larger finite number
    "#]]
    .assert_eq(&run(trained(), &["generate", "--temperature", "-1"]).usage_failure());
    expect![[r#"
        error: top_p is 1.5; it must be above 0 and at most 1 (1 keeps every token)
    "#]]
    .assert_eq(&run(trained(), &["generate", "--top-p", "1.5"]).usage_failure());
    expect![[r#"
        error: invalid value '-1' for '--top-k <K>': must be a whole number, at least 1

        For more information, try '--help'.
    "#]]
    .assert_eq(&run(trained(), &["generate", "--top-k", "-1"]).usage_failure());
}

#[test]
fn negative_numbers_are_parsed_as_values_and_are_out_of_range() {
    let error = |option: &str, value: &str| run(trained(), &["generate", option, value]).usage_failure();
    for (option, value, expected) in [
        ("--temperature", "-0.5", "temperature is -0.5; it must be 0"),
        ("--top-p", "-1", "top_p is -1; it must be above 0"),
        ("--min-p", "-1", "min_p is -1; it must be between 0 and 1"),
        ("--typical-p", "-1", "typical_p is -1; it must be above 0"),
        ("--repetition-penalty", "-1", "repetition_penalty is -1; it must be a finite number above 0"),
        ("--frequency-penalty", "-3", "frequency_penalty is -3; it must be between -2 and 2"),
        ("--max-tokens", "-5", "must be a whole number, at least 0"),
        ("--samples", "0", "must be a whole number, at least 1"),
        ("--prompt-lookup", "-1", "must be a whole number from 0 to 15"),
        ("--prompt-lookup", "16", "must be a whole number from 0 to 15"),
        ("--seed", "-1", "must be a whole number, at least 0"),
    ] {
        let error = error(option, value);
        assert!(error.contains(expected), "{option} {value}: {error}");
    }
    let stride = run(trained(), &["score", "--text", "To be", "--stride", "-1"]).usage_failure();
    assert!(stride.contains("must be a whole number, at least 1"), "{stride}");
}

#[test]
fn a_run_is_never_overwritten() {
    expect![[r#"
        error: the run runs/debug already exists. Resume it with kindling train --resume --run runs/debug, or choose another name with --run
    "#]]
    .assert_eq(&run(trained(), &["train", "debug", "--run", "debug"]).failure());
}

#[test]
fn a_finished_run_says_how_to_train_further() {
    expect![[r#"
        error: runs/debug has finished its 40 steps; to train further: kindling train --resume --run runs/debug --max-steps 80
    "#]]
    .assert_eq(&run(trained(), &["train", "--resume", "--run", "debug"]).failure());
}

#[test]
fn a_resumed_run_keeps_its_sizes_and_its_text() {
    let more = ["train", "--resume", "--run", "debug", "--max-steps", "50", "--set"];
    let resume = |set: &str| run(trained(), &[&more[..], &[set]].concat());
    expect![[r#"
        error: `model.n_layer` can't change from 2 to 3 on resume: the saved weights have the old shapes; start a new run for that
    "#]]
    .assert_eq(&resume("model.n_layer=3").usage_failure());
    expect![[r#"
        error: kjv is not the text that runs/debug was trained on. Name that text, or start a new run on this one: kindling train finetune --data kjv --init-from runs/debug
    "#]]
    .assert_eq(&resume("data.corpus=kjv").failure());
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let ran = run(trained(), &["generate", "--tempreature", "1"]);
    assert_eq!(ran.code, 2);
    expect![[r#"
        error: unexpected argument '--tempreature' found

          tip: a similar argument exists: '--temperature'

        Usage: kindling generate --temperature <TEMPERATURE> [MODEL]

        For more information, try '--help'.
    "#]]
    .assert_eq(&ran.stderr);
}

#[test]
fn help_matches_the_snapshots() {
    let help = |command: &str| run(trained(), &[command, "--help"]).success().stdout;
    expect_test::expect_file!["help/kindling.txt"].assert_eq(&run(trained(), &["--help"]).success().stdout);
    expect_test::expect_file!["help/train.txt"].assert_eq(&help("train"));
    expect_test::expect_file!["help/plot.txt"].assert_eq(&help("plot"));
    expect_test::expect_file!["help/runs.txt"].assert_eq(&help("runs"));
    expect_test::expect_file!["help/presets.txt"].assert_eq(&help("presets"));
    expect_test::expect_file!["help/completions.txt"].assert_eq(&help("completions"));
    expect_test::expect_file!["help/generate.txt"].assert_eq(&help("generate"));
    expect_test::expect_file!["help/chat.txt"].assert_eq(&help("chat"));
    expect_test::expect_file!["help/eval.txt"].assert_eq(&help("eval"));
    expect_test::expect_file!["help/score.txt"].assert_eq(&help("score"));
    expect_test::expect_file!["help/info.txt"].assert_eq(&help("info"));
    expect_test::expect_file!["help/bench.txt"].assert_eq(&help("bench"));
    expect_test::expect_file!["help/import.txt"].assert_eq(&help("import"));
    expect_test::expect_file!["help/export.txt"].assert_eq(&help("export"));
    expect_test::expect_file!["help/quantize.txt"].assert_eq(&help("quantize"));
    let check = run(trained(), &["data", "check", "--help"]).success().stdout;
    expect_test::expect_file!["help/data_check.txt"].assert_eq(&check);
}
