//! Templates and tokenizers that would train the wrong tokens, and conversations that do not fit.

use std::path::PathBuf;

use chat::{
    Conversation, Date, Encoder, Error, Example, Fit, Message, SpecialTexts, Statistics, TrainOn, chatml,
};
use tokenizer::Tokenizer;

/// A tokenizer with ChatML's tokens.
fn tokenizer() -> Tokenizer {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/masks/chatml.json");
    Tokenizer::load(&path).unwrap()
}

fn encoder(source: &str, train_on: TrainOn) -> Result<Encoder, Error> {
    let special = SpecialTexts::from([("eos_token".to_owned(), "<|im_end|>".to_owned())]);
    Encoder::new(source, &special, tokenizer(), train_on, chat::today())
}

/// A conversation of alternating messages that starts with the user.
fn conversation(texts: &[&str]) -> Conversation {
    let message = |(idx, &text): (usize, &&str)| match idx % 2 {
        0 => Message::user(text),
        _ => Message::assistant(text),
    };
    Conversation::new(texts.iter().enumerate().map(message).collect()).unwrap()
}

/// A template whose messages end with `end`, and whose generation prompt is `prompt`.
fn source(end: &str, prompt: &str) -> String {
    format!(
        "{{% for message in messages %}}{{{{ message.role + ':\\n' + message.content + {end} }}}}{{% endfor %}}\
         {{% if add_generation_prompt %}}{{{{ {prompt} }}}}{{% endif %}}"
    )
}

fn trained(encoder: &Encoder, example: &Example) -> String {
    let ids: Vec<u32> = example
        .ids
        .iter()
        .zip(&example.trained)
        .filter(|(_, trained)| **trained)
        .map(|(id, _)| *id)
        .collect();
    encoder.tokenizer().decode(&ids)
}

#[test]
fn answers_are_trained_with_their_end_token() {
    let all = encoder(&source("eos_token", "'assistant:\\n'"), TrainOn::Assistant).unwrap();
    let last = encoder(&source("eos_token", "'assistant:\\n'"), TrainOn::Last).unwrap();
    let conversation = conversation(&["2 + 2?", "4", "3 + 3?", "6"]);
    let text = "user:\n2 + 2?<|im_end|>assistant:\n4<|im_end|>user:\n3 + 3?<|im_end|>assistant:\n6<|im_end|>";
    for (encoder, expected) in [(all, "4<|im_end|>6<|im_end|>"), (last, "6<|im_end|>")] {
        let example = encoder.encode(&conversation).unwrap();
        assert_eq!(encoder.tokenizer().decode(&example.ids), text);
        assert_eq!(trained(&encoder, &example), expected);
        assert_eq!(encoder.end_token().unwrap(), encoder.tokenizer().id_of("<|im_end|>").unwrap());
    }
}

#[test]
fn a_token_across_the_start_of_an_answer_is_trained() {
    let encoder = encoder(&source("eos_token", "'assistant:\\n'"), TrainOn::Assistant).unwrap();
    let example = encoder.encode(&conversation(&["a", "\n\nthree"])).unwrap();
    let text = trained(&encoder, &example);
    assert!(text.ends_with("\n\nthree<|im_end|>"), "{text:?}");
    assert_eq!(text, "\n\n\nthree<|im_end|>");
}

#[test]
fn a_space_that_the_tokenizer_adds_is_trained() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/masks/zephyr.json");
    let special = SpecialTexts::from([("eos_token".to_owned(), "</s>".to_owned())]);
    let template = "{% for message in messages %}{{ message.content + eos_token }}{% endfor %}";
    let encoder =
        Encoder::new(template, &special, Tokenizer::load(&path).unwrap(), TrainOn::Last, chat::today())
            .unwrap();
    let Example { ids, trained } = encoder.encode(&conversation(&["2 + 2?", "four, yes"])).unwrap();
    let tokens: Vec<String> = ids
        .iter()
        .map(|&id| String::from_utf8_lossy(encoder.tokenizer().token_bytes(id).unwrap()).into_owned())
        .collect();
    // The mask of transformers with the tags {% generation %} around the answer.
    assert_eq!(tokens, [" 2 + 2", "?", "</s>", " ", "f", "ou", "r", ", ", "y", "es", "</s>"]);
    assert!(
        trained[..3].iter().all(|is_trained| !is_trained)
            && trained[3..].iter().all(|is_trained| *is_trained)
    );
}

