//! `kindling chat` with lines from standard input. The model's weights are pseudo-random, so its greedy answer differs
//! between prompts. It has to equal the greedy text of `kindling generate` for the prompt that the template gives.

use std::{
    fs::{self, File},
    path::Path,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    gguf_files::write_model_with,
    support::{Ran, kindling, ran, run, trained},
};

const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}\
    {% if 'no' in message.content %}{{ raise_exception('do not say no') }}{% endif %}\
    {{ message.role | first }}{{ message.content }}{{ eos_token }}{% endfor %}\
    {% if add_generation_prompt %}a{% endif %}";

/// A folder with `chat.gguf`, whose block has 32 tokens.
fn with_model(template: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_model_with(folder.path(), "chat.gguf", &[("tokenizer.chat_template", template.into())]);
    folder
}

fn chat(folder: &Path, args: &[&str], lines: &str) -> Ran {
    fs::write(folder.join("lines.txt"), lines).unwrap();
    let greedy = ["chat", "chat.gguf", "--temperature", "0", "--max-tokens", "3", "--seed", "1"];
    let lines = File::open(folder.join("lines.txt")).unwrap();
    ran(kindling(folder, &[&greedy[..], args].concat()).stdin(lines))
}

/// The greedy answer to the messages in the template's format, without the start of the answer.
fn answer(folder: &Path, messages: &[&str]) -> String {
    let prompt =
        format!("<s>{}a", messages.iter().map(|message| format!("{message}</s>")).collect::<String>());
    let greedy = ["generate", "chat.gguf", "--temperature", "0", "--max-tokens", "3", "--special", "--json"];
    let json = run(folder, &[&greedy[..], &["--prompt", &prompt]].concat()).success().stdout;
    let json: Value = serde_json::from_str(&json).unwrap();
    json["samples"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn an_answer_depends_on_the_messages_and_answers_before_it() {
    let folder = with_model(TEMPLATE);
    let path = folder.path();
    let first = answer(path, &["uhi"]);
    let second = answer(path, &["uhi", &format!("a{first}"), "uso"]);
    assert_ne!(second, answer(path, &["uso"]), "the test can tell the difference");
    let stdout = chat(path, &[], "hi\n\nso\n").success().stdout;
    assert_eq!(stdout, format!("{first}\n{second}\n"));
    let guessed = chat(path, &["--prompt-lookup", "4"], "hi\n\nso\n").success().stdout;
    assert_eq!(guessed, stdout);
}

#[test]
fn reset_forgets_the_conversation_but_not_the_system_message() {
    let folder = with_model(TEMPLATE);
    let path = folder.path();
    let (first, second) = (answer(path, &["sbe", "uhi"]), answer(path, &["sbe", "uso"]));
    let ran = chat(path, &["--system", "be"], "hi\n/reset\nso\n").success();
    assert_eq!(ran.stdout, format!("{first}\n{second}\n"));
    assert!(ran.stderr.contains("the conversation is empty\n"), "{}", ran.stderr);
}

#[test]
fn the_system_message_can_be_shown_and_set() {
    let folder = with_model(TEMPLATE);
    let path = folder.path();
    let expected = answer(path, &["sgo on", "uhi"]);
    let ran = chat(path, &[], "/system\n/system  go on \n/system\nhi\n").success();
    assert_eq!(ran.stdout, format!("{expected}\n"));
    for line in ["there is no system message; /system TEXT sets it\n", "system message: go on\n"] {
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }
}

#[test]
fn an_unknown_command_is_not_sent() {
    let folder = with_model(TEMPLATE);
    let path = folder.path();
    let expected = answer(path, &["u/hi"]);
    let ran = chat(path, &[], "/hi\n//hi\n/quit\nso\n").success();
    assert_eq!(ran.stdout, format!("{expected}\n"), "/quit ends the input");
    let warning = "warning: unknown command /hi; commands are /system, /reset, /help and /quit";
    assert!(ran.stderr.contains(warning), "{}", ran.stderr);
}

#[test]
fn help_lists_the_commands_on_stderr() {
    let folder = with_model(TEMPLATE);
    let ran = chat(folder.path(), &[], "/help\n").success();
    assert_eq!(ran.stdout, "");
    for command in ["/system TEXT", "/reset", "/help", "/quit", "//TEXT"] {
        assert!(ran.stderr.contains(command), "{}", ran.stderr);
    }
}

#[test]
fn a_long_conversation_loses_its_oldest_messages() {
    let folder = with_model(TEMPLATE);
    let path = folder.path();
    let first = answer(path, &["sbe", "uhi"]);
    let long = "a very long tale of";
    let shortened = answer(path, &["sbe", &format!("u{long}")]);
    let ran = chat(path, &["--system", "be"], &format!("hi\n{long}\n")).success();
    assert_eq!(ran.stdout, format!("{first}\n{shortened}\n"));
    let note = "note: the conversation exceeds the block size of 32; dropped its oldest 2 messages\n";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);

    let error = chat(path, &[], &format!("{}\n", long.repeat(9))).failure();
    assert!(
        error.contains("error: the message has ") && error.contains("block size of the model is 32"),
        "{error}"
    );
}

#[test]
fn an_answer_that_reaches_its_limit_gets_a_note() {
    let folder = with_model(TEMPLATE);
    let stderr = chat(folder.path(), &[], "hi\n").success().stderr;
    assert!(stderr.contains("note: the answer has reached its limit of 3 tokens\n"), "{stderr}");
}

#[test]
fn a_refused_conversation_is_an_error() {
    let folder = with_model(TEMPLATE);
    let error = chat(folder.path(), &[], "no\n").failure();
    assert!(error.contains("the chat template refuses the conversation: do not say no"), "{error}");
}

#[test]
fn an_invalid_template_is_an_error() {
    let folder = with_model("{% for a in b %}\n{{ a }");
    let error = chat(folder.path(), &[], "hi\n").failure();
    assert!(error.contains("cannot chat with chat.gguf: the chat template is invalid at line 2"), "{error}");
}

#[test]
fn a_model_without_a_template_is_an_error() {
    let error = run(trained(), &["chat", "debug"]).failure();
    assert!(
        error.contains("debug has no chat template") && error.contains("kindling generate -i"),
        "{error}"
    );
}

#[test]
fn sampling_options_are_checked() {
    let error = run(trained(), &["chat", "debug", "--temperature", "-1"]).usage_failure();
    assert!(error.contains("temperature"), "{error}");
}
