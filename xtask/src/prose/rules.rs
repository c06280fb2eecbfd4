//! `xtask/prose.toml`: patterns to avoid, and the passages excepted from them.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use anyhow::ensure;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::passages::{Kind, Passage};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// Words in a sentence of a Markdown document.
    sentence_words_max: usize,
    #[serde(rename = "pattern")]
    patterns: Vec<Pattern>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pattern {
    /// Matched at word boundaries, case-insensitively.
    #[serde(deserialize_with = "regex")]
    pattern: Regex,
    /// Advice for the writer.
    instead: String,
    /// A passage that matches, for the test.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test alone"))]
    example: String,
    /// Kinds of passages to check; all if empty.
    #[serde(default)]
    kinds: Vec<Kind>,
    #[serde(default)]
    allow: Vec<Exception>,
}

/// A passage in which the pattern is right.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    file: String,
    /// A part of the passage around the match.
    excerpt: String,
    reason: String,
}

/// The index of a pattern, and of an exception in it.
pub(crate) type ExceptionId = (usize, usize);

#[derive(Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) instead: String,
    pub(crate) allowed_by: Option<ExceptionId>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, text, instead, .. } = self;
        write!(f, "{file}:{line}: {text} -> {instead}")
    }
}

impl Rules {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let rules: Self = toml::from_str(text)?;
        for exception in rules.patterns.iter().flat_map(|pattern| &pattern.allow) {
            let Exception { file, excerpt, reason } = exception;
            ensure!(!reason.is_empty(), "the exception `{excerpt}` of {file} gives no reason");
        }
        Ok(rules)
    }

    /// Every match in the passages of `file`, with the exception that allows it, if one does.
    pub(crate) fn check(&self, file: &str, passages: &[Passage]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for passage in passages {
            let prose = passage.prose();
            for (idx, pattern) in self.patterns.iter().enumerate() {
                if !pattern.kinds.is_empty() && !pattern.kinds.contains(&passage.kind) {
                    continue;
                }
                for found in pattern.pattern.find_iter(&prose) {
                    let allowed_by = pattern
                        .allow
                        .iter()
                        .position(|exception| exception.allows(file, passage, found.range()));
                    findings.push(Finding {
                        file: file.to_owned(),
                        line: passage.line_at(found.start()),
                        text: passage.text[found.range()].to_owned(),
                        instead: pattern.instead.clone(),
                        allowed_by: allowed_by.map(|exception| (idx, exception)),
                    });
                }
            }
            if passage.kind == Kind::Markdown {
                findings.extend(self.long_sentences(file, passage, &prose));
            }
        }
        findings
    }

    fn long_sentences(&self, file: &str, passage: &Passage, prose: &str) -> Vec<Finding> {
        let long = sentences(prose).into_iter().filter_map(|(start, sentence)| {
            let n_words = n_words(sentence);
            (n_words > self.sentence_words_max).then(|| Finding {
                file: file.to_owned(),
                line: passage.line_at(start),
                text: format!(
                    "{} ... ({n_words} words)",
                    sentence.split_whitespace().take(5).collect::<Vec<_>>().join(" ")
                ),
                instead: format!("sentences of at most {} words", self.sentence_words_max),
                allowed_by: None,
            })
        });
        long.collect()
    }

    /// Exceptions that allow nothing, as text.
    pub(crate) fn unused(&self, used: &BTreeSet<ExceptionId>) -> Vec<String> {
        let mut unused = Vec::new();
        for (idx, pattern) in self.patterns.iter().enumerate() {
            for (number, Exception { file, excerpt, .. }) in pattern.allow.iter().enumerate() {
                if !used.contains(&(idx, number)) {
                    unused.push(format!("{file}: {excerpt}"));
                }
            }
        }
        unused
    }
}

impl Exception {
    /// Whether the match, a range of bytes of the passage, lies in the excerpt.
    fn allows(&self, file: &str, passage: &Passage, found: std::ops::Range<usize>) -> bool {
        let mut places = passage.text.match_indices(&self.excerpt);
        self.file == file
            && places.any(|(start, excerpt)| start <= found.start && found.end <= start + excerpt.len())
    }
}

/// The sentences of a passage with their byte offsets.
fn sentences(prose: &str) -> Vec<(usize, &str)> {
    static END: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"[.!?:][)"*_]*\s+"#).expect("the pattern is valid"));
    let mut sentences = Vec::new();
    let mut start = 0;
    for end in END.find_iter(prose) {
        sentences.push((start, &prose[start..end.end()]));
        start = end.end();
    }
    sentences.push((start, &prose[start..]));
    sentences
}

