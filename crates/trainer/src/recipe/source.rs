//! The text of a recipe, and the recipes that it extends.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

use super::{
    error::{Place, RecipeError, RecipeProblem},
    presets::{PRESETS, preset},
};

/// The key that names the recipe to extend.
pub(super) const EXTENDS: &str = "extends";

/// The texts of a recipe. Each one extends the one before it.
#[derive(Debug, Clone)]
pub struct RecipeSource {
    /// Never empty.
    texts: Vec<RecipeText>,
}

/// One text, and the name that errors give it.
#[derive(Debug, Clone)]
pub(super) struct RecipeText {
    name: String,
    text: String,
}

impl RecipeSource {
    /// Reads a preset or a TOML file, and the recipes that it extends.
    ///
    /// `extends = "NAME"` at the top of a file names a preset, or a file relative to the folder of this one.
    ///
    /// # Errors
    ///
    /// If a file can't be read, is invalid TOML, or extends itself.
    pub fn open(name: &str) -> Result<Self, RecipeError> {
        let mut texts: Vec<RecipeText> = Vec::new();
        let mut files: Vec<PathBuf> = Vec::new();
        let mut next = Some(RecipeText::read(name)?);
        while let Some(text) = next.take() {
            if preset(&text.name).is_none() {
                files.push(Path::new(&text.name).canonicalize().unwrap_or_else(|_| text.name.clone().into()));
            }
            if let Some((base, place)) = text.base()? {
                let unusable =
                    |reason| RecipeError::Base { place: place.clone(), base: base.clone(), reason };
                let path = text.path_of(&base);
                if preset(&base).is_none() && path.canonicalize().is_ok_and(|path| files.contains(&path)) {
                    return Err(unusable("it extends this recipe in turn".to_owned()));
                }
                next = Some(if preset(&base).is_some() || path.exists() {
                    RecipeText::read(&path.display().to_string())?
                } else {
                    let presets = PRESETS.map(|(name, _)| name).join(", ");
                    return Err(unusable(format!(
                        "there is no file {} and no preset of that name ({presets})",
                        path.display()
                    )));
                });
            }
            texts.push(text);
        }
        texts.reverse();
        Ok(Self { texts })
    }

    /// One text that extends nothing; errors call it `name`.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { texts: vec![RecipeText { name: name.into(), text: text.into() }] }
    }

    /// The name of the last text: a preset, or the path of a file.
    pub fn name(&self) -> &str {
        self.texts.last().map_or("", |text| text.name.as_str())
    }

    pub(super) fn texts(&self) -> &[RecipeText] {
        &self.texts
    }
}

impl RecipeText {
    fn read(name: &str) -> Result<Self, RecipeError> {
        let text = match preset(name) {
            Some(text) => text.to_owned(),
            None => {
                fs::read_to_string(name).map_err(|source| RecipeError::Read { path: name.into(), source })?
            }
        };
        Ok(Self { name: name.to_owned(), text })
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    /// The table of the text, with `extends` still in it.
    pub(super) fn table(&self) -> Result<DeTable<'_>, RecipeError> {
        let invalid = |error: toml::de::Error| RecipeError::Invalid {
            place: self.place(error.span().unwrap_or_default()),
            problem: Box::new(RecipeProblem::Toml(error.message().to_owned())),
        };
        Ok(DeTable::parse(&self.text).map_err(invalid)?.into_inner())
    }

    /// The recipe that this one extends, and where it says so.
    fn base(&self) -> Result<Option<(String, Place)>, RecipeError> {
        let table = self.table()?;
        let Some(value) = table.get(EXTENDS) else { return Ok(None) };
        let place = self.place(value.span());
        match value.get_ref().as_str() {
            Some(base) => Ok(Some((base.to_owned(), place))),
            None => Err(RecipeError::Base {
                place,
                base: value.get_ref().type_str().to_owned(),
                reason: "it must be a string: a preset, or the path of a TOML file".to_owned(),
            }),
        }
    }

