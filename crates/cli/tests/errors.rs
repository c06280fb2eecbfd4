//! What the program says when something is wrong.

mod support;

use std::fs;

use expect_test::expect;
use support::{run, trained};

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
    expected.assert_eq(&run(folder.path(), args).failure());
    assert!(!folder.path().join("runs").exists(), "no run is left behind");
}

#[test]
fn a_wrong_recipe_is_named() {
    fails(&["train", "huge"], &expect![[]]);
    fails(&["train", "debug", "--set", "model.n_layers=3"], &expect![[]]);
    fails(&["train", "debug", "--set", "n_layer=3"], &expect![[]]);
    fails(&["train", "debug", "--set", "model.n_head=3"], &expect![[]]);
    fails(&["train", "debug", "--set", "data.tokenizer=words"], &expect![[]]);
    fails_with("mine.toml", b"[model\n", &["train", "mine.toml"], &expect![[]]);
}

#[test]
fn wrong_data_is_named() {
    fails(&["train", "debug", "--data", "missing.txt"], &expect![[]]);
    fails(&["train", "debug", "--data", "shakespear"], &expect![[]]);
    fails_with("empty.txt", b"", &["train", "debug", "--data", "empty.txt"], &expect![[]]);
    fails_with("short.txt", b"to be", &["train", "debug", "--data", "short.txt"], &expect![[]]);
    fails_with("latin.txt", b"caf\xe9 au lait", &["train", "debug", "--data", "latin.txt"], &expect![[]]);
}

#[test]
fn a_missing_device_says_how_to_build_it() {
    fails(&["train", "debug", "--device", "cuda"], &expect![[]]);
}

#[test]
fn a_missing_model_says_what_to_do() {
    fails(&["generate"], &expect![[]]);
    fails(&["generate", "runs/none"], &expect![[]]);
    fails_with("notes.txt", b"", &["info", "."], &expect![[]]);
    fails(&["train", "--resume"], &expect![[]]);
}

#[test]
fn a_character_outside_the_vocabulary_is_named() {
    expect![[]].assert_eq(&run(trained(), &["generate", "--prompt", "Ω"]).failure());
    expect![[]].assert_eq(&run(trained(), &["score", "--text", "to be\nor nöt"]).failure());
}

#[test]
fn sampling_options_out_of_range_are_named() {
    expect![[]].assert_eq(&run(trained(), &["generate", "--temperature", "-1"]).failure());
    expect![[]].assert_eq(&run(trained(), &["generate", "--top-p", "1.5"]).failure());
}

#[test]
fn a_run_is_never_overwritten() {
    expect![[]].assert_eq(&run(trained(), &["train", "debug", "--run", "debug"]).failure());
}

#[test]
fn a_finished_run_says_how_to_go_further() {
    expect![[]].assert_eq(&run(trained(), &["train", "--resume", "--run", "debug"]).failure());
}

#[test]
fn a_resumed_run_keeps_its_sizes_and_its_text() {
    let resume = |set: &str| run(trained(), &["train", "--resume", "--run", "debug", "--set", set]).failure();
    expect![[]].assert_eq(&resume("model.n_layer=3"));
    expect![[]].assert_eq(&resume("data.corpus=kjv"));
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let ran = run(trained(), &["generate", "--tempreature", "1"]);
    assert_eq!(ran.code, 2);
    expect![[]].assert_eq(&ran.stderr);
}
