//! The JSON values of one file, with their lines.

use std::io::{self, BufRead};

use serde_json::Value;

use crate::Flaw;

/// Reads the rows of a file.
pub(crate) struct Rows<R> {
    source: R,
    /// The number of lines read.
    n_lines: usize,
    /// The line being read.
    buffer: Vec<u8>,
    state: State,
}

enum State {
    /// Before the first row.
    Start,
    Lines,
    /// In a list: its text, the position after the last row, and the line there.
    List {
        text: String,
        position: usize,
        line: usize,
    },
    End,
}

/// A row and its line, from 1.
pub(crate) type Row = (usize, Result<Value, Flaw>);

impl<R: BufRead> Rows<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, n_lines: 0, buffer: Vec::new(), state: State::Start }
    }

    /// The next row. `on_bytes` receives all bytes read.
    pub(crate) fn next(&mut self, mut on_bytes: impl FnMut(&[u8])) -> io::Result<Option<Row>> {
        loop {
            match &mut self.state {
                State::End => return Ok(None),
                State::List { text, position, line } => {
                    let row = next_of_list(text, position, line);
                    if !matches!(row, Some((_, Ok(_)))) {
                        self.state = State::End;
                    }
                    return Ok(row);
                }
                State::Start | State::Lines => {}
            }
            self.buffer.clear();
            if self.source.read_until(b'\n', &mut self.buffer)? == 0 {
                self.state = State::End;
                continue;
            }
            on_bytes(&self.buffer);
            self.n_lines += 1;
            let line = match self.buffer.strip_prefix(b"\xEF\xBB\xBF") {
                Some(rest) if self.n_lines == 1 => rest,
                _ => &self.buffer[..],
            };
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            if matches!(self.state, State::Start) && line[0] == b'[' {
                let mut text = line[1..].to_vec();
                text.push(b'\n');
                let start = text.len();
                self.source.read_to_end(&mut text)?;
                on_bytes(&text[start..]);
                let Ok(text) = String::from_utf8(text) else {
                    self.state = State::End;
                    return Ok(Some((self.n_lines, Err(Flaw::NotUtf8))));
                };
                self.state = State::List { text, position: 0, line: self.n_lines };
                continue;
            }
            self.state = State::Lines;
            return Ok(Some((self.n_lines, parse_line(line))));
        }
    }
}

fn parse_line(line: &[u8]) -> Result<Value, Flaw> {
    let text = str::from_utf8(line).map_err(|_| Flaw::NotUtf8)?;
    serde_json::from_str(text).map_err(|error| invalid(&error))
}

/// The next value of a list whose text starts after its `[`; `None` after its `]`.
fn next_of_list(text: &str, position: &mut usize, line: &mut usize) -> Option<Row> {
    let is_first = *position == 0;
    skip_space(text, position, line);
    match text[*position..].chars().next() {
        Some(']') => {
            *position += 1;
            skip_space(text, position, line);
            let rest = text[*position..].chars().next();
            return rest.map(|found| (*line, Err(Flaw::ListEnd { found })));
        }
        Some(',') if !is_first => {
            *position += 1;
            skip_space(text, position, line);
        }
        Some(found) if !is_first => return Some((*line, Err(Flaw::NoComma { found }))),
        _ => {}
    }
    let rest = &text[*position..];
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let row = match values.next() {
        Some(Ok(value)) => (*line, Ok(value)),
        Some(Err(error)) => (*line + error.line() - 1, Err(invalid(&error))),
        None => (*line, Err(Flaw::Json { column: 1, message: "the list has no `]` at its end".to_owned() })),
    };
    let n_bytes = values.byte_offset();
    *line += n_line_breaks(&rest[..n_bytes]);
    *position += n_bytes;
    Some(row)
}

fn skip_space(text: &str, position: &mut usize, line: &mut usize) {
    let rest = &text[*position..];
    let n_bytes = rest.len() - rest.trim_start().len();
    *line += n_line_breaks(&rest[..n_bytes]);
    *position += n_bytes;
}

fn n_line_breaks(text: &str) -> usize {
    text.bytes().filter(|&byte| byte == b'\n').count()
}

/// The error without the line, which is that of the excerpt.
fn invalid(error: &serde_json::Error) -> Flaw {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    Flaw::Json { column: error.column(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<(usize, String)> {
        let mut rows = Rows::new(text.as_bytes());
        let mut bytes = Vec::new();
        let mut found = Vec::new();
        while let Some((line, row)) = rows.next(|read| bytes.extend_from_slice(read)).unwrap() {
            found.push((line, row.map_or_else(|flaw| format!("! {flaw}"), |value| value.to_string())));
        }
        if !text.starts_with(['[', ' ']) {
            assert_eq!(bytes, text.as_bytes());
        }
        found
    }

    fn pairs(rows: &[(usize, &str)]) -> Vec<(usize, String)> {
        rows.iter().map(|&(line, row)| (line, row.to_owned())).collect()
    }

    #[test]
    fn lines_have_numbers_and_empty_ones_are_skipped() {
        assert_eq!(rows("\u{FEFF}{}\r\n\n  \r\n[1]\n2"), pairs(&[(1, "{}"), (4, "[1]"), (5, "2")]));
        assert_eq!(rows(""), []);
        assert_eq!(rows("\n\n"), []);
    }

    #[test]
    fn an_invalid_line_does_not_hide_the_next_one() {
        let found = rows("{\"a\": 1,}\n{}\n{\n{}");
        assert_eq!((found[0].0, found[1].clone(), found[3].clone()), (1, (2, "{}".into()), (4, "{}".into())));
        assert!(found[0].1.starts_with("! invalid JSON at column 9: "), "{found:?}");
        assert!(found[2].1.contains("EOF while parsing"), "{found:?}");
    }

    #[test]
    fn the_values_of_a_list_have_their_lines() {
        assert_eq!(
            rows(" [1,\n 2,\n\n {\"a\":\n 3}\n, 4]\n"),
            pairs(&[(1, "1"), (2, "2"), (4, "{\"a\":3}"), (6, "4")])
        );
        assert_eq!(rows("[]"), []);
        assert_eq!(rows("[\n]\n"), []);
    }

    #[test]
    fn an_invalid_list_is_refused_at_its_line() {
        for (text, line, part) in [
            ("[1,\n{\"a\":\n1 2}]", 3, "invalid JSON at column 3"),
            ("[1\n", 2, "no `]`"),
            ("[{}\n{}]", 2, "expected `,` or `]` before '{'"),
            ("[{}, {}\n\n\"a\"]", 3, "expected `,` or `]` before '\"'"),
            ("[\n, {}]", 2, "invalid JSON at column 1"),
            ("[{},\n]", 2, "invalid JSON at column 1"),
            ("[1]\n{}", 2, "followed by '{'"),
            ("[1]\n[2]", 2, "followed by '['"),
        ] {
            let found = rows(text);
            let (at, flaw) = found.last().unwrap();
            assert!(*at == line && flaw.contains(part), "{text}: {found:?}");
        }
    }
}
