//! Stop strings in text that arrives in pieces.

use std::cmp::Reverse;

/// Passes text on up to the first stop string, and holds back what may be the beginning of one.
///
/// The first is the one whose last character comes first; of several that end there, the longest. So
/// the result does not depend on how the text was cut into pieces.
#[derive(Debug, Clone)]
pub(crate) struct StopStrings {
    stops: Vec<String>,
    /// The end of the text so far, if a stop string may begin there.
    held: String,
}

impl StopStrings {
    /// Looks for any of `stops`, none of which is empty.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new() }
    }

    /// Takes the next piece of text. Gives the text that is now known to come before any stop string, and
    /// the stop string if one is complete.
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

    /// The text held back, once it is known that nothing follows it.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Where the first stop string starts, and its index.
fn first_match(text: &str, stops: &[String]) -> Option<(usize, usize)> {
    let starts = stops.iter().enumerate().filter_map(|(idx, stop)| Some((text.find(stop.as_str())?, idx)));
    starts.min_by_key(|&(start, idx)| (start + stops[idx].len(), Reverse(stops[idx].len())))
}

/// The first byte from which on `text` is the beginning of a stop string; its length if there is none.
fn undecided_from(text: &str, stops: &[String]) -> usize {
    let mut starts = text.char_indices().map(|(start, _)| start);
    let begins_a_stop = |start: &usize| stops.iter().any(|stop| stop.starts_with(&text[*start..]));
    starts.find(begins_a_stop).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the pieces and gives what was passed on after each, with the stop string in brackets.
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
    fn without_stop_strings_all_passes_at_once() {
        check(&[], &["ab", "", "c"], &["ab", "", "c", ""]);
    }

    #[test]
    fn a_stop_string_is_found_across_pieces() {
        check(&["\nUser:"], &["Hi.\n", "Us", "er", ": x"], &["Hi.", "", "", "[\nUser:]", ""]);
    }

    #[test]
    fn what_only_began_like_a_stop_string_is_passed_on() {
        check(&["\nUser:"], &["a\nUs", "ual"], &["a", "\nUsual", ""]);
        check(&["\nUser:"], &["a\nUs"], &["a", "\nUs"]);
    }

    #[test]
    fn a_stop_string_may_begin_within_a_false_beginning() {
        check(&["aab"], &["a", "a", "a", "b"], &["", "", "a", "[aab]", ""]);
        check(&["aab"], &["aaab"], &["a[aab]", ""]);
        check(&["abab!"], &["ab", "ab", "ab", "!"], &["", "", "ab", "[abab!]", ""]);
    }

    #[test]
    fn the_stop_string_complete_first_wins_however_the_text_is_cut() {
        let stops = ["abcd", "bc"];
        check(&stops, &["xabcd"], &["xa[bc]", ""]);
        check(&stops, &["xa", "b", "c"], &["x", "", "a[bc]", ""]);
        check(&["two", "one"], &["one two"], &["[one]", ""]);
        check(&["a", "ab"], &["xab"], &["x[a]", ""]);
    }

    #[test]
    fn of_stop_strings_that_end_together_the_longest_wins() {
        check(&["c", "bc", "zbc"], &["abc"], &["a[bc]", ""]);
    }

    #[test]
    fn characters_of_several_bytes_are_never_cut() {
        check(&["ωb"], &["αω", "ω", "b"], &["α", "ω", "[ωb]", ""]);
        check(&["é"], &["è", "é"], &["è", "[é]", ""]); // The first bytes are equal.
    }
}
