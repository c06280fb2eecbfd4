//! The argument of `train`: a recipe, a text, or with `--resume` a run.

use std::{fs, path::Path};

use dataset::{Corpus, is_stream};
use trainer::preset;

/// Files above this size are texts, whatever is in them.
const MAX_RECIPE_BYTES: u64 = 1 << 20;

/// What an argument names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Recipe,
    Text,
}

impl Subject {
    /// A preset, a file that ends in .toml and a file with the sections of a recipe are recipes. Other files, folders, addresses,
    /// known corpora, standard input and pipes are texts. A name that is nothing is taken for a recipe.
    pub(super) fn of(argument: &str) -> Self {
        let path = Path::new(argument);
        let is_named_toml = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
        if preset(argument).is_some() || is_named_toml {
            return Self::Recipe;
        }
        if is_stream(path) {
            return Self::Text; // Looking into it would take from it.
        }
        let is_text = match fs::metadata(path) {
            Ok(found) => found.is_dir() || found.len() > MAX_RECIPE_BYTES || !has_sections(path),
            Err(_) => is_text_elsewhere(argument, path),
        };
        if is_text { Self::Text } else { Self::Recipe }
    }
}

/// Whether a file is TOML with a section of a recipe.
fn has_sections(path: &Path) -> bool {
    let table: Option<toml::Table> = fs::read_to_string(path).ok().and_then(|text| text.parse().ok());
    table.is_some_and(|table| {
        ["model", "data", "optimizer", "schedule"].iter().any(|it| table.contains_key(*it))
    })
}

/// Whether an argument that is no path is a text: a known corpus, an address, or the path of a text that is missing.
fn is_text_elsewhere(argument: &str, path: &Path) -> bool {
    let is_address = argument.starts_with("https://") || argument.starts_with("http://");
    Corpus::find(argument).is_some()
        || is_address
        || path.extension().is_some()
        || path.components().count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_are_told_from_texts() {
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
            (&file("mine.toml", "[model\n"), Subject::Recipe),
            (&file("my.txt", "To be = \"or not\"\n"), Subject::Text),
            (&file("chapter", "[Exeunt]\n"), Subject::Text),
            (folder.path().to_str().unwrap(), Subject::Text),
        ] {
            assert_eq!(Subject::of(argument), expected, "{argument}");
        }
    }
}
