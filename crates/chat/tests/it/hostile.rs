//! Invalid templates, and templates that try to use up time or to read files.

use chat::{Error, Message, SpecialTexts, Template};

fn render(source: &str) -> Result<String, Error> {
    Template::new(source, &SpecialTexts::new())?.render_prompt(&[Message::user("hello")])
}

#[test]
fn an_invalid_template_is_reported_with_its_line() {
    for (source, line, part) in [
        ("{% if a %}", 1, "end of input"),
        ("a\n\n{{ messages[ }}", 3, "unexpected"),
        ("\n{% endfor %}", 2, "endfor"),
        ("{% include 'other' %}", 1, "unknown statement include"),
        ("{% import '/etc/passwd' as x %}", 1, "unknown statement import"),
        ("{% extends 'x' %}", 1, "unknown statement extends"),
    ] {
        match render(source) {
            Err(Error::Syntax { line: found, message }) => {
                assert_eq!(found, line, "{source}: {message}");
                assert!(message.contains(part), "{source}: {message}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn a_failing_template_is_reported_with_its_line() {
    for (source, line, part) in [
        ("\n{{ missing.attribute }}", 2, "undefined"),
        ("{{ messages[0].content.upper(1) }}", 1, "too many arguments"),
        ("\n\n{{ messages[0].content.no_method() }}", 3, "no_method"),
        ("{{ 'a' | no_filter }}", 1, "no_filter"),
        ("{{ ''.__class__.__mro__ }}", 1, "undefined"),
        ("{{ open('/etc/passwd') }}", 1, "open"),
        ("{{ [] | tojson(indent=1000000) }}", 1, "indent"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", 1, "recursion"),
    ] {
        match render(source) {
            Err(Error::Render { line: found, message }) => {
                assert_eq!(found, line, "{source}: {message}");
                assert!(message.contains(part), "{source}: {message}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn a_refusal_within_a_macro_keeps_its_message() {
    let source = "{% macro check(n) %}{% if n %}{{ raise_exception('too ' ~ n) }}{% endif %}{% endmacro %}{{ check('long') }}";
    assert!(matches!(render(source), Err(Error::Refused { message }) if message == "too long"));
}

#[test]
fn endless_work_ends() {
    let nested = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let doubled = "{% set ns = namespace(s='aaaaaaaa') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}";
    let replaced = "{% set ns = namespace(s='aaaaaaaa') %}\
        {% for i in range(100) %}{% set ns.s = ns.s.replace('a', 'aaaaaaaa') %}{% endfor %}";
    let split =
        "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{{ s.rsplit('a') | length }}{% endfor %}";
    let titled = "{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% set t = s.title() %}{% endfor %}";
    for source in [nested, doubled, replaced, split, titled] {
        assert!(matches!(render(source), Err(Error::TooManySteps)), "{source}");
    }
}

#[test]
fn a_huge_or_deep_template_is_an_error() {
    for source in [
        "{{ 'a' * 100000000000 }}".to_owned(),
        "{{ ['a'] * 100000000000 }}".to_owned(),
        format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000)),
        "{% if true %}".repeat(100_000),
    ] {
        let short: String = source.chars().take(40).collect();
        assert!(render(&source).is_err(), "{short}");
    }
}

#[test]
fn a_long_conversation_is_rendered() {
    let source =
        "{% for message in messages %}{{ message.role + ': ' + message.content | trim }}\n{% endfor %}";
    let template = Template::new(source, &SpecialTexts::new()).unwrap();
    let messages = vec![Message::user("hello ".repeat(1000)); 2000];
    assert_eq!(template.render_prompt(&messages).unwrap().lines().count(), 2000);
}

#[test]
fn threads_share_a_template() {
    let template = Template::new("{{ messages[0].content }}", &SpecialTexts::new()).unwrap();
    let other = template.clone();
    let text = std::thread::spawn(move || other.render_prompt(&[Message::user("a")])).join().unwrap();
    assert_eq!(text.unwrap(), template.render_prompt(&[Message::user("a")]).unwrap());
}
