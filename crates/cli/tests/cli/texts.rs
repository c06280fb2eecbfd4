//! Input texts: folders that contain outputs, pipes, byte order marks, and unusual file names.

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Ran, ended, kindling, run, trained};

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

/// The names of the source files of the only prepared corpus.
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

/// Runs a command with `input` on standard input.
fn with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    ended(child.wait_with_output().unwrap())
}

#[test]
fn a_data_folder_never_contains_its_own_outputs() {
    let folder = with_text();
    let path = folder.path();
    train(path, &["--data", ".", "--run", "one"]).success();
    run(path, &["plot", "one"]).success();
    assert!(path.join("loss.svg").is_file());
    resume(path, &[]).success();
    run(path, &["eval", "runs/one"]).success();
    let second = train(path, &["--data", ".", "--run", "two", "--data-dir", "prepared"]).success();
    assert_eq!(files(path, "prepared"), ["my.txt"]);
    let lines: Vec<_> = second.stderr.lines().filter(|line| line.contains("Kindling output")).collect();
    // The run, its chart, and the other folder of prepared data.
    assert_eq!(lines.len(), 1, "{}", second.stderr);
    assert!(
        lines[0].contains("skipped 3 Kindling outputs (runs, models, prepared data or charts), the first: "),
        "{lines:?}"
    );
    let again = resume(path, &["--run", "two", "--data-dir", "prepared"]).success();
    assert!(again.stderr.matches("Kindling output").count() == 1, "{}", again.stderr);
}

#[test]
fn the_validation_text_is_left_out_with_a_note() {
    let folder = with_text();
    for name in ["valid.txt", "valid-copy.txt"] {
        fs::write(folder.path().join(name), text().to_uppercase()).unwrap();
    }
    let ran =
        train(folder.path(), &["--data", ".", "--valid", "valid.txt", "--data-dir", "prepared"]).success();
    let place = folder.path().canonicalize().unwrap().join("valid.txt");
    for line in [
        format!("skipped 1 file of the validation text: {}\n", place.display()),
        format!(
            "skipped 1 copy of a file of the validation text: {}\n",
            place.with_file_name("valid-copy.txt").display()
        ),
    ] {
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    }
    let variant = fs::read_dir(folder.path().join("prepared")).unwrap().map(|entry| entry.unwrap().path());
    let corpus = variant.into_iter().find(|path| !path.ends_with(".locks")).unwrap();
    let meta = fs::read_dir(&corpus).unwrap().next().unwrap().unwrap().path().join("meta.json");
    let meta: Value = serde_json::from_str(&fs::read_to_string(meta).unwrap()).unwrap();
    assert_eq!(meta["source"]["files"].as_array().unwrap().len(), 1);

    let same = train(folder.path(), &["--data", "my.txt", "--valid", "./my.txt"]);
    let error = same.failure();
    assert!(error.contains("--data and --valid are the same file, "), "{error}");
}

#[test]
fn files_that_are_not_text_are_left_out_with_a_note() {
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
        assert!(ran.stderr.contains("skipped 1 broken link: "), "{}", ran.stderr);
    }
}

#[test]
fn every_command_skips_a_byte_order_mark() {
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
    let marked = with_input(
        &mut kindling(folder.path(), &["score", "runs/r", "--file", "-", "--json"]),
        format!("\u{feff}{}", text()).as_bytes(),
    );
    assert_eq!(marked.success().stdout, score);
    assert_eq!(stdout(&["score", "runs/r", "--jsonl", "lines.jsonl"]).lines().count(), 2);
    let options = ["--max-tokens", "5", "--temperature", "0"];
    let generate = |args: &[&str]| stdout(&[&["generate", "runs/r"], args, &options].concat());
    assert_eq!(generate(&["--prompt-file", "prompt.txt"]), generate(&["--prompt", "It is"]));
}

