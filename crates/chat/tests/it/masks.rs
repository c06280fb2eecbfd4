//! Ids and masks of trl for five templates, made by `xtask/reference/chat_masks.py`.
//!
//! The templates belong to others and are not committed. `chat_masks.py templates FOLDER` reads them from Python packages,
//! and `KINDLING_CHAT_TEMPLATES=FOLDER` runs the tests that need them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::PathBuf,
};

use chat::{Conversation, Encoder, Error, Example, Message, SpecialTexts, TrainOn, chatml};
use serde::Deserialize;
use tokenizer::Tokenizer;

#[derive(Deserialize)]
struct Golden {
    special: BTreeMap<String, SpecialTexts>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    kind: Kind,
    template: String,
    messages: Vec<Message>,
    #[serde(default)]
    ids: Vec<u32>,
    /// One digit per id: 1 if it is trained.
    #[serde(default)]
    mask: String,
    /// Whether the ids of the prompt alone are the first ids of the whole.
    #[serde(default = "yes")]
    prompt_is_prefix: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// The last answer, by the published template.
    Completion,
    /// All answers, by the training template.
    Assistant,
    /// The published template refuses the conversation.
    Refused,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/masks")
}

fn golden() -> Golden {
    serde_json::from_str(&fs::read_to_string(folder().join("golden.json")).unwrap()).unwrap()
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::load(&folder().join(format!("{name}.json"))).unwrap()
}

/// The folder of the templates, if there is one.
#[expect(clippy::print_stderr, reason = "a skipped test must be visible")]
fn templates() -> Option<PathBuf> {
    let folder = env::var_os("KINDLING_CHAT_TEMPLATES").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: KINDLING_CHAT_TEMPLATES is not set; see xtask/reference/chat_masks.py");
    }
    folder
}

fn encoder(golden: &Golden, name: &str, source: &str, train_on: TrainOn) -> Encoder {
    Encoder::new(source, &golden.special[name], tokenizer(name), train_on, chat::today()).unwrap()
}

fn digits(example: &Example) -> String {
    example.trained.iter().map(|&is_trained| if is_trained { '1' } else { '0' }).collect()
}

/// Compares with trl, whose example may have a question at the end, which trains nothing.
#[track_caller]
fn check(example: &Example, case: &Case, tokenizer: &Tokenizer) {
    let name = format!("{}, {:?}, {:?}", case.template, case.kind, case.messages);
    let n_ids = example.ids.len();
    let is_unanswered = case.messages.last().is_some_and(|message| message.role == "user");
    assert!(is_unanswered || n_ids == case.ids.len(), "{name}: {n_ids} ids, not {}", case.ids.len());
    assert_eq!(example.ids, case.ids[..n_ids], "{name}");
    let shown: Vec<String> = example.ids.iter().map(|&id| tokenizer.decode(&[id])).collect();
    let (found, expected) = (digits(example), &case.mask[..n_ids]);
    if case.prompt_is_prefix {
        assert_eq!(found, expected, "{name}: {shown:?}");
    } else {
        // trl also trains a token before the answer if the prompt alone has another one there.
        assert_eq!(found.trim_start_matches('0'), &expected[found.find('1').unwrap()..], "{name}: {shown:?}");
        assert!(found.find('1').unwrap() - expected.find('1').unwrap() <= 1, "{name}: {shown:?}");
    }
    assert!(!case.mask[n_ids..].contains('1'), "{name}");
}

#[test]
fn published_templates_have_the_ids_and_masks_of_trl() {
    let Some(folder) = templates() else { return };
    let golden = golden();
    let mut n_checked = BTreeMap::new();
    for case in &golden.cases {
        let source = fs::read_to_string(folder.join(format!("{}.jinja", case.template))).unwrap();
        let train_on = if case.kind == Kind::Completion { TrainOn::Last } else { TrainOn::Assistant };
        let encoder = encoder(&golden, &case.template, &source, train_on);
        let conversation = Conversation::new(case.messages.clone()).unwrap();
        let encoded = encoder.encode(&conversation);
        let is_qwen_of_several_answers = case.template == "qwen3" && conversation.answers().len() > 1;
        match (case.kind, encoded) {
            // Qwen3 drops the reasoning of earlier answers, and its empty frame.
            (Kind::Assistant, Err(Error::PrefixChanges { number, role })) if is_qwen_of_several_answers => {
                assert_eq!(Some(number - 1), conversation.answers().next());
                assert_eq!(role, "assistant");
            }
            (Kind::Refused, Err(Error::UpTo { source, .. })) => {
                assert!(matches!(*source, Error::Refused { .. }), "{source}");
            }
            (Kind::Completion | Kind::Assistant, Ok(example)) => check(&example, case, encoder.tokenizer()),
            (kind, encoded) => panic!("{} {kind:?} {:?}: {encoded:?}", case.template, case.messages),
        }
        *n_checked.entry((case.kind, case.template.as_str())).or_insert(0) += 1;
    }
    for kind in [Kind::Completion, Kind::Assistant] {
        let templates = n_checked.iter().filter(|((found, _), n)| *found == kind && **n >= 8);
        assert_eq!(templates.count(), 5, "{n_checked:?}");
    }
}

