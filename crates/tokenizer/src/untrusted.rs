//! Protects the `tokenizers` library from untrusted files.
//!
//! The library trusts its files: invalid ones make it panic or allocate too much memory. [`check`] tests a file before
//! the library reads it, and [`without_panic`] turns remaining panics into errors.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// Refuses files with which the library would panic or allocate too much memory.
pub(crate) fn check(file: &Value) -> Result<(), String> {
    let model = &file["model"];
    if let (Some(vocab), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) {
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or_default();
        check_merges(prefix, |token| vocab.contains_key(token), merges.iter().filter_map(pair))?;
    }
    let mut weight = 0_usize;
    for_each_text(file, &mut |key, text| match key {
        "precompiled_charsmap" => check_charsmap(text),
        "Regex" => {
            weight = weight.saturating_add(text.len().saturating_mul(repetitions(text)));
            if weight <= MAX_PATTERN_BYTES {
                return Ok(());
            }
            let start: String = text.chars().take(60).collect();
            Err(format!("its patterns would take too much memory; the limit is exceeded by {start:?}"))
        }
        _ => Ok(()),
    })
}

/// Maximum size of all regular expressions in bytes, multiplied by their repetitions. A byte may take 20 KB when
/// compiled; published tokenizers have a fifth of this.
const MAX_PATTERN_BYTES: usize = 1 << 13;

/// How often a part of a pattern may be repeated when compiled: the product of repetitions such as `{1,3}`.
fn repetitions(pattern: &str) -> usize {
    let mut product = 1_usize;
    for (idx, _) in pattern.match_indices('{') {
        // Not a repetition but a character code.
        if ["\\x", "\\u", "\\U"].iter().any(|escape| pattern[..idx].ends_with(escape)) {
            continue;
        }
        let Some((counts, _)) = pattern[idx + 1..].split_once('}') else { continue };
        let counts = counts.split(',').filter_map(|count| count.trim().parse::<usize>().ok());
        product = product.saturating_mul(counts.max().unwrap_or(1).max(1));
    }
    product
}

/// Refuses a merge whose result is not a token. `prefix` is the `continuing_subword_prefix` of the right half, which
/// the result drops.
pub(crate) fn check_merges<'a>(
    prefix: &str,
    is_token: impl Fn(&str) -> bool,
    merges: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), String> {
    let mut merged = String::new();
    for (left, right) in merges {
        let Some(rest) = right.strip_prefix(prefix) else {
            return Err(format!("the merge of {left:?} and {right:?} lacks the prefix {prefix:?}"));
        };
        merged.clear();
        merged.extend([left, rest]);
        if !is_token(&merged) {
            return Err(format!(
                "the merge of {left:?} and {right:?} makes {merged:?}, which is not a token"
            ));
        }
    }
    Ok(())
}

/// A merge, written as `"a b"` or `["a", "b"]`. `None` for a version line, and for others, which the library refuses.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(version) if version.starts_with("#version") => None,
        Value::String(merge) => merge.split_once(' '),
        merge => merge[0].as_str().zip(merge[1].as_str()),
    }
}

/// Calls `check` with the key and value of each string in an object, at any depth.
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

/// Refuses a character map that is shorter than its length field says.
fn check_charsmap(table: &str) -> Result<(), String> {
    let bytes = BASE64_STANDARD.decode(table).map_err(|error| format!("precompiled_charsmap: {error}"))?;
    match bytes.split_first_chunk() {
        Some((length, rest)) if u32::from_le_bytes(*length) as usize <= rest.len() => Ok(()),
        _ => Err("precompiled_charsmap is truncated".to_owned()),
    }
}

/// Calls the library and turns a panic into an error.
///
/// `AssertUnwindSafe` is sound: values that a call changes are not used after a panic, or they are caches behind a
/// lock.
pub(crate) fn without_panic<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, tokenizers::Error> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let reason = panic_message(&*panic).unwrap_or("no reason given");
        Err(format!("the tokenizers library failed: {reason}").into())
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> Option<&str> {
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