#[test]
fn an_end_that_is_not_a_special_token_is_refused_by_name() {
    let refused =
        |end: &str| encoder(&source(end, "'assistant:\\n'"), TrainOn::Assistant).unwrap_err().to_string();
    let error = refused("'<|end|>'");
    assert!(
        error.starts_with("message 2 (assistant) ends with \"<|end|>\", which is not a special token"),
        "{error}"
    );
    let error = refused("'\\n'");
    assert!(error.contains("ends message 2 (assistant) without a special token"), "{error}");

    let error =
        Encoder::new(chatml::TEMPLATE, &SpecialTexts::new(), Tokenizer::gpt2(), TrainOn::Last, chat::today())
            .unwrap_err();
    assert!(matches!(&error, Error::MissingToken { token } if token == "<|im_start|>"), "{error}");
}

#[test]
fn a_date_in_the_text_is_the_given_one() {
    let dated = source("eos_token", "'assistant:\\n'");
    let dated =
        format!("{{% if strftime_now is defined %}}{{{{ strftime_now('%d %b %Y') }}}}{{% endif %}}{dated}");
    let special = SpecialTexts::from([("eos_token".to_owned(), "<|im_end|>".to_owned())]);
    let text = |source: &str, date: Date| {
        let encoder = Encoder::new(source, &special, tokenizer(), TrainOn::Last, date).unwrap();
        let ids = encoder.encode(&conversation(&["2 + 2?", "4"])).unwrap().ids;
        (encoder.prints_date(), encoder.tokenizer().decode(&ids))
    };
    let days = [Date::constant(2024, 7, 6), Date::constant(2024, 7, 7)];
    let [(prints_date, first), (_, second)] = days.map(|day| text(&dated, day));
    assert!(prints_date && first.starts_with("06 Jul 2024user:"), "{first}");
    assert!(second.starts_with("07 Jul 2024user:"), "{second}");
    let undated = format!("{{{{ 'strftime_now' }}}}{}", source("eos_token", "'assistant:\\n'"));
    let [(prints_date, first), (_, second)] = days.map(|day| text(&undated, day));
    assert!(!prints_date && first == second);
}

#[test]
fn texts_like_special_tokens_are_reported() {
    let encoder = encoder(&source("'<|stop|>' + eos_token", "'assistant:\\n'"), TrainOn::Assistant).unwrap();
    let found: Vec<String> = encoder.text_like_special_tokens().unwrap().into_iter().collect();
    assert_eq!(found, ["<|stop|>"]);
}

#[test]
fn a_template_that_changes_earlier_turns_is_refused_at_the_message() {
    // Only the last answer keeps its reasoning, as in Qwen3.
    let changing = "{% for message in messages %}{{ message.role + ':\\n' }}\
        {{ message.content if loop.last else message.content.split('</think>')[-1] }}{{ eos_token }}{% endfor %}\
        {% if add_generation_prompt %}{{ 'assistant:\\n' }}{% endif %}";
    let all = encoder(changing, TrainOn::Assistant).unwrap();
    assert!(all.encode(&conversation(&["a", "b", "c", "<think>d</think>e"])).is_ok());
    let reasoned = conversation(&["a", "b", "c", "<think>d</think>e", "f", "g"]);
    let error = all.encode(&reasoned).unwrap_err();
    assert!(error.to_string().contains("up to message 4 (assistant)"), "{error}");

    let last = encoder(changing, TrainOn::Last).unwrap();
    assert_eq!(trained(&last, &last.encode(&reasoned).unwrap()), "g<|im_end|>");
}

#[test]
fn a_generation_prompt_that_is_not_in_the_answer_is_refused() {
    let error = encoder(&source("eos_token", "'model:\\n'"), TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::PrefixChanges { number: 1, .. }), "{error}");
    assert!(
        error.to_string().contains("use --set chat.train_on=last (in `data check`: --train-on last)"),
        "{error}"
    );
}

#[test]
fn an_unknown_character_is_named_with_its_message() {
    let characters = Tokenizer::from_chars("user assistant:\n24+".chars())
        .unwrap()
        .with_special_tokens(&["<|im_end|>"])
        .unwrap();
    let special = SpecialTexts::from([("eos_token".to_owned(), "<|im_end|>".to_owned())]);
    let of = |prompt: &str| {
        let source = source("eos_token", prompt);
        Encoder::new(&source, &special, characters.clone(), TrainOn::Assistant, chat::today())
    };
    let error = of("'assistant:\\n'").unwrap().encode(&conversation(&["2 + 2", "4", "2", "é"])).unwrap_err();
    assert!(
        error.to_string().starts_with("message 4 has the character 'é' (U+00E9), which is not"),
        "{error}"
    );
    let error = of("'assistant;\\n'").unwrap_err();
    assert!(matches!(error, Error::PrefixChanges { .. }), "{error}");
    let end = source("'!' + eos_token", "'assistant:\\n'");
    let error = Encoder::new(&end, &special, characters, TrainOn::Last, chat::today()).unwrap_err();
    assert!(error.to_string().starts_with("the chat template has the character '!'"), "{error}");
}

