//! What texts go in: beside outputs, through pipes, with marks and under names of all kinds.

use std::{fs, path::Path};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, run, trained};

const FEW_STEPS: [&str; 6] = [
    "--set",
    "schedule.max_steps=4",
    "--set",
    "schedule.warmup_steps=1",
    "--set",
    "schedule.eval_interval=2",
];

fn text() -> String {
    "It is a truth universally acknowledged, that a single man in possession of a good fortune\n".repeat(20)
}

/// A folder with `my.txt`.
fn with_text() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("my.txt"), text()).unwrap();
    folder
}

fn train(folder: &Path, args: &[&str]) -> Ran {
    run(folder, &[&["train", "debug"], args, &FEW_STEPS].concat())
}

fn resume(folder: &Path, args: &[&str]) -> Ran {
    run(folder, &[&["train", "--resume", "--max-steps", "6"], args].concat())
}

/// The names of the files that the only prepared folder was made from.
fn files(folder: &Path, data_dir: &str) -> Vec<String> {
    let subfolders = |path: &Path| -> Vec<_> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir() && !path.ends_with(".locks")).collect()
    };
    let corpora = subfolders(&folder.join(data_dir));
    assert_eq!(corpora.len(), 1, "{corpora:?}");
    let meta: Value =
        serde_json::from_str(&fs::read_to_string(corpora[0].join("char/meta.json")).unwrap()).unwrap();
    let path = |file: &Value| Path::new(file["path"].as_str().unwrap()).to_owned();
    let name = |file: &Value| path(file).file_name().unwrap().to_str().unwrap().to_owned();
    meta["source"]["files"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_data_folder_never_contains_its_own_outputs() {
    let folder = with_text();
    let path = folder.path();
    train(path, &["--data", ".", "--run", "one"]).success();
    resume(path, &[]).success();
    run(path, &["eval", "runs/one"]).success();
    let second = train(path, &["--data", ".", "--run", "two", "--data-dir", "prepared"]).success();
    assert_eq!(files(path, "prepared"), ["my.txt"]);
    let lines: Vec<_> = second.stderr.lines().filter(|line| line.contains("left out")).collect();
    // The run and the data of the other folder for them.
    assert_eq!(lines.len(), 1, "{}", second.stderr);
    assert!(
        lines[0].contains("left out: 2 folders with runs, models or prepared data, the first "),
        "{lines:?}"
    );
    let again = resume(path, &["--run", "two", "--data-dir", "prepared"]).success();
    assert!(again.stderr.matches("left out").count() == 1, "{}", again.stderr);
}

#[test]
fn the_text_to_validate_on_is_left_out_with_a_line() {
    let folder = with_text();
    fs::write(folder.path().join("valid.txt"), text()).unwrap();
    let ran =
        train(folder.path(), &["--data", ".", "--valid", "valid.txt", "--data-dir", "prepared"]).success();
    let place = folder.path().canonicalize().unwrap().join("valid.txt");
    assert!(
        ran.stderr.contains(&format!("left out: 1 file of the validation text, {}\n", place.display())),
        "{}",
        ran.stderr
    );
    let variant = fs::read_dir(folder.path().join("prepared")).unwrap().map(|entry| entry.unwrap().path());
    let corpus = variant.into_iter().find(|path| !path.ends_with(".locks")).unwrap();
    let meta = fs::read_dir(&corpus).unwrap().next().unwrap().unwrap().path().join("meta.json");
    let meta: Value = serde_json::from_str(&fs::read_to_string(meta).unwrap()).unwrap();
    assert_eq!(meta["source"]["files"].as_array().unwrap().len(), 1);

    let same = train(folder.path(), &["--data", "my.txt", "--valid", "my.txt"]).success();
    assert!(same.stderr.contains("my.txt is both trained on and validated on"), "{}", same.stderr);
}

#[test]
fn what_is_not_text_is_left_out_of_a_folder_with_its_name() {
    let folder = with_text();
    let path = folder.path();
    fs::write(path.join("a.png"), b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR").unwrap();
    fs::write(path.join("b.txt.gz"), b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("gone.txt", path.join("c.txt")).unwrap();
    let ran = train(path, &["--data", "."]).success();
    assert_eq!(files(path, "datasets"), ["my.txt"]);
    assert!(ran.stderr.contains("a.png holds PNG data, not text\n"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("b.txt.gz holds gzip data, not text; unpack it: `gunzip -c "),
        "{}",
        ran.stderr
    );
    if cfg!(unix) {
        assert!(ran.stderr.contains("left out: 1 link to a file that is missing, "), "{}", ran.stderr);
    }
}

#[test]
fn a_byte_order_mark_is_no_character_for_any_command() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("plain.txt", &text());
    write("marked.txt", &format!("\u{feff}{}", text()));
    write("prompt.txt", "\u{feff}It is");
    write("lines.jsonl", "\u{feff}\"It is\"\n\"a truth\"\n");
    train(folder.path(), &["--data", "marked.txt", "--run", "r"]).success();
    let stdout = |args: &[&str]| run(folder.path(), args).success().stdout;
    assert_eq!(
        stdout(&["eval", "runs/r", "--data", "marked.txt"]),
        stdout(&["eval", "runs/r", "--data", "plain.txt"])
    );
    let score = stdout(&["score", "runs/r", "--file", "marked.txt", "--json"]);
    assert_eq!(score, stdout(&["score", "runs/r", "--file", "plain.txt", "--json"]));
    assert_eq!(stdout(&["score", "runs/r", "--jsonl", "lines.jsonl"]).lines().count(), 2);
    let options = ["--max-tokens", "5", "--temperature", "0"];
    let generate = |args: &[&str]| stdout(&[&["generate", "runs/r"], args, &options].concat());
    assert_eq!(generate(&["--prompt-file", "prompt.txt"]), generate(&["--prompt", "It is"]));
}

#[test]
fn a_run_of_an_older_version_resumes_on_the_files_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("texts")).unwrap();
    fs::write(path.join("texts/my.txt"), text()).unwrap();
    for run in ["old", "older"] {
        train(path, &["--data", "texts", "--run", run]).success();
    }
    // Older versions left UTF-16 out, and their prepared data do not name the rules.
    let wide: Vec<u8> = "It is another text\n".repeat(30).encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(path.join("texts/wide.txt"), wide).unwrap();
    let corpus = fs::read_dir(path.join("datasets")).unwrap().map(|entry| entry.unwrap().path());
    let corpus = corpus.into_iter().find(|path| !path.ends_with(".locks")).unwrap();
    let meta = corpus.join("char/meta.json");
    let json = fs::read_to_string(&meta).unwrap();
    let without = json.replace("  \"rules\": \"v2\",\n", "");
    assert_ne!(without, json);
    fs::write(&meta, without).unwrap();

    let before = run(path, &["eval", "runs/older"]).success().stdout;
    train(path, &["--data", "texts", "--run", "new"]).success();
    assert_eq!(files(path, "datasets"), ["my.txt", "wide.txt"]);
    let resumed = resume(path, &["--run", "old"]).success();
    assert!(
        resumed.stderr.contains("the run was begun by an older version, which read other files of "),
        "{}",
        resumed.stderr
    );
    assert_eq!(run(path, &["eval", "runs/older"]).success().stdout, before);
    resume(path, &["--run", "new"]).success();
    // Without what was prepared, too.
    fs::remove_dir_all(path.join("datasets")).unwrap();
    resume(path, &["--run", "older"]).success();
    // A text that is another for both stays refused.
    fs::write(path.join("texts/my.txt"), text().to_uppercase()).unwrap();
    let refused = run(path, &["train", "--resume", "--max-steps", "9", "--run", "old"]);
    assert_ne!(refused.code, 0);
}

#[test]
fn what_is_not_text_is_refused_as_a_text_to_measure_and_as_a_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("text.txt.gz");
    fs::write(&file, b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48").unwrap();
    let file = file.to_str().unwrap();
    let expected = format!(
        "error: {file} holds gzip data, not text; unpack it: `gunzip -c {file} > {}`\n",
        file.trim_end_matches(".gz")
    );
    for args in [["score", "--file", file], ["generate", "--prompt-file", file]] {
        assert_eq!(run(trained(), &args).failure(), expected);
    }
}