#[test]
fn training_templates_have_the_ids_and_masks_of_trl() {
    let Some(folder) = templates() else { return };
    let golden = golden();
    let mut checked = BTreeSet::new();
    for case in &golden.cases {
        let path = folder.join(format!("{}_training.jinja", case.template));
        let source = fs::read_to_string(path).unwrap();
        let conversation = Conversation::new(case.messages.clone()).unwrap();
        let encode = |train_on| encoder(&golden, &case.template, &source, train_on).encode(&conversation);
        match case.kind {
            Kind::Assistant => check(&encode(TrainOn::Assistant).unwrap(), case, &tokenizer(&case.template)),
            // Only the masks of the last answer: trl's Qwen3 keeps the reasoning of earlier ones.
            Kind::Completion if case.template != "qwen3" || conversation.answers().len() == 1 => {
                check(&encode(TrainOn::Last).unwrap(), case, &tokenizer(&case.template));
            }
            Kind::Completion => {}
            Kind::Refused => assert!(matches!(encode(TrainOn::Assistant), Err(Error::UpTo { .. }))),
        }
        checked.insert(case.template.as_str());
    }
    assert_eq!(checked, BTreeSet::from(["chatml", "gemma", "llama3", "qwen3", "zephyr"]));
}

#[test]
fn published_templates_without_tags_train_the_answers() {
    let Some(folder) = templates() else { return };
    let golden = golden();
    let messages = [
        Message::user("What colour is the sky?"),
        Message::assistant("Blue."),
        Message::user("And grass?"),
        Message::assistant("Green."),
    ];
    let conversation = Conversation::new(messages.to_vec()).unwrap();
    for (template, tokenizer, expected) in [
        ("llama3_1", "llama3", "Blue.<|eot_id|>Green.<|eot_id|>"),
        ("gemma3", "gemma", "Blue.<end_of_turn>\nGreen.<end_of_turn>\n"),
        ("qwen2_5", "qwen3", "Blue.<|im_end|>\nGreen.<|im_end|>\n"),
    ] {
        let source = fs::read_to_string(folder.join(format!("{template}.jinja"))).unwrap();
        let encoder = encoder(&golden, tokenizer, &source, TrainOn::Assistant);
        let Example { ids, trained } = encoder.encode(&conversation).unwrap();
        let ids: Vec<u32> =
            ids.iter().zip(trained).filter(|(_, is_trained)| *is_trained).map(|(id, _)| *id).collect();
        assert_eq!(encoder.tokenizer().decode(&ids), expected, "{template}");
        assert!(encoder.text_like_special_tokens().unwrap().is_empty(), "{template}");
    }
}

#[test]
fn our_chatml_has_the_ids_and_masks_of_trl() {
    let golden = golden();
    let tokenizer = tokenizer("chatml");
    let mut n_checked = 0;
    for case in golden.cases.iter().filter(|case| case.template == "chatml") {
        let train_on = if case.kind == Kind::Completion { TrainOn::Last } else { TrainOn::Assistant };
        let encoder = encoder(&golden, "chatml", chatml::TEMPLATE, train_on);
        check(&encoder.encode(&Conversation::new(case.messages.clone()).unwrap()).unwrap(), case, &tokenizer);
        n_checked += 1;
    }
    assert!(n_checked > 20, "{n_checked}");
}

#[test]
fn chatml_equals_its_template() {
    let golden = golden();
    // Differs only in a comment, so the template engine renders it.
    let rendered = format!("{{# ChatML -#}}\n{}", chatml::TEMPLATE);
    let tagged = rendered.replace("{{- '<|im_start|>' + message.role", "{{- '<|im_start|>' + message.role + '\\n' -}}\n\
        {%- if message.role == 'assistant' -%}{%- generation -%}{{- message.content + '<|im_end|>\\n' -}}{%- endgeneration -%}\
        {%- else -%}{{- message.content + '<|im_end|>\\n' -}}{%- endif -%}{#");
    let tagged = tagged.replace("+ '<|im_end|>\\n' -}}\n{%- endfor", "#}\n{%- endfor");
    for train_on in [TrainOn::Assistant, TrainOn::Last] {
        let [own, rendered, tagged] = [chatml::TEMPLATE, rendered.as_str(), tagged.as_str()]
            .map(|source| encoder(&golden, "chatml", source, train_on));
        for case in golden.cases.iter().filter(|case| case.kind != Kind::Completion) {
            let conversation = Conversation::new(case.messages.clone()).unwrap();
            let expected = own.encode(&conversation).unwrap();
            assert_eq!(rendered.encode(&conversation).unwrap(), expected);
            assert_eq!(tagged.encode(&conversation).unwrap(), expected);
        }
    }
}