#[test]
fn a_refused_conversation_names_the_message() {
    let alternating = "{% for message in messages %}{% if message.content == 'x' %}{{ raise_exception('no x') }}{% endif %}\
        {{ message.content + eos_token }}{% endfor %}";
    let encoder = encoder(alternating, TrainOn::Assistant).unwrap();
    let error = encoder.encode(&conversation(&["a", "b", "c", "x"])).unwrap_err();
    let Error::UpTo { number: 4, role, source } = error else { panic!("{error}") };
    assert_eq!(
        (role.as_str(), source.to_string()),
        ("assistant", "the chat template refuses the conversation: no x".to_owned())
    );
}

#[test]
fn tags_are_checked_too() {
    let tagged = |generated: &str, rest: &str| {
        format!(
            "{{% for message in messages %}}{{% if message.role == 'assistant' %}}{{% generation %}}{generated}\
             {{% endgeneration %}}{rest}{{% else %}}{{{{ message.content }}}}{{% endif %}}{{% endfor %}}"
        )
    };
    let end_outside = tagged("{{ message.content }}", "{{ eos_token }}");
    let error = encoder(&end_outside, TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::NoEnd { number: 2 }), "{error}");
    let error = encoder(&tagged("", "{{ eos_token }}"), TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::NothingTrained { number: 2 }), "{error}");
    let never = "{% if false %}{% generation %}{% endgeneration %}{% endif %}";
    let error = encoder(never, TrainOn::Assistant).unwrap_err();
    assert!(matches!(error, Error::NothingTrained { .. }), "{error}");

    let two = tagged("{{ message.content }}", "{% generation %}{{ eos_token }}{% endgeneration %}");
    let texts = ["a", "b", "c", "d"];
    for (train_on, expected) in
        [(TrainOn::Assistant, "b<|im_end|>d<|im_end|>"), (TrainOn::Last, "d<|im_end|>")]
    {
        let encoder = encoder(&two, train_on).unwrap();
        assert_eq!(trained(&encoder, &encoder.encode(&conversation(&texts)).unwrap()), expected);
    }
}

#[test]
fn text_that_changes_after_the_tags_is_refused() {
    let upper = "{% macro answer() %}{% generation %}{{ 'a' }}{{ eos_token }}{% endgeneration %}{% endmacro %}\
        {{ answer() | replace('a', 'b') }}{{ answer() | length }}";
    let error = encoder(upper, TrainOn::Assistant).unwrap_err();
    assert!(
        matches!(&error, Error::UpTo { source, .. } if matches!(**source, Error::GenerationTags)),
        "{error}"
    );

    let encoder = encoder(
        "{% for message in messages %}{% generation %}{{ message.content + eos_token }}{% endgeneration %}{% endfor %}",
        TrainOn::Assistant,
    );
    let error = encoder.unwrap().encode(&conversation(&["a\u{FDD0}", "b"])).unwrap_err();
    assert!(matches!(error, Error::UpTo { .. }), "{error}");
}

#[test]
fn a_long_conversation_is_cut_at_an_answer_or_dropped() {
    let encoder = encoder(chatml::TEMPLATE, TrainOn::Assistant).unwrap();
    let texts = ["one", "two", "three", "four", "five", "six", "seven", "eight"];
    let whole = conversation(&texts);
    let n_tokens: Vec<usize> = (1..=4)
        .map(|n_answers| encoder.encode(&conversation(&texts[..2 * n_answers])).unwrap().ids.len())
        .collect();
    let mut statistics = Statistics::default();
    for block_size in 1..=n_tokens[3] + 1 {
        let fit = encoder.fit(&whole, block_size).unwrap();
        statistics.add(&whole, &fit);
        let n_answers = n_tokens.iter().filter(|&&n| n <= block_size).count();
        match (n_answers, fit) {
            (0, Fit::TooLong { n_tokens: shortest }) => assert_eq!(shortest, n_tokens[0]),
            (4, Fit::Whole(example)) => assert_eq!(example, encoder.encode(&whole).unwrap()),
            (n, Fit::Cut { example, n_messages_dropped, n_tokens_whole }) => {
                assert_eq!(n_tokens_whole, n_tokens[3]);
                assert_eq!(n_messages_dropped, 2 * (4 - n));
                assert_eq!(example, encoder.encode(&conversation(&texts[..2 * n])).unwrap());
            }
            (n, fit) => panic!("{n} answers in {block_size}: {fit:?}"),
        }
    }
    assert_eq!(statistics.n_too_long, n_tokens[0] - 1);
    assert_eq!(statistics.n_cut, n_tokens[3] - n_tokens[0]);
    assert_eq!(statistics.n_conversations, statistics.n_cut + 2);
    assert_eq!(statistics.n_tokens_longest, n_tokens[3]);
    assert!((0.2..0.9).contains(&statistics.trained_share()), "{statistics:?}");
}
