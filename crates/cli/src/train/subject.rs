//! Classifies the positional argument of `train`: a recipe, a text, or with `--resume` a run.

use std::{fs, path::Path};

use dataset::{Corpus, is_stream};
use trainer::preset;

/// Larger files are texts, whatever their contents.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Recipe,
    Text,
}

impl Subject {
    /// Presets, .toml files and files with sections of a recipe are recipes. Other files, folders, URLs, known corpora,
    /// standard input and pipes are texts. An unknown name counts as a recipe.
    pub(super) fn of(argument: &str) -> Self {
        let path = Path::new(argument);
        let is_named_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if preset(argument).is_some() || is_named_toml {
            return Self::Recipe;
        }
        if is_stream(path) {
            return Self::Text; // Reading from a stream would consume it.
        }
        let is_text = match fs::metadata(path) {
            Ok(found) => found.is_dir() || found.len() > MAX_RECIPE_BYTES || !has_sections(path),
            Err(_) => may_be_text(argument, path),
        };
        if is_text { Self::Text } else { Self::Recipe }
    }
}

/// Whether a file is TOML with at least one section of a recipe.
fn has_sections(path: &Path) -> bool {
    let table: Option<toml::Table> = fs::read_to_string(path).ok().and_then(|text| text.parse().ok());
    table.is_some_and(|table| {
        ["model", "data", "optimizer", "schedule"].iter().any(|it| table.contains_key(*it))
            || table.get("extends").is_some_and(toml::Value::is_str)
    })
}

/// Whether an argument that is not an existing path names a text: a known corpus, a URL, or a missing file.
fn may_be_text(argument: &str, path: &Path) -> bool {
    let is_url = argument.starts_with("https://") || argument.starts_with("http://");
    Corpus::find(argument).is_some() || is_url || path.extension().is_some() || path.components().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_and_texts_are_distinguished() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let recipe = preset("debug").unwrap();
        for (argument, expected) in [
            ("debug", Subject::Recipe),
            ("missing.toml", Subject::Recipe),
            ("hugr", Subject::Recipe),
            ("kjv", Subject::Text),
            ("-", Subject::Text),
            ("missing.txt", Subject::Text),
            ("https://a.b/c", Subject::Text),
            (&file("recipe", recipe), Subject::Recipe),
            (&file("three-lines", "extends = \"tiny\"\n[model]\nn_layer = 8\n"), Subject::Recipe),
            (&file("mine.toml", "[model\n"), Subject::Recipe),
            (&file("my.txt", "To be = \"or not\"\n"), Subject::Text),
            (&file("chapter", "[Exeunt]\n"), Subject::Text),
            (folder.path().to_str().unwrap(), Subject::Text),
        ] {
            assert_eq!(Subject::of(argument), expected, "{argument}");
        }
    }
}
