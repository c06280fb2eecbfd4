//! Prose in Markdown documents and Rust sources, by paragraph.

use anyhow::anyhow;
use proc_macro2::{Delimiter, Group, Literal, TokenStream, TokenTree};
use serde::Deserialize;
use syn::Lit;

/// The source of a passage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Markdown,
    Docs,
    String,
    /// A string literal in `.context(...)` or `.with_context(...)`.
    Context,
}

/// A paragraph, list item, heading, table cell or string literal, as one line of text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Passage {
    pub(crate) kind: Kind,
    pub(crate) text: String,
    /// Byte offset in `text` and line number in the file, for each source line of the passage.
    lines: Vec<(usize, usize)>,
}

impl Passage {
    fn new(kind: Kind, line: usize, text: &str) -> Self {
        Self { kind, text: text.to_owned(), lines: vec![(0, line)] }
    }

    fn push(&mut self, line: usize, text: &str) {
        self.text.push(' ');
        self.lines.push((self.text.len(), line));
        self.text.push_str(text);
    }

    /// The line of the file for a byte offset in `text`.
    pub(crate) fn line_at(&self, offset: usize) -> usize {
        let before = self.lines.iter().take_while(|(start, _)| *start <= offset);
        before.last().map_or(0, |(_, line)| *line)
    }

    /// The text with code spans blanked, at unchanged byte offsets.
    pub(crate) fn prose(&self) -> String {
        if matches!(self.kind, Kind::String | Kind::Context) {
            return self.text.clone();
        }
        let parts = self.text.split('`').enumerate();
        let last = self.text.matches('`').count();
        // A backtick without its pair opens no span.
        let is_code = |idx: usize| idx % 2 == 1 && idx < last;
        let blank =
            |(idx, part): (usize, &str)| if is_code(idx) { "_".repeat(part.len()) } else { part.to_owned() };
        parts.map(blank).collect::<Vec<_>>().join("_")
    }
}

/// The passages of a Markdown document.
pub(crate) fn markdown(text: &str) -> Vec<Passage> {
    paragraphs(Kind::Markdown, text.lines().enumerate().map(|(idx, line)| (idx + 1, line)))
}

/// Splits numbered lines of Markdown at blank lines, list items, headings and table cells, and skips fenced code blocks.
fn paragraphs<'a>(kind: Kind, lines: impl IntoIterator<Item = (usize, &'a str)>) -> Vec<Passage> {
    let mut passages: Vec<Passage> = Vec::new();
    let mut is_open = false;
    let mut fence = None;
    for (number, line) in lines {
        let line = line.trim();
        if let Some(marker) = fence {
            if line.starts_with(marker) {
                fence = None;
            }
            continue;
        }
        fence = ["```", "~~~"].into_iter().find(|marker| line.starts_with(marker));
        if fence.is_some() || line.is_empty() {
            is_open = false;
        } else if line.starts_with('|') {
            let row = Passage::new(kind, number, line).prose();
            let mut start = 0;
            for cell in row.split('|') {
                let text = &line[start..start + cell.len()];
                start += cell.len() + 1;
                if !text.trim().is_empty() {
                    passages.push(Passage::new(kind, number, text.trim()));
                }
            }
            is_open = false;
        } else {
            let content = without_marker(line);
            match passages.last_mut().filter(|_| is_open && content.len() == line.len()) {
                Some(passage) => passage.push(number, line),
                None => passages.push(Passage::new(kind, number, content)),
            }
            is_open = !line.starts_with('#');
        }
    }
    passages
}

/// A line without the marker of a heading, a quotation or a list item.
fn without_marker(line: &str) -> &str {
    let content = line.trim_start_matches(['#', '>']).trim_start();
    if content.len() < line.len() {
        return content;
    }
    let digits = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let item = ["- ", "* ", "+ "].into_iter().find_map(|marker| line.strip_prefix(marker));
    let numbered = digits.strip_prefix(". ").filter(|_| digits.len() < line.len());
    item.or(numbered).map_or(line, str::trim_start)
}

/// The doc comments and string literals of a source file, except those of `#[cfg(test)]` items.
pub(crate) fn rust(source: &str) -> anyhow::Result<Vec<Passage>> {
    // LexError is neither Send nor Sync, so anyhow cannot keep it as the source.
    let tokens: TokenStream = source.parse().map_err(|error| anyhow!("{error}"))?;
    let mut reader = Reader { next_string: Kind::String, docs: Vec::new(), passages: Vec::new() };
    reader.read(tokens);
    reader.end_docs();
    Ok(reader.passages)
}

struct Reader {
    next_string: Kind,
    /// The doc comment being read: line numbers and lines.
    docs: Vec<(usize, String)>,
    passages: Vec<Passage>,
}

