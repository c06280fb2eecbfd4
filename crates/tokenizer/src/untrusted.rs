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
    check_charsmaps(file)
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

/// A merge in either of its spellings; what is neither, the library refuses.
fn pair(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(merge) => merge.split_once(' '),
        merge => merge[0].as_str().zip(merge[1].as_str()),
    }
}

/// Refuses a table of characters, wherever it is, that has not the length it begins with.
fn check_charsmaps(part: &Value) -> Result<(), String> {
    match part {
        Value::Array(parts) => parts.iter().try_for_each(check_charsmaps),
        Value::Object(parts) => parts.iter().try_for_each(|(key, part)| match part {
            Value::String(table) if key == "precompiled_charsmap" => check_charsmap(table),
            part => check_charsmaps(part),
        }),
        _ => Ok(()),
    }
}

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