fn n_words(sentence: &str) -> usize {
    let is_word = |word: &&str| word.contains(|c: char| c.is_alphanumeric() || c == '_');
    sentence.split_whitespace().filter(is_word).count()
}

fn regex<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Regex, D::Error> {
    let pattern = String::deserialize(deserializer)?;
    RegexBuilder::new(&format!(r"\b{{start-half}}(?:{pattern})\b{{end-half}}"))
        .case_insensitive(true)
        .build()
        .map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::super::passages::{markdown, rust};
    use super::*;

    const RULES: &str = r#"
sentence_words_max = 6
[[pattern]]
pattern = "goes on"
instead = "continues"
example = "It goes on."
[[pattern.allow]]
file = "a.md"
excerpt = "the show goes on"
reason = "a proverb"
[[pattern]]
pattern = "^what"
instead = "the noun"
example = "What it does."
kinds = ["docs"]
[[pattern]]
pattern = "^(read|write)"
instead = "cannot read"
example = "read it"
kinds = ["context"]
"#;

    fn found(findings: &[Finding]) -> Vec<(usize, &str, bool)> {
        findings.iter().map(|it| (it.line, it.text.as_str(), it.allowed_by.is_some())).collect()
    }

    #[test]
    fn patterns_are_found_in_either_case_across_lines_and_not_in_code() {
        let rules = Rules::parse(RULES).unwrap();
        let document = "It\nGoes\non. `it goes on`, and\n\n```\ngoes on\n```\nVetoes on, goes only.\n";
        assert_eq!(found(&rules.check("b.md", &markdown(document))), [(2, "Goes on", false)]);
    }

    #[test]
    fn patterns_can_be_for_one_kind_of_passage() {
        let rules = Rules::parse(RULES).unwrap();
        let source =
            "/// What it is.\nfn f() { a.context(\"read it\")?; b(\"read it goes on\"); c(\"What\"); }\n";
        let findings = rules.check("b.rs", &rust(source).unwrap());
        assert_eq!(found(&findings), [(1, "What", false), (2, "read", false), (2, "goes on", false)]);
        assert_eq!(findings[1].to_string(), "b.rs:2: read -> cannot read");
    }

    #[test]
    fn long_sentences_of_documents_are_found() {
        let rules = Rules::parse(RULES).unwrap();
        let document = "One two three four five six. One two `three four`\nfive + six, seven.";
        assert_eq!(found(&rules.check("b.md", &markdown(document))), []);
        let document = "One two. One two three\nfour five six, seven.";
        let findings = rules.check("b.md", &markdown(document));
        assert_eq!(found(&findings), [(1, "One two three four five ... (7 words)", false)]);
    }

    #[test]
    fn an_exception_allows_its_passage_alone_and_is_reported_if_it_allows_nothing() {
        let rules = Rules::parse(RULES).unwrap();
        let findings = rules.check("a.md", &markdown("So the show goes on. It goes on."));
        assert_eq!(found(&findings), [(1, "goes on", true), (1, "goes on", false)]);
        let used: BTreeSet<_> = findings.iter().filter_map(|finding| finding.allowed_by).collect();
        assert_eq!(rules.unused(&used), [""; 0]);

        let findings = rules.check("b.md", &markdown("So the show goes on."));
        assert_eq!(found(&findings), [(1, "goes on", false)]);
        assert_eq!(rules.unused(&BTreeSet::new()), ["a.md: the show goes on"]);
    }

    #[test]
    fn an_exception_needs_a_reason_and_keys_are_checked() {
        let error = Rules::parse(&RULES.replace("a proverb", "")).unwrap_err().to_string();
        assert_eq!(error, "the exception `the show goes on` of a.md gives no reason");
        assert!(Rules::parse(&RULES.replace("instead", "in_place")).is_err());
        assert!(Rules::parse(&RULES.replace("goes on", "goes (on")).is_err());
    }

    #[test]
    fn every_pattern_of_the_project_matches_its_example() {
        let rules = Rules::parse(include_str!("../../prose.toml")).unwrap();
        assert!(!rules.patterns.is_empty());
        for Pattern { pattern, example, instead, .. } in &rules.patterns {
            assert!(pattern.is_match(example), "`{pattern}` does not match `{example}`");
            assert!(!pattern.is_match(instead), "`{pattern}` matches its own advice `{instead}`");
        }
    }
}