impl Reader {
    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        while let Some((token, after)) = rest.split_first() {
            rest = match attribute(rest) {
                Some((group, after)) if is_test(group) => skip_item(after),
                Some((group, after)) => {
                    if !self.read_doc(group) {
                        self.end_docs();
                        self.read(group.stream());
                    }
                    after
                }
                None => {
                    self.end_docs();
                    self.read_token(token, after)
                }
            };
        }
    }

    /// Reads one token, and the arguments after it if it names an error context. Returns the rest of `after`.
    fn read_token<'a>(&mut self, token: &TokenTree, after: &'a [TokenTree]) -> &'a [TokenTree] {
        match (token, after) {
            (TokenTree::Ident(name), [TokenTree::Group(arguments), after @ ..])
                if name == "context" || name == "with_context" =>
            {
                self.next_string = Kind::Context;
                self.read(arguments.stream());
                self.next_string = Kind::String;
                after
            }
            (TokenTree::Group(group), after) => {
                self.read(group.stream());
                after
            }
            (TokenTree::Literal(literal), after) => {
                self.read_string(literal);
                after
            }
            (_, after) => after,
        }
    }

    fn read_string(&mut self, literal: &Literal) {
        if let Lit::Str(string) = Lit::new(literal.clone()) {
            let text = string.value().replace('\n', " ");
            let line = literal.span().start().line;
            self.passages.push(Passage::new(self.next_string, line, &text));
            self.next_string = Kind::String;
        }
    }

    /// Reads the text of `[doc = "..."]`. False if the attribute is another one.
    fn read_doc(&mut self, attribute: &Group) -> bool {
        let tokens: Vec<TokenTree> = attribute.stream().into_iter().collect();
        let [TokenTree::Ident(name), TokenTree::Punct(_), TokenTree::Literal(literal)] = tokens.as_slice()
        else {
            return false;
        };
        let Lit::Str(text) = Lit::new(literal.clone()) else { return false };
        if name != "doc" {
            return false;
        }
        let line = literal.span().start().line;
        // Lines that do not follow each other belong to different comments, such as `//!` and `///`.
        if self.docs.last().is_some_and(|(last, _)| *last + 1 != line) {
            self.end_docs();
        }
        self.docs.extend(text.value().lines().enumerate().map(|(idx, text)| (line + idx, text.to_owned())));
        // An empty line of a comment has no lines of text, and still ends a paragraph.
        if text.value().is_empty() {
            self.docs.push((line, String::new()));
        }
        true
    }

    fn end_docs(&mut self) {
        let docs = std::mem::take(&mut self.docs);
        self.passages.extend(paragraphs(Kind::Docs, docs.iter().map(|(line, text)| (*line, text.as_str()))));
    }
}

/// The brackets of an attribute that `tokens` begin with, and the tokens after it.
fn attribute(tokens: &[TokenTree]) -> Option<(&Group, &[TokenTree])> {
    let (TokenTree::Punct(hash), after) = tokens.split_first()? else { return None };
    let after = match after {
        [TokenTree::Punct(bang), after @ ..] if bang.as_char() == '!' => after,
        after => after,
    };
    match after {
        [TokenTree::Group(group), after @ ..]
            if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
        {
            Some((group, after))
        }
        _ => None,
    }
}

/// Whether an attribute is `cfg(test)` or `cfg(all(test, ...))`.
fn is_test(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text.starts_with("cfg(all(test,")
}

/// The tokens after an item: it ends with a semicolon or with its braces.
fn skip_item(tokens: &[TokenTree]) -> &[TokenTree] {
    let ends = |token: &TokenTree| match token {
        TokenTree::Punct(punct) => punct.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    tokens.iter().position(ends).map_or(&[], |end| &tokens[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(passages: &[Passage]) -> Vec<(Kind, usize, &str)> {
        passages.iter().map(|passage| (passage.kind, passage.line_at(0), passage.text.as_str())).collect()
    }

    #[test]
    fn markdown_is_split_into_paragraphs_items_cells_and_headings_without_code_blocks() {
        let text = "# Title\nOne\ntwo\n\n- a\n  b\n- c\n1. d\n```sh\ncode | x\n```\nafter\n| e | `f|g` |\n|---|---|\n";
        let passages = markdown(text);
        let expected = [
            (1, "Title"),
            (2, "One two"),
            (5, "a b"),
            (7, "c"),
            (8, "d"),
            (12, "after"),
            (13, "e"),
            (13, "`f|g`"),
            (14, "---"),
            (14, "---"),
        ];
        assert_eq!(texts(&passages), expected.map(|(line, text)| (Kind::Markdown, line, text)));
        assert_eq!((passages[1].line_at(2), passages[1].line_at(4)), (2, 3));
    }

    #[test]
    fn code_spans_are_blanked_in_place() {
        let prose = |text: &str| Passage::new(Kind::Docs, 1, text).prose();
        assert_eq!(prose("a `b c` d"), "a _____ d");
        assert_eq!(prose("`ü` é"), "____ é");
        assert_eq!(prose("no ` pair"), "no _ pair");
    }

    #[test]
    fn doc_comments_strings_and_contexts_are_read_and_tests_are_not() {
        let source = r##"
//! Module
//! docs.

/// First.
///
/// Second
/// paragraph.
/// ```
/// code();
/// ```
#[command(after_help = "help \"quoted\"")]
fn f() {
    println!("in {} a macro", r#"raw"#);
    file.context("cannot read it")?;
    file.with_context(|| format!("cannot open {}", "x"))?;
    b"bytes";
}
#[cfg(test)]
use a::{b, c};
#[cfg(all(test, unix))]
mod tests {
    const X: &str = "hidden";
}
const Y: &str = "shown";
"##;
        let passages = rust(source).unwrap();
        let expected = [
            (Kind::Docs, 2, "Module docs."),
            (Kind::Docs, 5, "First."),
            (Kind::Docs, 7, "Second paragraph."),
            (Kind::String, 12, "help \"quoted\""),
            (Kind::String, 14, "in {} a macro"),
            (Kind::String, 14, "raw"),
            (Kind::Context, 15, "cannot read it"),
            (Kind::Context, 16, "cannot open {}"),
            (Kind::String, 16, "x"),
            (Kind::String, 25, "shown"),
        ];
        assert_eq!(texts(&passages), expected);
        assert_eq!(passages[2].line_at("Second p".len()), 8);
    }
}