#[test]
fn standard_input_is_copied_and_resumed_from_the_copy() {
    let folder = with_text();
    let path = folder.path();
    let args = |args: &'static [&'static str]| [&["train", "debug"], args, &FEW_STEPS].concat();
    let piped = with_input(&mut kindling(path, &args(&["--data", "-", "--run", "piped"])), text().as_bytes());
    let piped = piped.success();
    assert!(piped.stderr.contains("saved standard input as datasets/piped-"), "{}", piped.stderr);
    train(path, &["--data", "my.txt", "--run", "file"]).success();
    let losses = |run: &str| fs::read_to_string(path.join("runs").join(run).join("samples.txt")).unwrap();
    assert_eq!(losses("piped"), losses("file"));
    resume(path, &["--run", "piped"]).success();
    // The same text again reuses the copy.
    let again = with_input(
        &mut kindling(path, &["train", "--resume", "--run", "piped", "--max-steps", "8", "--data", "-"]),
        text().as_bytes(),
    );
    again.success();
    let is_copy = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().ends_with(".txt");
    let entries = fs::read_dir(path.join("datasets")).unwrap().map(Result::unwrap);
    assert_eq!(entries.filter(is_copy).count(), 1);

    // As the positional argument, as a validation text, and for eval.
    let alone = ["train", "-", "--run", "alone", "--max-steps", "2"];
    with_input(&mut kindling(path, &alone), text().as_bytes()).success();
    let valid = ["--data", "my.txt", "--valid", "-", "--run", "valid"];
    let mut validated = kindling(path, &[&["train", "debug"], &valid[..], &FEW_STEPS].concat());
    let copied = with_input(&mut validated, text().as_bytes()).failure();
    assert!(
        copied.contains("the --valid file ") && copied.contains(" is a copy of the --data file "),
        "{copied}"
    );
    with_input(&mut validated, text().repeat(2).as_bytes()).success();
    let measured = with_input(&mut kindling(path, &["eval", "runs/file", "--data", "-"]), text().as_bytes());
    assert_eq!(
        measured.success().stdout,
        run(path, &["eval", "runs/file", "--data", "my.txt"]).success().stdout
    );

    for name in ["-", "/dev/stdin"] {
        let error = train(path, &["--data", "-", "--valid", name]).usage_failure();
        assert_eq!(
            error,
            "error: --data and --valid can't both be standard input; save one of the texts to a file\n"
        );
    }
    let empty = train(path, &["--data", "-"]).failure();
    assert_eq!(empty, "error: standard input is empty; give a file with text in it\n");
    let zipped = with_input(
        &mut kindling(path, &["train", "debug", "--data", "-"]),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\x48",
    );
    assert_eq!(
        zipped.failure(),
        "error: standard input holds gzip data, not text; unpack it before piping it, with `gunzip -c`\n"
    );
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_once() {
    let folder = with_text();
    let path = folder.path();
    // The shell writes to the pipe and closes it, so kindling reads to its end.
    let script = "mkfifo pipe && { cat my.txt > pipe & } && \"$0\" \"$@\"";
    let through_pipe = |args: &[&str]| {
        let plain = kindling(path, args);
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(plain.get_program()).args(plain.get_args()).current_dir(path);
        let ran = ended(command.env_remove("CARGO").stdin(Stdio::null()).output().unwrap());
        fs::remove_file(path.join("pipe")).unwrap();
        ran.success()
    };
    through_pipe(&[&["train", "debug", "--data", "pipe", "--run", "r"][..], &FEW_STEPS].concat());
    resume(path, &[]).success();
    // Deciding whether the argument is a recipe or a text must not read the pipe.
    through_pipe(&["train", "./pipe", "--run", "s", "--max-steps", "2"]);
    let measured = through_pipe(&["eval", "runs/r", "--data", "pipe"]);
    assert_eq!(measured.stdout, run(path, &["eval", "runs/r", "--data", "my.txt"]).success().stdout);
    let options = ["--max-tokens", "5", "--temperature", "0"];
    let prompted = through_pipe(&[&["generate", "runs/r", "--prompt-file", "pipe"][..], &options].concat());
    let expected = run(path, &[&["generate", "runs/r", "--prompt-file", "my.txt"][..], &options].concat());
    assert_eq!(prompted.stdout, expected.success().stdout);
}

