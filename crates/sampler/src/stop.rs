//! Detection of stop strings in streamed text.

use std::cmp::Reverse;

/// Passes on text up to the first stop string, and holds back text that may be the start of one.
///
/// The first stop string is the one that ends first; if several end there, the longest. So the result does not depend
/// on how the text is split into pieces.
#[derive(Debug, Clone)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far that may be the start of a stop string.
    held: String,
}

impl StopStrings {
    /// No stop string may be empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Adds a piece of text. Returns the text that precedes any stop string, and the stop string if one is complete.
    pub(crate) fn push(&mut self, piece: &str) -> (String, Option<&str>) {
        self.held.push_str(piece);
        if let Some((start, idx)) = first_match(&self.held, &self.stops) {
            self.held.truncate(start);
            let text = self.finish();
            return (text, Some(&self.stops[idx]));
        }
        let decided = undecided_from(&self.held, &self.stops);
        let undecided = self.held.split_off(decided);
        (std::mem::replace(&mut self.held, undecided), None)
    }

    /// The text held back, at the end of the input.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The start of the first stop string in `text`, and its index.
fn first_match(text: &str, stops: &[String]) -> Option<(usize, usize)> {
    let starts = stops.iter().enumerate().filter_map(|(idx, stop)| Some((text.find(stop.as_str())?, idx)));
    starts.min_by_key(|&(start, idx)| (start + stops[idx].len(), Reverse(stops[idx].len())))
}

/// The first byte of the longest suffix of `text` that starts a stop string, or the length of `text`.
fn undecided_from(text: &str, stops: &[String]) -> usize {
    let mut starts = text.char_indices().map(|(start, _)| start);
    let begins_a_stop = |start: &usize| stops.iter().any(|stop| stop.starts_with(&text[*start..]));
    starts.find(begins_a_stop).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `expected` is the text passed on after each piece and at the end, with the stop string in brackets.
    fn check(stops: &[&str], pieces: &[&str], expected: &[&str]) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut matcher = StopStrings::new(stops.clone());
        let mut passed_on = Vec::new();
        for piece in pieces {
            let (text, stop) = matcher.push(piece);
            passed_on.push(stop.map_or_else(|| text.clone(), |stop| format!("{text}[{stop}]")));
        }
        passed_on.push(matcher.finish());
        assert_eq!(passed_on, expected, "{stops:?} in {pieces:?}");
    }

    #[test]
    fn without_stop_strings_text_is_passed_on_immediately() {
        check(&[], &["ab", "", "c"], &["ab", "", "c", ""]);
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        check(&["\nUser:"], &["Hi.\n", "Us", "er", ": x"], &["Hi.", "", "", "[\nUser:]", ""]);
    }

    #[test]
    fn an_incomplete_stop_string_is_passed_on() {
        check(&["\nUser:"], &["a\nUs", "ual"], &["a", "\nUsual", ""]);
        check(&["\nUser:"], &["a\nUs"], &["a", "\nUs"]);
    }

    #[test]
    fn a_stop_string_may_start_within_a_false_start() {
        check(&["aab"], &["a", "a", "a", "b"], &["", "", "a", "[aab]", ""]);
        check(&["aab"], &["aaab"], &["a[aab]", ""]);
        check(&["abab!"], &["ab", "ab", "ab", "!"], &["", "", "ab", "[abab!]", ""]);
    }

    #[test]
    fn the_stop_string_that_ends_first_wins_for_any_split() {
        let stops = ["abcd", "bc"];
        check(&stops, &["xabcd"], &["xa[bc]", ""]);
        check(&stops, &["xa", "b", "c"], &["x", "", "a[bc]", ""]);
        check(&["two", "one"], &["one two"], &["[one]", ""]);
        check(&["a", "ab"], &["xab"], &["x[a]", ""]);
    }

    #[test]
    fn the_longest_of_stop_strings_that_end_together_wins() {
        check(&["c", "bc", "zbc"], &["abc"], &["a[bc]", ""]);
    }

    #[test]
    fn multibyte_characters_are_never_split() {
        check(&["ωb"], &["αω", "ω", "b"], &["α", "ω", "[ωb]", ""]);
        check(&["é"], &["è", "é"], &["è", "[é]", ""]); // Both start with the same byte.
    }
}
