//! Runs the examples of every `--help` as a user would type them.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::symlink,
    path::Path,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, SystemTime},
};

use crate::{
    exchange, gguf_files,
    support::{Ran, fixture, kindling, ran, run},
};

/// An example that is not run unchanged.
struct Exception {
    example: &'static str,
    instead: Instead,
    reason: &'static str,
}

enum Instead {
    /// Run with extra arguments appended.
    With(&'static str),
    /// Run with the first string replaced by the second.
    Replaced(&'static str, &'static str),
    /// Run unchanged; fails with exit code 1 and this message.
    Fails(&'static str),
}

/// Stops a server when it listens. The next example must not find the log of this one.
const STOP: &str = "--port 0 2> log & until grep -qs serving log; do :; done; kill $!; wait $!; code=$?; rm log; (exit $code)";
const ENDLESS: &str = "a server runs until a signal stops it";

const EXCEPTIONS: [Exception; 18] = [
    Exception { example: "kindling serve", instead: Instead::With(STOP), reason: ENDLESS },
    Exception {
        example: "kindling serve runs/tiny runs/wider",
        instead: Instead::With(STOP),
        reason: ENDLESS,
    },
    Exception {
        example: "kindling serve --host 0.0.0.0 --api-key KEY",
        instead: Instead::With(STOP),
        reason: ENDLESS,
    },
    Exception {
        example: "kindling train",
        instead: Instead::With("--max-steps 2"),
        reason: "the whole run takes minutes",
    },
    Exception {
        example: "kindling train --data my.txt --run mine",
        instead: Instead::With("--max-steps 2"),
        reason: "the whole run takes minutes",
    },
    Exception {
        example: "kindling train my.txt --run mine",
        instead: Instead::With("--max-steps 2"),
        reason: "the whole run takes minutes",
    },
    Exception {
        example: "kindling train --data books/ --set data.tokenizer=bpe:4096 --max-steps 10000",
        instead: Instead::Replaced("10000", "2"),
        reason: "the whole run takes minutes",
    },
    Exception {
        example: "kindling train sft --init-from gpt2 --data chats.jsonl",
        instead: Instead::With("--max-steps 2"),
        reason: "the whole run takes seconds",
    },
    Exception {
        example: "kindling train dpo --init-from sft --data pairs.jsonl",
        instead: Instead::With("--max-steps 2"),
        reason: "the whole run takes seconds",
    },
    Exception {
        example: "kindling train --resume --run mine --max-steps 20000",
        instead: Instead::Replaced("20000", "3"),
        reason: "the whole run takes minutes",
    },
    Exception {
        example: "kindling train nanogpt-cpu",
        instead: Instead::With("--max-steps 2 --set schedule.eval_batches=1"),
        reason: "the whole run takes minutes",
    },
    Exception {
        example: "kindling bench",
        instead: Instead::With("--steps 2 --decode 2"),
        reason: "20 steps and 128 tokens take seconds",
    },
    Exception {
        example: "kindling bench nanogpt-gpu --only train --set optimizer.batch_size=8",
        instead: Instead::With("--steps 1 --set model.n_layer=1 --set model.n_embd=24"),
        reason: "20 steps of that model take half a minute",
    },
    Exception {
        example: "kindling bench gpt2 --only train --set run.precision=bf16 --device cuda",
        instead: Instead::Replaced(
            "--device cuda",
            "--steps 1 --set model.n_layer=1 --set model.n_embd=24 --set model.block_size=8 --set optimizer.batch_size=1",
        ),
        reason: "it needs a GPU",
    },
    Exception {
        example: "kindling bench runs/tiny --decode 256 --json",
        instead: Instead::With("--steps 1"),
        reason: "20 steps take seconds",
    },
    Exception {
        example: "kindling import openai-community/gpt2",
        instead: Instead::Fails("openai-community/gpt2"),
        reason: "it needs a network",
    },
    Exception {
        example: "kindling import HuggingFaceTB/SmolLM2-135M@main",
        instead: Instead::Fails("HuggingFaceTB/SmolLM2-135M"),
        reason: "it needs a network",
    },
    Exception {
        example: "kindling import bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0",
        instead: Instead::Fails("bartowski/SmolLM2-135M-Instruct-GGUF"),
        reason: "it needs a network",
    },
];

#[test]
fn the_examples_of_every_help_work() {
    let root = tempfile::tempdir().unwrap();
    let prepared = root.path().join("prepared");
    prepare(&prepared);
    // The examples of a command run in order; commands run in parallel, the slow ones first.
    let help = help_of(root.path(), None);
    let mut all: Vec<(String, Vec<String>)> = commands_in(&help)
        .into_iter()
        .map(|command| {
            let examples = examples_in(&help_of(root.path(), Some(&command)));
            (command, examples)
        })
        .collect();
    all.push(("kindling".to_owned(), examples_in(&help)));
    let known: BTreeSet<&str> = all.iter().flat_map(|(_, examples)| examples).map(String::as_str).collect();
    for Exception { example, reason, .. } in EXCEPTIONS {
        assert!(known.contains(example), "no help has the example `{example}`, an exception as {reason}");
    }
    all.sort_by_key(|(command, _)| !["bench", "presets", "train"].contains(&command.as_str()));

    let waiting = Mutex::new(all.iter());
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(4) {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    let Some((command, examples)) = next else { break };
                    assert!(!examples.is_empty(), "kindling {command} --help has no examples");
                    let copy = root.path().join(command);
                    sh(&prepared, "..", &format!("cp -Rp prepared {command}")).success();
                    // The run that an example makes must not exist yet.
                    if examples.iter().any(|it| it.contains("--run mine") && !it.contains("--resume")) {
                        fs::remove_dir_all(copy.join("work/runs/mine")).unwrap();
                    }
                    let failed: Vec<String> =
                        examples.iter().filter_map(|example| failure(&copy, example)).collect();
                    failures.lock().unwrap().extend(failed);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The help of a command, or of `kindling` itself.
fn help_of(folder: &Path, command: Option<&str>) -> String {
    let args: Vec<&str> = command.into_iter().chain(["--help"]).collect();
    run(folder, &args).success().stdout
}

/// The names of the commands in the help of `kindling`.
fn commands_in(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    // The second line of a description is indented further.
    let names = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  "))
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "help");
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(names.len() > 10 && names.iter().any(|name| name == "train"), "{names:?}");
    names
}

/// The commands in the Examples section, without their explanations.
fn examples_in(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Examples:").skip(1);
    let command = |line: &str| {
        let line = line.trim();
        line.split_once("  ").map_or(line, |(command, _)| command).to_owned()
    };
    lines.filter(|line| !line.is_empty()).map(command).collect()
}

/// Runs an example and describes its failure, if any.
fn failure(copy: &Path, example: &str) -> Option<String> {
    let exception = EXCEPTIONS.iter().find(|exception| exception.example == example);
    let command = match exception.map(|exception| &exception.instead) {
        None | Some(Instead::Fails(_)) => example.to_owned(),
        Some(Instead::With(more)) => format!("{example} {more}"),
        Some(Instead::Replaced(from, to)) => {
            assert!(example.contains(from), "{example} has no {from}");
            example.replace(from, to)
        }
    };
    let ran = sh(copy, "work", &command);
    let (code, message) = match exception.map(|exception| &exception.instead) {
        Some(Instead::Fails(message)) => (1, *message),
        _ => (0, ""),
    };
    let is_as_expected = ran.code == code && ran.stderr.contains(message);
    (!is_as_expected).then(|| format!("`{command}` ends with {}:\n{}{}", ran.code, ran.stdout, ran.stderr))
}

/// Makes the folders that the examples need: `work`, their working directory, and `home`, `bin` and `nanoGPT` beside
/// it.
fn prepare(folder: &Path) {
    let at = |path: &str| folder.join(path);
    for path in
        ["work/books", "work/downloads", "home", "bin", "nanoGPT/out", "nanoGPT/data/shakespeare_char"]
    {
        fs::create_dir_all(at(path)).unwrap();
    }
    symlink(kindling(folder, &[]).get_program(), at("bin/kindling")).unwrap();

    fs::write(at("typed.txt"), "To be\nor not\n").unwrap();
    fs::write(at("work/my.txt"), words(8000)).unwrap();
    fs::write(at("work/books/one.txt"), words(4000)).unwrap();
    fs::write(at("work/books/two.txt"), words(9000)).unwrap();
    fs::write(at("work/hamlet.txt"), "To be, or not to be, that is the question:\n").unwrap();
    fs::write(at("work/chapter.txt"), "It was the best of times, ").unwrap();
    fs::write(at("work/texts.jsonl"), "\"To be\"\n{\"text\": \"or not to be\"}\n").unwrap();

    let chat = r#"{"prompt": "Hello?", "completion": "Hello!"}"#;
    fs::write(at("work/chats.jsonl"), format!("{chat}\n{chat}\n")).unwrap();

    let pair = r#"{"prompt": "Hello?", "chosen": "Hello!", "rejected": "Go!"}"#;
    fs::write(at("work/pairs.jsonl"), format!("{pair}\n{pair}\n")).unwrap();

    let small = "--data my.txt --max-steps 2 --block-size 256 --set data.tokenizer=byte";
    sh(folder, "work", &format!("kindling train debug --run tiny {small}")).success();
    sh(folder, "work", "for run in baseline wider mine gpt2; do cp -R runs/tiny runs/$run; done").success();
    let few = "--data chats.jsonl --max-steps 1";
    sh(folder, "work", &format!("kindling train sft --init-from gpt2 --run tuned {few}")).success();
    sh(folder, "work", "cp -R runs/tuned runs/sft").success();
    sh(folder, "work", &format!("kindling train lora --init-from tuned --run lora {few}")).success();
    sh(folder, "work", "kindling export runs/tiny --format gguf -o model.gguf").success();
    sh(folder, "work", "kindling export runs/lora --format gguf-adapter -o adapter.gguf").success();
    sh(folder, "work", "cp -R runs elsewhere").success();
    sh(folder, "work", "kindling export runs/tiny --format safetensors -o downloads/gpt2-medium").success();
    gguf_files::write_model(&at("work"));
    fs::rename(at("work/small.gguf"), at("work/downloads/SmolLM2-135M.Q4_1.gguf")).unwrap();
    let template = ("tokenizer.chat_template", "{{ bos_token }}{{ messages | length }}".into());
    gguf_files::write_model_with(&at("work"), "smollm2.gguf", &[template]);
    let checkpoint = fixture("../checkpoint/tests/fixtures/layouts/nanogpt/ckpt.pt");
    fs::copy(checkpoint, at("nanoGPT/out/ckpt.pt")).unwrap();
    fs::write(at("nanoGPT/data/shakespeare_char/meta.pkl"), exchange::nanogpt_meta()).unwrap();

    // The newest run, even after the examples have made others, is one that stopped after half of its steps.
    let newest = at("work/runs/shakespeare");
    fs::create_dir(&newest).unwrap();
    let interrupted = fixture("tests/fixtures/resume/run");
    sh(folder, "work/runs/shakespeare", &format!("cp -R '{}'/. .", interrupted.display())).success();
    let tomorrow = SystemTime::now() + Duration::from_hours(24);
    File::options().append(true).open(newest.join("metrics.jsonl")).unwrap().set_modified(tomorrow).unwrap();
}

/// Pseudo-random words of one to three syllables, always the same.
fn words(n: usize) -> String {
    let mut state = 1_u32;
    let mut below = |n: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % n
    };
    let mut text = String::new();
    for _ in 0..n {
        for _ in 0..=below(3) {
            text.push(char::from(b"bdfghklmnprstvz"[below(15) as usize]));
            text.push(char::from(b"aeiou"[below(5) as usize]));
        }
        text.push(if below(9) == 0 { '\n' } else { ' ' });
    }
    text
}

/// Runs a shell command in a folder of `root`, with two prompts on standard input.
fn sh(root: &Path, folder: &str, command: &str) -> Ran {
    let mut paths = vec![root.join("bin")];
    paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path: OsString = env::join_paths(paths).unwrap();
    let mut sh = Command::new("sh");
    sh.args(["-c", command]).current_dir(root.join(folder)).env("PATH", path).env("HOME", root.join("home"));
    for variable in ["CARGO", "RUST_LOG", "KINDLING_DATA", "HF_HOME"] {
        sh.env_remove(variable);
    }
    // No server listens there.
    sh.env("HF_ENDPOINT", "http://127.0.0.1:1");
    ran(sh.stdin(File::open(root.join("typed.txt")).unwrap()))
}
