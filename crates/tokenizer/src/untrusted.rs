//! What stands between a file of anyone's and the `tokenizers` library.
//!
//! The library trusts its files: it panics at some, and asks for memory that others promise to fill. What can be
//! checked is checked before it sees the file ([`check`]), and a panic that is left becomes an error
//! ([`without_panic`]).

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Refuses what the library would panic at, or take too much memory for.
pub(crate) fn check(file: &Value) -> Result<(), String> {
    let model = &file["model"];
    if let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) {
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
        check_merges(prefix, &vocab.keys().map(String::as_str).collect(), merges.iter().filter_map(pair))?;
    }
    let mut weight = 0_usize;
    for_each_text(file, &mut |key, text| match key {
        "precompiled_charsmap" => check_charsmap(text),
        "Regex" => {
            weight = weight.saturating_add(text.len().saturating_mul(repetitions(text)));
            if weight <= MAX_PATTERNS {
                return Ok(());
            }
            let start: String = text.chars().take(60).collect();
            Err(format!("its patterns would take too much memory; the one too many begins with {start:?}"))
        }
        _ => Ok(()),
    })
}

/// The most bytes of regular expressions, each as often as it repeats. A byte may take 20 KB when it is compiled, and
/// the patterns of published tokenizers are a fifth of this.
const MAX_PATTERNS: usize = 1 << 13;

/// How often a part of a pattern may be laid out: the product of its counted repetitions, such as `{1,3}`.
fn repetitions(pattern: &str) -> usize {
    let mut product = 1_usize;
    for (place, _) in pattern.match_indices('{') {
        // A character by its number is none.
        if ["\\x", "\\u", "\\U"].iter().any(|escape| pattern[..place].ends_with(escape)) {
            continue;
        }
        let Some((counts, _)) = pattern[place + 1..].split_once('}') else { continue };
        let counts = counts.split(',').filter_map(|count| count.trim().parse::<usize>().ok());
        product = product.saturating_mul(counts.max().unwrap_or(1).max(1));
    }
    product
}

/// Refuses a merge that makes no token. The parts after the first of a word begin with `prefix`, which is no part of
/// what they stand for.
pub(crate) fn check_merges<'a>(
    prefix: &str,
    vocab: &HashSet<&str>,
    merges: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), String> {
    let mut merged = String::new();
    for (left, right) in merges {
        let Some(rest) = right.strip_prefix(prefix) else {
            return Err(format!("the merge of {left:?} and {right:?} lacks the prefix {prefix:?}"));
        };
        merged.clear();
        merged.extend([left, rest]);
        if !vocab.contains(merged.as_str()) {
            return Err(format!("the merge of {left:?} and {right:?} makes {merged:?}, which is no token"));
        }
    }
    Ok(())
}

/// A merge in either of its spellings. What is neither, the library refuses, or passes over if it is a version.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(version) if version.starts_with("#version") => None,
        Value::String(merge) => merge.split_once(' '),
        merge => merge[0].as_str().zip(merge[1].as_str()),
    }
}

/// Calls `check` with each text that is an object's value, wherever that is, and its key.
fn for_each_text(
    part: &Value,
    check: &mut impl FnMut(&str, &str) -> Result<(), String>,
) -> Result<(), String> {
    match part {
        Value::Array(parts) => parts.iter().try_for_each(|part| for_each_text(part, check)),
        Value::Object(parts) => parts.iter().try_for_each(|(key, part)| match part {
            Value::String(text) => check(key, text),
            part => for_each_text(part, check),
        }),
        _ => Ok(()),
    }
}

/// Refuses a table of characters that has not the length it begins with.
fn check_charsmap(table: &str) -> Result<(), String> {
    let bytes = BASE64_STANDARD.decode(table).map_err(|error| format!("precompiled_charsmap: {error}"))?;
    match bytes.split_first_chunk() {
        Some((length, rest)) if u32::from_le_bytes(*length) as usize <= rest.len() => Ok(()),
        _ => Err("precompiled_charsmap is cut short".to_owned()),
    }
}

/// Calls the library; its panic is an error.
///
/// Nothing of a value that was being changed is used afterwards, or it is a cache behind a lock of its own.
pub(crate) fn without_panic<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, tokenizers::Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let reason = message(&*panic).unwrap_or("no reason given");
        Err(format!("the tokenizers library cannot work with it: {reason}").into())
    })
}

fn message(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_repetitions_are_multiplied() {
        for (pattern, expected) in [
            (r"\p{L}+|\p{N}{1,3}| ?[^\s]+", 3),
            (r"((a{50}){20,}){2,4}", 4000),
            (r"[\x{3040}-\u{3100}]{2}", 2),
            ("a{0}b{", 1),
            ("a{99999999999999999999}", 1),
        ] {
            assert_eq!(repetitions(pattern), expected, "{pattern}");
        }
    }
}
