//! Chat data: its layouts, and what is refused where.

use std::{fs, path::Path};

use chat::{
    Conversation, Error, Message,
    data::{Kinds, Preference, Reader},
};

/// The conversations of a file with this text: messages as `s: TEXT | u: TEXT | a: TEXT`, or the error without the path.
fn read(text: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.jsonl");
    fs::write(&path, text).unwrap();
    let show = |row: Result<_, Error>| {
        row.map_or_else(
            |error| error.to_string(),
            |row: chat::data::Located<Conversation>| shown(row.value.messages()),
        )
    };
    let prefix = format!("{}:", path.display());
    Reader::conversations(&path).unwrap().map(|row| show(row).replace(&prefix, "chats.jsonl:")).collect()
}

fn shown(messages: &[Message]) -> String {
    let messages = messages.iter().map(|Message { role, content }| format!("{}: {content}", &role[..1]));
    messages.collect::<Vec<_>>().join(" | ")
}

fn preference(text: &str) -> Result<Preference, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("preferences.jsonl");
    fs::write(&path, text).unwrap();
    Reader::preferences(&path).unwrap().next().unwrap().map(|row| row.value)
}

#[test]
fn all_layouts_are_read() {
    for (row, expected) in [
        (
            r#"{"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"}], "id": 7}"#,
            "s: Be kind. | u: Hi | a: Hello",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}"#,
            "u: Hi | a: Hello",
        ),
        (
            r#"{"conversations": [{"role": "user", "content": "Hi"}, {"from": "gpt", "value": "Hello"}], "system": "Be kind."}"#,
            "s: Be kind. | u: Hi | a: Hello",
        ),
        (r#"{"prompt": "Hi", "completion": "Hello"}"#, "u: Hi | a: Hello"),
        (
            r#"{"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Hello"}]}"#,
            "u: Hi | a: Hello",
        ),
        (r#"{"instruction": "Add.", "input": "2 and 2", "output": "4"}"#, "u: Add.\n\n2 and 2 | a: 4"),
        (r#"{"instruction": "Add 2 and 2.", "input": "", "output": "4"}"#, "u: Add 2 and 2. | a: 4"),
        (r#"{"instruction": "Add 2 and 2.", "input": null, "output": "4"}"#, "u: Add 2 and 2. | a: 4"),
        (
            r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "H"}, "i"]},
                {"role": "assistant", "content": "Hello", "tool_calls": []}], "tools": null}"#,
            "u: Hi | a: Hello",
        ),
        (
            r#"{"messages": [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hi", "weight": 0},
                {"role": "assistant", "content": "Hello", "weight": 1, "train": true, "loss": null}]}"#,
            "s: Be kind. | u: Hi | a: Hello",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Bye"}]}"#,
            "u: Hi | a: Hello",
        ),
    ] {
        assert_eq!(read(&row.replace('\n', " ")), [expected], "{row}");
        assert_eq!(read(&format!("[{row}]")), [expected], "{row}");
    }
}

