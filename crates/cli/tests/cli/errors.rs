//! What the program says when something is wrong.

use std::fs;

use crate::support::{run, trained};
use expect_test::expect;

#[track_caller]
fn fails(args: &[&str], expected: &expect_test::Expect) {
    let folder = tempfile::tempdir().unwrap();
    expected.assert_eq(&run(folder.path(), args).failure());
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing is left behind: {left:?}");
}

#[track_caller]
fn fails_with(file: &str, contents: &[u8], args: &[&str], expected: &expect_test::Expect) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(file), contents).unwrap();
    let error = run(folder.path(), args).failure();
    expected
        .assert_eq(&error.replace(&folder.path().canonicalize().unwrap().display().to_string(), "[FOLDER]"));
    assert!(!folder.path().join("runs").exists(), "no run is left behind");
}

#[test]
fn a_wrong_recipe_is_named() {
    fails(
        &["train", "huge"],
        &expect![[r#"
        error: read the recipe huge (the presets are tiny, nanogpt-cpu, nanogpt-gpu, gpt2, debug): No such file or directory (os error 2)
    "#]],
    );
    fails(
        &["train", "debug", "--set", "model.n_layers=3"],
        &expect![[r#"
        error: understand the recipe debug: unknown field `n_layers`, expected one of `block_size`, `n_layer`, `n_head`, `n_embd`, `dropout`, `bias`, `tie_embeddings`, `activation`
        in `model`
    "#]],
    );
    fails(
        &["train", "debug", "--set", "n_layer=3"],
        &expect![[r#"
        error: understand the recipe debug: `n_layer=3` is not of the form section.key=value
    "#]],
    );
    fails(
        &["train", "debug", "--set", "model.n_head=3"],
        &expect![[r#"
        error: `n_embd` = 32 is not a multiple of `n_head` = 3
    "#]],
    );
    fails(
        &["train", "debug", "--set", "data.tokenizer=words"],
        &expect![[r#"
        error: understand the recipe debug: no tokenizer is called "words"; use char, byte, gpt2 or bpe:N, where N is the number of tokens
        in `data.tokenizer`
    "#]],
    );
    fails_with(
        "mine.toml",
        b"[model\n",
        &["train", "mine.toml"],
        &expect![[r#"
        error: understand the recipe mine.toml: TOML parse error at line 1, column 7
          |
        1 | [model
          |       ^
        unclosed table, expected `]`
    "#]],
    );
}

#[test]
fn wrong_data_is_named() {
    fails(
        &["train", "debug", "--data", "missing.txt"],
        &expect![[r#"
        error: there is no file or folder missing.txt
    "#]],
    );
    fails(
        &["train", "debug", "--data", "shakespear"],
        &expect![[r#"
        error: `shakespear` is neither a known corpus nor an existing file or folder (did you mean `shakespeare`?); known are shakespeare, names, kjv, sotu, tinystories-valid, tinystories
    "#]],
    );
    fails_with(
        "empty.txt",
        b"",
        &["train", "debug", "--data", "empty.txt"],
        &expect![[r#"
        error: empty.txt is empty; give a file with text in it
    "#]],
    );
    fails_with(
        "short.txt",
        b"to be",
        &["train", "debug", "--data", "short.txt"],
        &expect![[r#"
        error: a text of 4 tokens is too short for windows of 16, which need at least 17: give a longer text or set a smaller block_size; if it is the validation part, give a larger valid_fraction or a validation file
    "#]],
    );
    fails_with(
        "latin.txt",
        b"caf\xe9 au lait",
        &["train", "debug", "--data", "latin.txt"],
        &expect![[r#"
            error: [FOLDER]/latin.txt is not UTF-8 text: byte 3 begins no valid character; convert it first, for example with `iconv -f ISO-8859-1 -t UTF-8`
        "#]],
    );
}

#[test]
fn a_missing_device_says_how_to_build_it() {
    fails(
        &["train", "debug", "--device", "cuda"],
        &expect![[r#"
        error: this program was built without the device `cuda`; build it with the feature: cargo run -p cli --features cuda -- ...
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
        error: there is no run and no folder runs/none
    "#]],
    );
    fails_with(
        "notes.txt",
        b"",
        &["info", "."],
        &expect![[r#"
        error: . is not a model: it has no config.json; name a run folder or one in Hugging Face layout
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
fn a_character_outside_the_vocabulary_is_named() {
    expect![[r#"
        error: character 'Ω' (U+03A9) at line 1, column 1 (byte 0) is not in the vocabulary; take it out of the text, or train with the tokenizer byte, gpt2 or bpe:N, which know every character
    "#]].assert_eq(&run(trained(), &["generate", "--prompt", "Ω"]).failure());
    expect![[r#"
        error: character 'ö' (U+00F6) at line 2, column 5 (byte 10) is not in the vocabulary; take it out of the text, or train with the tokenizer byte, gpt2 or bpe:N, which know every character
    "#]].assert_eq(&run(trained(), &["score", "--text", "to be\nor nöt"]).failure());
}

#[test]
fn sampling_options_out_of_range_are_named() {
    expect![[r#"
        error: temperature is -1; it must be 0 (always the most probable token) or a larger finite number
    "#]]
    .assert_eq(&run(trained(), &["generate", "--temperature=-1"]).failure());
    expect![[r#"
        error: top_p is 1.5; it must be above 0 and at most 1 (1 keeps every token)
    "#]]
    .assert_eq(&run(trained(), &["generate", "--top-p", "1.5"]).failure());
}

#[test]
fn a_run_is_never_overwritten() {
    expect![[r#"
        error: the run runs/debug exists already; go on with it by --resume, or name another
    "#]]
    .assert_eq(&run(trained(), &["train", "debug", "--run", "debug"]).failure());
}

#[test]
fn a_finished_run_says_how_to_go_further() {
    expect![[r#"
        error: runs/debug has done its 40 steps; to go further, add --set schedule.max_steps=80
    "#]]
    .assert_eq(&run(trained(), &["train", "--resume", "--run", "debug"]).failure());
}

#[test]
fn a_resumed_run_keeps_its_sizes_and_its_text() {
    let resume = |set: &str| run(trained(), &["train", "--resume", "--run", "debug", "--set", set]).failure();
    expect![[r#"
        error: a run can't change its [model] when it is resumed, but for dropout; start a new run for that
    "#]]
    .assert_eq(&resume("model.n_layer=3"));
    expect![[r#"
        error: a run can't change its [data] when it is resumed; start a new one with --init-from for that
    "#]]
    .assert_eq(&resume("data.corpus=kjv"));
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
fn every_help_is_as_it_was() {
    let help = |command: &str| run(trained(), &[command, "--help"]).success().stdout;
    expect_test::expect_file!["help/kindling.txt"].assert_eq(&run(trained(), &["--help"]).success().stdout);
    expect_test::expect_file!["help/train.txt"].assert_eq(&help("train"));
    expect_test::expect_file!["help/generate.txt"].assert_eq(&help("generate"));
    expect_test::expect_file!["help/eval.txt"].assert_eq(&help("eval"));
    expect_test::expect_file!["help/score.txt"].assert_eq(&help("score"));
    expect_test::expect_file!["help/info.txt"].assert_eq(&help("info"));
    expect_test::expect_file!["help/bench.txt"].assert_eq(&help("bench"));
}
