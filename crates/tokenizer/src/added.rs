//! Added tokens of the older pair of files, `vocab.json` and `merges.txt`, read as in `transformers`.
//!
//! `added_tokens.json` maps the added tokens to their ids; newer folders have `added_tokens_decoder` in
//! `tokenizer_config.json` instead. Keys such as `eos_token` in `special_tokens_map.json` and `tokenizer_config.json`
//! make a token special, also one of the vocabulary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer as Pipeline};

const ADDED: &str = "added_tokens.json";
const CONFIG: &str = "tokenizer_config.json";
const MAP: &str = "special_tokens_map.json";

/// The keys that name one special token.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// The keys that name several special tokens.
const LISTS: [&str; 2] = ["additional_special_tokens", "extra_special_tokens"];

/// Adds the tokens that the files in a folder name. An error has the file name and the reason.
pub(crate) fn add_tokens(pipeline: &mut Pipeline, folder: &Path) -> Result<(), (&'static str, String)> {
    let [added, config, map] = [ADDED, CONFIG, MAP].map(|name| read(folder, name));
    let (added, config, map) = (added?, config?, map?);
    let special: BTreeMap<String, AddedToken> = [&map, &config]
        .into_iter()
        .flat_map(special_tokens)
        .map(|token| (token.content.clone(), token))
        .collect();

    let mut by_id: BTreeMap<u64, AddedToken> = BTreeMap::new();
    for (text, id) in added.as_object().into_iter().flatten() {
        let Some(id) = id.as_u64() else {
            return Err((ADDED, format!("invalid id of token {text:?}: {id}")));
        };
        let is_special = special.contains_key(text);
        by_id.insert(id, AddedToken::from(text, is_special).normalized(!is_special));
    }
    for (id, token) in config["added_tokens_decoder"].as_object().into_iter().flatten() {
        let Some((id, token)) = id.parse().ok().zip(parse_token(token, false)) else {
            return Err((
                CONFIG,
                format!("invalid entry {id:?} in `added_tokens_decoder`; expected an id and a token"),
            ));
        };
        by_id.insert(id, token);
    }
    let file = if config["added_tokens_decoder"].is_object() { CONFIG } else { ADDED };
    let known: BTreeSet<String> = by_id.values().map(|token| token.content.clone()).collect();
    for (id, token) in by_id {
        let text = token.content.clone();
        add(pipeline, token).map_err(|reason| (file, reason))?;
        let found = pipeline.token_to_id(&text);
        if found.map(u64::from) != Some(id) {
            let next = found.map_or_else(|| "none".to_owned(), |id| id.to_string());
            return Err((file, format!("token {text:?} has the id {id}, but the next free id is {next}")));
        }
    }
    // Tokens outside the vocabulary are skipped: `transformers` would give them ids beyond the model's embedding.
    for (text, token) in special {
        if !known.contains(&text) && pipeline.token_to_id(&text).is_some() {
            add(pipeline, token).map_err(|reason| (CONFIG, reason))?;
        }
    }
    Ok(())
}

fn add(pipeline: &mut Pipeline, token: AddedToken) -> Result<(), String> {
    let added =
        if token.special { pipeline.add_special_tokens([token]) } else { pipeline.add_tokens([token]) };
    added.map(|_| ()).map_err(|error| error.to_string())
}

/// Reads a JSON file; null if it is missing.
fn read(folder: &Path, name: &'static str) -> Result<Value, (&'static str, String)> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => serde_json::from_str(&text).map_err(|error| (name, error.to_string())),
        Err(_) => Ok(Value::Null),
    }
}

fn special_tokens(file: &Value) -> Vec<AddedToken> {
    let named = NAMED.iter().map(|&key| &file[key]);
    let listed = LISTS.iter().filter_map(|&key| file[key].as_array()).flatten();
    named.chain(listed).filter_map(|token| parse_token(token, true)).collect()
}

/// Parses a token: its text, or an object with its text and flags.
fn parse_token(value: &Value, is_special: bool) -> Option<AddedToken> {
    let flag = |key: &str, default: bool| value[key].as_bool().unwrap_or(default);
    let text = value.as_str().or(value["content"].as_str())?;
    let is_special = flag("special", is_special);
    let token = AddedToken::from(text, is_special)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(flag("normalized", !is_special));
    (!text.is_empty()).then_some(token)
}