#[cfg(target_os = "linux")]
#[test]
fn dev_stdin_is_standard_input() {
    let folder = with_text();
    let args = [&["train", "debug", "--data", "/dev/stdin", "--run", "r"][..], &FEW_STEPS].concat();
    with_input(&mut kindling(folder.path(), &args), text().as_bytes()).success();
    resume(folder.path(), &[]).success();
    let prompt = ["generate", "runs/r", "--max-tokens", "3", "--temperature", "0"];
    let prompt = |more: &[&'static str]| kindling(folder.path(), &[&prompt[..], more].concat());
    let piped = with_input(&mut prompt(&["--prompt-file", "/dev/stdin"]), b"It is").success().stdout;
    assert_eq!(piped, ended(prompt(&["--prompt", "It is"]).output().unwrap()).success().stdout);
}

#[cfg(target_os = "linux")]
#[test]
fn file_names_that_are_not_utf_8_work_or_are_refused() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let name = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
    let here = folder.path().join(name(b"caf\xe9"));
    fs::create_dir(&here).unwrap();
    fs::create_dir(here.join("texts")).unwrap();
    fs::write(here.join("my.txt"), text()).unwrap();
    fs::write(here.join("texts").join(name(b"\xff.txt")), text().repeat(2)).unwrap();
    let ran_with = |args: &[&OsStr]| {
        let mut command = kindling(&here, &[]);
        ended(command.args(args).output().unwrap())
    };
    let args = |args: &'static [&'static str]| args.iter().map(OsStr::new).collect::<Vec<_>>();
    let steps = FEW_STEPS.map(OsStr::new);

    // Each option that takes a path.
    let train = [
        &args(&["train", "debug", "--data", "my.txt", "--valid", "texts", "--run"])[..],
        &[name(b"r\xe9")],
        &steps,
    ];
    ran_with(&train.concat()).success();
    ran_with(&[&args(&["train", "--resume", "--max-steps", "6", "--run"])[..], &[name(b"r\xe9")]].concat())
        .success();
    for (command, option) in [("generate", "--prompt-file"), ("score", "--file")] {
        let model = OsStr::from_bytes(b"runs/r\xe9");
        let few: &[&OsStr] =
            if command == "generate" { &[OsStr::new("--max-tokens"), OsStr::new("2")] } else { &[] };
        ran_with(
            &[&[OsStr::new(command), model, OsStr::new(option), OsStr::from_bytes(b"texts/\xff.txt")], few]
                .concat(),
        )
        .success();
    }
    ran_with(&[OsStr::new("eval"), OsStr::from_bytes(b"runs/r\xe9")]).success();
    let elsewhere =
        [&args(&["train", "debug", "--data", "texts", "--data-dir"])[..], &[name(b"d\xe9")], &steps];
    ran_with(&elsewhere.concat()).success();

    // A recipe is UTF-8, so the paths in it must be too.
    for option in ["--data", "--valid"] {
        let error = ran_with(&[
            OsStr::new("train"),
            OsStr::new("debug"),
            OsStr::new(option),
            OsStr::from_bytes(b"texts/\xff.txt"),
        ]);
        let error = error.usage_failure();
        assert!(error.starts_with("error: invalid UTF-8 was detected in one or more arguments"), "{error}");
    }
}

#[test]
fn a_run_of_an_older_version_resumes_with_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::create_dir(path.join("texts")).unwrap();
    fs::write(path.join("texts/my.txt"), text()).unwrap();
    for run in ["old", "older"] {
        train(path, &["--data", "texts", "--run", run]).success();
    }
    // Older versions skipped UTF-16 files, and their prepared data does not name the rules.
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
        resumed.stderr.contains("this run was started by an older version of kindling; the files of "),
        "{}",
        resumed.stderr
    );
    assert_eq!(run(path, &["eval", "runs/older"]).success().stdout, before);
    resume(path, &["--run", "new"]).success();
    // Also without the prepared data.
    fs::remove_dir_all(path.join("datasets")).unwrap();
    resume(path, &["--run", "older"]).success();
    // A text that matches neither version's rules is refused.
    fs::write(path.join("texts/my.txt"), text().to_uppercase()).unwrap();
    let refused = run(path, &["train", "--resume", "--max-steps", "9", "--run", "old"]);
    assert_ne!(refused.code, 0);
}

#[test]
fn files_that_are_not_text_are_refused_by_score_and_generate() {
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
