//! Methods of Python strings that `minijinja-contrib` lacks or runs otherwise.

use minijinja::{Error, ErrorKind, State, Value, value::from_args};
use minijinja_contrib::pycompat;

use crate::fuel::BYTES_PER_FUEL;

const OWN: [&str; 6] = ["title", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix"];

/// Calls a method of a string, list or dictionary.
pub(crate) fn call(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let text = value.as_str().filter(|_| OWN.contains(&method));
    state.consume_fuel(text.map_or(0, str::len) as u64 / BYTES_PER_FUEL)?;
    match (text, method) {
        (Some(text), "rsplit") => rsplit(text, args),
        (Some(text), "partition" | "rpartition") => partition(text, method, args),
        (Some(text), "removeprefix") => {
            let (prefix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)))
        }
        (Some(text), "removesuffix") => {
            let (suffix,): (&str,) = from_args(args)?;
            Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)))
        }
        (Some(text), "title") => {
            let () = from_args(args)?;
            Ok(Value::from(title(text)))
        }
        _ => pycompat::unknown_method_callback(state, value, method, args),
    }
}

/// `str.title`: every letter after a letter is lower case, and every other one upper case.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut is_after_letter = false;
    for c in text.chars() {
        match is_after_letter {
            true => titled.extend(c.to_lowercase()),
            false => titled.extend(c.to_uppercase()),
        }
        is_after_letter = c.is_uppercase() || c.is_lowercase();
    }
    titled
}

/// `str.rsplit`: splits at a separator, or between words, at most a number of times from the end.
fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, n_splits_max): (Option<&str>, Option<i64>) = from_args(args)?;
    let n_splits_max = n_splits_max.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX - 1);
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "rsplit: empty separator")),
        Some(separator) => text.rsplitn(n_splits_max + 1, separator).collect(),
        None => rsplit_words(text, n_splits_max),
    };
    parts.reverse();
    Ok(parts.into_iter().collect())
}

/// The last words of a text, the last one first, and the text before them.
fn rsplit_words(text: &str, n_words_max: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() && words.len() < n_words_max {
        let start = rest
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + rest[space..].chars().next().map_or(0, char::len_utf8));
        words.push(&rest[start..]);
        rest = rest[..start].trim_end();
    }
    words.extend(Some(rest).filter(|rest| !rest.is_empty()));
    words
}

/// `str.partition` and `str.rpartition`: the text before a separator, the separator, and the text after it.
fn partition(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    let (split, otherwise) = match method {
        "partition" => (text.split_once(separator), [text, "", ""]),
        _ => (text.rsplit_once(separator), ["", "", text]),
    };
    let parts = split.map_or(otherwise, |(before, after)| [before, separator, after]);
    Ok(Value::from(parts.map(Value::from).to_vec()))
}
