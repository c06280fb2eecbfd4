//! Texts of transformers. The templates use the language features of the templates of well-known models.
//! `xtask/golden/chat_templates.py` makes the fixture.

use std::{collections::BTreeMap, fs, path::PathBuf};

use chat::{Error, Message, SpecialTexts, Template};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    special: SpecialTexts,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    conversation: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    #[serde(flatten)]
    expected: Expected,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Text(String),
    Refused(String),
    Failed(String),
}

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn templates_render_as_in_transformers() {
    let Golden { special, cases } = serde_json::from_str(&fixture("golden.json")).unwrap();
    let mut templates: BTreeMap<String, Template> = BTreeMap::new();
    let (mut n_texts, mut n_refused, mut n_failed) = (0, 0, 0);
    for Case { template: name, conversation, messages, add_generation_prompt, expected } in cases {
        let template = templates
            .entry(name.clone())
            .or_insert_with(|| Template::new(&fixture(&name), &special).unwrap());
        let rendered = match add_generation_prompt {
            true => template.render_prompt(&messages),
            false => template.render_conversation(&messages),
        };
        let case = format!("{name} with the conversation `{conversation}`, prompt: {add_generation_prompt}");
        match (rendered, expected) {
            (Ok(text), Expected::Text(expected)) => {
                for (line, expected) in text.lines().zip(expected.lines()) {
                    assert_eq!(line, expected, "{case}");
                }
                assert_eq!(text, expected, "{case}");
                n_texts += 1;
            }
            (Err(Error::Refused { message }), Expected::Refused(expected)) => {
                assert_eq!(message, expected, "{case}");
                n_refused += 1;
            }
            (Err(Error::Render { .. }), Expected::Failed(_)) => n_failed += 1,
            (rendered, expected) => panic!("{case}: {rendered:?}, not {expected:?}"),
        }
    }
    assert!(n_texts > 100 && n_refused > 10 && n_failed > 10, "{n_texts} {n_refused} {n_failed}");
}
