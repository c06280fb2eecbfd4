//! `kindling data check`.

use std::fs;

use crate::{gguf_files::write_model_with, support::run};

const GOOD: &str =
    r#"{"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "four"}]}"#;
const LONG: &str = r#"{"messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "one"},
    {"role": "user", "content": "And?"}, {"role": "assistant", "content": "two"}]}"#;

fn folder_with(rows: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<String> = rows.iter().map(|row| row.replace('\n', " ")).collect();
    fs::write(folder.path().join("chats.jsonl"), rows.join("\n")).unwrap();
    folder
}

#[test]
fn check_prints_figures_and_an_example_with_its_mask() {
    let folder = folder_with(&[GOOD, LONG]);
    let ran = run(folder.path(), &["data", "check", "chats.jsonl"]).success();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], "conversations   2");
    assert_eq!(lines[1], "turns           6");
    assert!(lines[3].starts_with("trained tokens  9 ("), "{}", ran.stdout);
    let example =
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n\u{27E6}four<|im_end|>\n\u{27E7}\n";
    assert!(ran.stdout.ends_with(&format!("\nchats.jsonl:1:\n\n{example}")), "{}", ran.stdout);

    let last = run(folder.path(), &["data", "check", "chats.jsonl", "--train-on", "last"]).success().stdout;
    assert!(last.contains("\ntrained tokens  6 ("), "{last}");
}

#[test]
fn conversations_that_do_not_fit_are_counted() {
    let folder = folder_with(&[GOOD, LONG]);
    let n =
        |block_size: &str| run(folder.path(), &["data", "check", "chats.jsonl", "--block-size", block_size]);
    let fits = n("40").success().stdout;
    assert!(fits.contains("\ncut             0 at") && fits.contains("\ndropped         0, whose"), "{fits}");
    let cut = n("20").success().stdout;
    assert!(cut.contains("\ncut             1 at") && cut.contains("\ndropped         0, whose"), "{cut}");
    let nothing = n("5");
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("no conversation can be trained on"), "{}", nothing.stderr);
}

const PAIR: &str = r#"{"prompt": "2 + 2?", "chosen": "four", "rejected": "five, I think"}"#;

#[test]
fn pairs_of_answers_are_checked_too() {
    let folder = folder_with(&[PAIR, &PAIR.replace("four", "4")]);
    let check = |args: &[&str]| run(folder.path(), &[&["data", "check", "chats.jsonl"], args].concat());
    let found = check(&[]).success().stdout;
    assert!(found.starts_with("pairs           2\n"), "{found}");
    assert!(found.contains("\u{27E6}four<|im_end|>") && found.contains("\u{27E6}five, I think<|im_end|>"));
    let dropped = check(&["--block-size", "8"]);
    assert_eq!(dropped.code, 1);
    assert!(dropped.stdout.contains("\ndropped         2, which do not fit 8 tokens"), "{}", dropped.stdout);

    let folder = folder_with(&[PAIR, &PAIR.replace("five, I think", "four"), "{"]);
    let refused = run(folder.path(), &["data", "check", "chats.jsonl"]);
    assert_eq!(refused.code, 1);
    for expected in [
        "chats.jsonl:2: `chosen` and `rejected` are the same answer",
        "chats.jsonl:3: ",
        "2 of 3 rows can't be trained on",
    ] {
        assert!(refused.stderr.contains(expected), "{}", refused.stderr);
    }
}

#[test]
fn refused_rows_are_named_and_fail() {
    let folder = folder_with(&[GOOD, r#"{"text": "x"}"#, "{", GOOD]);
    let ran = run(folder.path(), &["data", "check", "chats.jsonl"]);
    assert_eq!(ran.code, 1);
    for part in [
        "chats.jsonl:2: unknown layout with `text`",
        "chats.jsonl:3: invalid JSON at column 1",
        "2 of 4 rows can't be trained on",
    ] {
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
    }
    assert!(ran.stdout.contains("refused         2\n"), "{}", ran.stdout);
    assert_eq!(ran.stderr.matches("\nchats.jsonl:").count(), 2, "each row is named once: {}", ran.stderr);
}

#[test]
fn a_system_message_is_not_a_turn_and_a_list_needs_commas() {
    let with_system = r#"{"system": "Be kind.", "prompt": "Hi", "completion": "Hello"}"#;
    let check = |text: &str| {
        let folder = folder_with(&[text]);
        run(folder.path(), &["data", "check", "chats.jsonl"])
    };
    let found = check(with_system).success().stdout;
    assert!(found.starts_with("conversations   1\nturns           2\n"), "{found}");
    check(&format!("[{with_system}, {with_system}]")).success();
    let refused = check(&format!("[{with_system} {with_system}]"));
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("chats.jsonl:1: expected `,` or `]` before '{'"), "{}", refused.stderr);
}

#[test]
fn special_tokens_in_the_text_are_warned_about() {
    let formatted = r#"{"prompt": "Hi", "completion": "Hello<|im_end|>"}"#;
    let ran = run(folder_with(&[GOOD, formatted]).path(), &["data", "check", "chats.jsonl"]).success();
    assert!(
        ran.stderr
            .contains("1 conversation with special tokens in the text, such as <|im_end|> at chats.jsonl:2")
    );
}

#[test]
fn the_template_of_a_model_is_used_and_checked() {
    let folder = folder_with(&[GOOD]);
    let template =
        |end: &str| format!("{{% for message in messages %}}{{{{ message.content }}}}{end}{{% endfor %}}");
    let check = |end: &str| {
        write_model_with(folder.path(), "model.gguf", &[("tokenizer.chat_template", template(end).into())]);
        run(folder.path(), &["data", "check", "chats.jsonl", "--model", "model.gguf"])
    };
    let ran = check("{{ eos_token }}").success();
    assert!(ran.stdout.ends_with("2 + 2?</s>\u{27E6}four</s>\u{27E7}\n"), "{}", ran.stdout);
    let ran = check("{{ raise_exception('no chats') if '?' in message.content else eos_token }}");
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains(
            "chats.jsonl: no row can be trained on with the chat template and the tokenizer of the model"
        ) && ran.stderr.contains("chats.jsonl:1: ")
            && ran.stderr.contains("no chats")
            && !ran.stderr.contains("correct or remove"),
        "{}",
        ran.stderr
    );
    let error = check("<|im_end|>").failure();
    assert!(
        error.contains("ends with \"<|im_end|>\", which is not a special token of the tokenizer"),
        "{error}"
    );
}