    /// The preset `base`, or the file of that name relative to the folder of this text.
    fn path_of(&self, base: &str) -> PathBuf {
        match Path::new(&self.name).parent() {
            Some(folder) if preset(base).is_none() => folder.join(base),
            _ => base.into(),
        }
    }

    /// A place in this text.
    pub(super) fn place(&self, bytes: Range<usize>) -> Place {
        let before = self.text.get(..bytes.start).unwrap_or(&self.text);
        let line = preset(&self.name).is_none().then(|| before.matches('\n').count() + 1);
        Place { name: self.name.clone(), line }
    }

    /// This text as a whole.
    pub(super) fn whole(&self) -> Place {
        Place { name: self.name.clone(), line: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    /// A folder with these recipes; the first one is opened and parsed.
    fn parse(files: &[(&str, &str)], overrides: &[&str]) -> Result<Recipe, String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let overrides: Vec<String> = overrides.iter().map(|&set| set.to_owned()).collect();
        let parsed = RecipeSource::open(&folder.path().join(files[0].0).display().to_string())
            .and_then(|source| source.parse(&overrides));
        let prefix = format!("{}/", folder.path().display());
        parsed.map_err(|error| error.to_string().replace(&prefix, ""))
    }

    fn of_preset(name: &str, overrides: &[&str]) -> Recipe {
        let overrides: Vec<String> = overrides.iter().map(|&set| set.to_owned()).collect();
        RecipeSource::open(name).unwrap().parse(&overrides).unwrap()
    }

    #[test]
    fn three_lines_make_a_recipe() {
        let mine = parse(&[("mine.toml", "extends = \"tiny\"\n[model]\nn_layer = 8\n")], &[]).unwrap();
        assert_eq!(mine, of_preset("tiny", &["model.n_layer=8"]));
        let whole = Recipe::parse(&mine.to_toml(), &[]).unwrap();
        assert_eq!(whole, mine, "the resolved recipe extends nothing");
    }

    #[test]
    fn a_chain_is_resolved_from_folder_to_folder_and_overrides_come_last() {
        let files = [
            ("mine.toml", "extends = \"lib/base.toml\"\n[run]\nseed = 1\n[schedule]\nmax_steps = 5\n"),
            ("lib/base.toml", "extends = \"wide.toml\"\n[run]\nseed = 2\n[model]\nn_layer = 3\n"),
            ("lib/wide.toml", "extends = \"debug\"\n[model]\nn_embd = 64\nn_layer = 7\n"),
        ];
        let sets = ["model.n_embd=64", "model.n_layer=3", "run.seed=1", "schedule.max_steps=9"];
        assert_eq!(parse(&files, &["schedule.max_steps=9"]).unwrap(), of_preset("debug", &sets));
    }

    #[test]
    fn keys_that_exclude_each_other_are_replaced_and_none_unsets() {
        let text =
            "extends = \"nanogpt-cpu\"\n[schedule]\neval_windows = 30\n[optimizer]\ngrad_clip = \"none\"\n";
        let mine = parse(&[("mine.toml", text)], &[]).unwrap();
        assert_eq!(mine, of_preset("nanogpt-cpu", &["schedule.eval_windows=30", "optimizer.grad_clip=none"]));
        let text = "extends = \"tiny\"\n[schedule]\nmax_steps = \"none\"\n";
        let error = parse(&[("mine.toml", text)], &[]).unwrap_err();
        assert!(error.starts_with("invalid recipe mine.toml:3: invalid type: string \"none\""), "{error}");
    }

    #[test]
    fn a_mistake_is_named_with_the_file_and_line_that_it_is_in() {
        let mine = |text: &'static str| ("mine.toml", text);
        let base = |text: &'static str| ("base.toml", text);
        let extends = "extends = \"base.toml\"\n\n[run]\nseed = 3\n";
        for (files, message) in [
            (
                vec![mine("extends = \"tiny\"\n[model]\n\nn_layers = 8\n")],
                "mine.toml:4: unknown field `n_layers`",
            ),
            (
                vec![mine("extends = \"tiny\"\n[model]\nn_layer = \"8\"\n")],
                "mine.toml:3: invalid type: string \"8\"",
            ),
            (
                vec![mine("extends = \"tiny\"\n[modell]\nn_layer = 8\n")],
                "mine.toml:2: unknown field `modell`",
            ),
            (vec![mine("extends = \"tiny\"\nn_layer = 8\n")], "mine.toml:2: unknown field `n_layer`"),
            (vec![mine("extends = \"tiny\"\n[model\n")], "mine.toml:2: unclosed table"),
            (
                vec![mine("extends = \"tiny\"\n[optimizer]\nbeta_2 = 1.0\n")],
                "mine.toml:3: `optimizer.beta_2` must",
            ),
            (
                vec![mine("extends = \"tiny\"\n[model]\n\nn_head = 3\n")],
                "mine.toml:4: `n_embd` = 64 is not a",
            ),
            (
                vec![mine(extends), base("extends = \"tiny\"\n[model]\nn_layers = 8\n")],
                "base.toml:3: unknown field",
            ),
            (
                vec![mine(extends), base("extends = \"tiny\"\n[model]\nn_head = 3\n")],
                "base.toml:3: `n_embd` = 64",
            ),
            (vec![mine(extends), base("extends = \"tiny\"\n[model\n")], "base.toml:2: unclosed table"),
        ] {
            let error = parse(&files, &[]).unwrap_err();
            assert!(error.starts_with(&format!("invalid recipe {message}")), "{error}");
        }
        let error = parse(&[mine("extends = \"tiny\"\n[run]\nseed = 3\n")], &["run.seed=x"]).unwrap_err();
        assert!(error.starts_with("invalid --set run.seed=x: "), "{error}");
    }

    #[test]
    fn a_recipe_that_can_not_be_extended_is_named_with_its_line() {
        let cycle = [("mine.toml", "\nextends = \"b.toml\"\n"), ("b.toml", "extends = \"mine.toml\"\n")];
        let error = parse(&cycle, &[]).unwrap_err();
        assert_eq!(
            error,
            "invalid recipe b.toml:1: cannot extend `mine.toml`: it extends this recipe in turn"
        );
        let error = parse(&[("mine.toml", "extends = \"mine.toml\"\n")], &[]).unwrap_err();
        assert!(error.contains("mine.toml:1: cannot extend `mine.toml`"), "{error}");
        let error = parse(&[("mine.toml", "# Mine.\nextends = \"tny\"\n")], &[]).unwrap_err();
        assert!(
            error.starts_with("invalid recipe mine.toml:2: cannot extend `tny`: there is no file tny and no preset of that name (tiny,"),
            "{error}"
        );
        let error = parse(&[("mine.toml", "extends = 3\n")], &[]).unwrap_err();
        assert!(error.ends_with("it must be a string: a preset, or the path of a TOML file"), "{error}");
    }

    #[test]
    fn a_missing_key_is_answered_with_extends() {
        let text = preset("debug").unwrap().replace("seed = 1337", "");
        let line = text.lines().position(|line| line == "[run]").unwrap() + 1;
        let error = parse(&[("mine.toml", &text)], &[]).unwrap_err();
        assert_eq!(
            error,
            format!(
                "invalid recipe mine.toml:{line}: missing field `seed`; to take missing keys from a preset, start the file \
                 with extends = \"tiny\""
            )
        );
        let error = parse(&[("mine.toml", "[model]\nn_layer = 8\n")], &[]).unwrap_err();
        assert!(error.contains("missing field") && error.ends_with("extends = \"tiny\""), "{error}");
    }
}