#[test]
fn a_flawed_row_is_refused_with_its_line_and_what_to_do() {
    let messages = |items: &str| format!(r#"{{"messages": [{items}]}}"#);
    let user = r#"{"role": "user", "content": "Hi"}"#;
    for (row, expected) in [
        ("{\"messages\": [}".to_owned(), "invalid JSON at column 15: "),
        ("[1]".to_owned(), "expected an object with `messages`, found a list"),
        (r#"{"text": "Hi", "id": 1}"#.to_owned(), "unknown layout with `id`, `text`; use `messages`"),
        ("{}".to_owned(), "unknown layout with no keys; use"),
        (r#"{"prompt": "Hi"}"#.to_owned(), "the row has `prompt` but no `completion`"),
        (r#"{"output": "Hi"}"#.to_owned(), "the row has `output` but no `instruction`"),
        (r#"{"prompt": "Hi", "chosen": "a"}"#.to_owned(), "the row is a pair of answers, for `train dpo`"),
        (r#"{"messages": "Hi"}"#.to_owned(), "`messages` must be a list of messages, found text"),
        (messages(""), "no messages"),
        (messages("7"), "message 1 must be an object with `role` and `content`, found a number"),
        (messages(user), "no message of the assistant"),
        (messages(r#"{"role": "user"}"#), "message 1 has no `content`"),
        (messages(r#"{"content": "Hi"}"#), "message 1 has no `role` (its keys: `content`)"),
        (messages(r#"{"role": 7, "content": "Hi"}"#), "`role` of message 1 must be text, found a number"),
        (messages(r#"{"role": "user", "content": null}"#), "`content` of message 1 must be text, found null"),
        (messages(r#"{"from": "human", "value": {}}"#), "`value` of message 1 must be text, found an object"),
        (
            messages(&format!(r#"{user}, {{"role": "critic", "content": "Boo!"}}"#)),
            "message 2 has the unknown role \"critic\"",
        ),
        (
            messages(&format!(r#"{user}, {{"role": "tool", "content": "7"}}"#)),
            "message 2 has the role \"tool\", but",
        ),
        (
            messages(&format!(r#"{user}, {{"role": "assistant", "content": "", "tool_calls": [{{}}]}}"#)),
            "message 2 has `tool_calls`, which is not supported; remove the conversation",
        ),
        (
            messages(&format!(
                r#"{user}, {{"role": "assistant", "content": "7", "reasoning_content": "so"}}"#
            )),
            "message 2 has `reasoning_content`, which is not supported; put it into the content",
        ),
        (
            messages(&format!(r#"{user}, {{"role": "assistant", "content": "7", "weight": 0}}"#)),
            "message 2 (assistant) has `weight` = 0, but an answer can't be left out of training; remove the key",
        ),
        (
            messages(&format!(r#"{user}, {{"role": "assistant", "content": "7", "train": false}}"#)),
            "message 2 (assistant) has `train` = false",
        ),
        (
            messages(&format!(r#"{user}, {{"role": "assistant", "content": "7", "loss": 0.5}}"#)),
            "message 2 (assistant) has `loss` = 0.5",
        ),
        (
            messages(r#"{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}"#),
            "message 1 has a part of type \"image_url\"; only text",
        ),
        (messages(&format!("{user}, {user}")), "messages 1 and 2 are both from the user"),
        (
            messages(&format!(r#"{user}, {{"role": "assistant", "content": " "}}"#)),
            "message 2 (assistant) is empty",
        ),
        (r#"{"instruction": "Add.", "output": ""}"#.to_owned(), "message 2 (assistant) is empty"),
        (r#"{"instruction": 7, "output": "x"}"#.to_owned(), "`instruction` must be text, found a number"),
        (
            r#"{"prompt": 7, "completion": "x"}"#.to_owned(),
            "`prompt` must be text or a list of messages, found a number",
        ),
        (r#"{"messages": [], "tools": [{}]}"#.to_owned(), "`tools` is not supported"),
    ] {
        let good = r#"{"prompt": "Hi", "completion": "Hello"}"#;
        let found = read(&format!("{good}\n\n{row}\n{good}\n"));
        assert_eq!(
            (found.len(), found[0].as_str(), found[2].as_str()),
            (3, "u: Hi | a: Hello", "u: Hi | a: Hello")
        );
        assert!(found[1].starts_with(&format!("chats.jsonl:3: {expected}")), "{row}: {}", found[1]);
    }
}

#[test]
fn invalid_utf8_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chats.parquet");
    fs::write(&path, b"PAR1\xFF\xFE").unwrap();
    let errors: Vec<String> =
        Reader::conversations(&path).unwrap().map(|row| row.unwrap_err().to_string()).collect();
    assert!(errors.len() == 1 && errors[0].contains("chats.parquet:1: invalid UTF-8"), "{errors:?}");
}

#[test]
fn a_folder_is_read_in_sorted_order() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("b/c")).unwrap();
    for name in ["d.jsonl", "a.jsonl", "b/c/z.jsonl", "b/y.jsonl"] {
        let row = format!("{{\"prompt\": \"Hi\", \"completion\": \"{name}\"}}\n");
        fs::write(folder.path().join(name), row).unwrap();
    }
    fs::write(folder.path().join("notes.txt"), "not JSON").unwrap();
    let mut reader = Reader::conversations(folder.path()).unwrap();
    let names: Vec<String> =
        reader.by_ref().map(|row| row.unwrap().value.messages()[1].content.clone()).collect();
    assert_eq!(names, ["a.jsonl", "b/c/z.jsonl", "b/y.jsonl", "d.jsonl"]);

    let checksum = reader.checksum();
    fs::write(folder.path().join("a.jsonl"), "{\"prompt\": \"Hi\", \"completion\": \"other\"}\n").unwrap();
    let mut changed = Reader::conversations(folder.path()).unwrap();
    assert_eq!(changed.by_ref().filter(Result::is_ok).count(), 4);
    assert_ne!(changed.checksum(), checksum);
}

#[cfg(unix)]
#[test]
fn links_in_a_folder_are_followed_once() {
    use std::os::unix::fs::symlink;

    let folder = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
    for (path, answer) in [(data.join("a/one.jsonl"), "one"), (elsewhere.join("two.jsonl"), "two")] {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{{\"prompt\": \"Hi\", \"completion\": \"{answer}\"}}\n")).unwrap();
    }
    for (target, link) in [
        (&elsewhere, "b"),
        (&data.join("a"), "again"),
        (&data, "a/up"),
        (&data.join("gone.jsonl"), "gone.jsonl"),
        (&data.join("self.jsonl"), "self.jsonl"),
        (&elsewhere, ".hidden"),
    ] {
        symlink(target, data.join(link)).unwrap();
    }
    let answers = |path: &Path| {
        let rows = Reader::conversations(path).unwrap();
        rows.map(|row| row.unwrap().value.messages()[1].content.clone()).collect::<Vec<_>>()
    };
    assert_eq!(answers(&data), ["one", "two"]);
    assert_eq!(answers(&data.join("b")), ["two"], "the folder itself is a link");
}

#[test]
fn the_checksum_of_a_file_is_its_sha256() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("lines.jsonl", "\u{FEFF}{\"prompt\": \"Hi\", \"completion\": \"Hello\"}\r\n\r\n{broken\n{}"),
        ("list.json", "\n[{\"prompt\": \"Hi\", \"completion\": \"Hello\"},\n {}]\n"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut reader = Reader::conversations(&path).unwrap();
        assert!(reader.by_ref().count() >= 2);
        assert_eq!(reader.checksum(), ::fs::sha256_hex(text.as_bytes()), "{name}");
    }
}

#[test]
fn the_kind_of_data_is_known_in_spite_of_flaws() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    let (conversations, preferences) = (true, true);
    for (text, expected) in [
        ("{\n{\"messages\": 7}", Kinds { conversations, ..Kinds::default() }),
        ("[{\"instruction\": 1, \"output\": 2}]", Kinds { conversations, ..Kinds::default() }),
        ("{\"chosen\": []}", Kinds { preferences, ..Kinds::default() }),
        ("{\"messages\": [], \"chosen\": []}", Kinds { conversations, preferences }),
        ("{\"text\": \"messages\"}\n", Kinds::default()),
        ("To be\n[\n", Kinds::default()),
    ] {
        fs::write(&path, text).unwrap();
        assert_eq!(Kinds::of(&path), expected, "{text}");
    }
    assert_eq!(Kinds::of(Path::new("missing.jsonl")), Kinds::default());
    // A character across the limit of the bytes that are read.
    fs::write(&path, format!("[{{\"messages\": 7}}, \"{}\"]", "é".repeat(1 << 20))).unwrap();
    assert_eq!(Kinds::of(&path), Kinds { conversations, ..Kinds::default() });
    assert_eq!(Kinds::of(folder.path()), Kinds { conversations, ..Kinds::default() });
}

#[test]
fn missing_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let error = Reader::conversations(folder.path()).unwrap_err().to_string();
    assert!(error.contains("has no .jsonl files"), "{error}");
    assert!(matches!(Reader::conversations(Path::new("missing.jsonl")), Err(Error::Read { .. })));
}

#[test]
fn preferences_have_a_common_prompt() {
    for row in [
        r#"{"prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}"#,
        r#"{"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "assistant", "content": "What?"}]}"#,
        r#"{"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}]}"#,
        r#"{"prompt": "Hi", "chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
            "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}]}"#,
    ] {
        let found = preference(&row.replace('\n', " ")).unwrap();
        assert_eq!(shown(found.chosen.messages()), "u: Hi | a: Hello!", "{row}");
        assert_eq!(shown(found.rejected.messages()), "u: Hi | a: What?", "{row}");
    }
    let found =
        preference(r#"{"system": "Be kind.", "prompt": "Hi", "chosen": "Hello!", "rejected": "What?"}"#)
            .unwrap();
    assert_eq!(shown(found.rejected.messages()), "s: Be kind. | u: Hi | a: What?");
}

#[test]
fn flawed_preferences_are_refused() {
    let user = r#"{"role": "user", "content": "Hi"}"#;
    let answer = r#"{"role": "assistant", "content": "Hello!"}"#;
    for (row, expected) in [
        (r#"{"messages": []}"#.to_owned(), "the row is a conversation, for `train sft`"),
        (r#"{"text": "Hi"}"#.to_owned(), "unknown layout with `text`; preference data has"),
        (r#"{"chosen": "a", "rejected": "b"}"#.to_owned(), "the row has `chosen` but no `prompt`"),
        (r#"{"prompt": "a", "rejected": "b"}"#.to_owned(), "the row has `rejected` but no `chosen`"),
        (
            r#"{"prompt": "Hi", "chosen": "a", "rejected": "a"}"#.to_owned(),
            "`chosen` and `rejected` are the same",
        ),
        (
            format!(r#"{{"chosen": [{user}, {answer}], "rejected": [{user}, {answer}]}}"#),
            "`chosen` and `rejected` are the same",
        ),
        (
            format!(r#"{{"prompt": "Hi", "chosen": [{answer}, {user}, {answer}], "rejected": "a"}}"#),
            "`chosen` must be one answer of the assistant after the prompt, found 3 messages there",
        ),
        (r#"{"prompt": "Hi", "chosen": "a", "rejected": ""}"#.to_owned(), "message 2 (assistant) is empty"),
        (r#"{"prompt": "Hi", "chosen": 7, "rejected": ""}"#.to_owned(), "`chosen` must be text or a list"),
    ] {
        let error = preference(&row).unwrap_err().to_string();
        assert!(error.contains(expected), "{row}: {error}");
    }
}
