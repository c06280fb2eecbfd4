//! The text of a recipe, and the recipes that it extends.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use model::GptConfig;
use toml::de::DeTable;

use super::{
    error::{Place, RecipeError, RecipeProblem},
    presets::{PRESETS, preset},
    sections::Recipe,
};

/// The key that names the recipe to extend.
pub(super) const EXTENDS: &str = "extends";

/// The texts of a recipe. Each one extends the one before it.
#[derive(Debug, Clone)]
pub struct RecipeSource {
    /// Never empty.
    texts: Vec<RecipeText>,
    /// Overrides of the first text: the sizes of a base model.
    sizes: Vec<String>,
}

/// One text, and the name that errors give it.
#[derive(Debug, Clone)]
pub(super) struct RecipeText {
    name: String,
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Preset,
    /// A recipe that someone wrote: it may extend another, and unset a key with `none`.
    Written,
    /// A complete recipe, as run folders keep it.
    Saved,
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
        let unreadable = |source| RecipeError::Read { path: name.into(), source };
        let mut texts = vec![RecipeText::read(name).map_err(unreadable)?];
        let mut files: Vec<PathBuf> = Vec::new();
        while let Some(text) = texts.last()
            && let Some((base, place)) = text.base()?
        {
            files.extend(Path::new(&text.name).canonicalize());
            let path = text.path_of(&base);
            let text = open_base(&base, &path, &files);
            texts.push(text.map_err(|reason| RecipeError::Base { place, base, reason })?);
        }
        texts.reverse();
        Ok(Self { texts, sizes: Vec::new() })
    }

    /// Reads the recipe of a run folder, which is complete.
    ///
    /// # Errors
    ///
    /// If the file can't be read.
    pub fn saved(path: &Path) -> io::Result<Self> {
        Ok(Self::new(path.display().to_string(), fs::read_to_string(path)?))
    }

    /// One complete text; errors call it `name`.
    pub(super) fn new(name: String, text: String) -> Self {
        Self { texts: vec![RecipeText { name, text, kind: Kind::Saved }], sizes: Vec::new() }
    }

    /// Replaces the sizes of the first text by those of a base model. The other texts may set `model.dropout` and
    /// `model.block_size` alone.
    pub(crate) fn with_sizes_of(self, base_model: &GptConfig) -> Self {
        Self { sizes: Recipe::sizes(base_model), ..self }
    }

    /// The name of the last text: a preset, or the path of a file.
    pub fn name(&self) -> &str {
        self.texts.last().map_or("", |text| text.name.as_str())
    }

    pub(super) fn texts(&self) -> &[RecipeText] {
        &self.texts
    }

    pub(super) fn sizes(&self) -> &[String] {
        &self.sizes
    }
}

/// Opens a recipe to extend, unless it is one of `files`, which extend it. Returns the reason if that fails.
fn open_base(base: &str, path: &Path, files: &[PathBuf]) -> Result<RecipeText, String> {
    if preset(base).is_none() {
        if !path.exists() {
            let presets = PRESETS.map(|(name, _)| name).join(", ");
            return Err(format!(
                "it is neither a preset ({presets}) nor a file in the folder of this recipe"
            ));
        }
        if path.canonicalize().is_ok_and(|path| files.contains(&path)) {
            return Err("the recipes extend each other".to_owned());
        }
    }
    RecipeText::read(&path.display().to_string()).map_err(|error| error.to_string())
}

impl RecipeText {
    fn read(name: &str) -> io::Result<Self> {
        let (text, kind) = match preset(name) {
            Some(text) => (text.to_owned(), Kind::Preset),
            None => (fs::read_to_string(name)?, Kind::Written),
        };
        Ok(Self { name: name.to_owned(), text, kind })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn is_preset(&self) -> bool {
        self.kind == Kind::Preset
    }

    /// Whether the value `"none"` unsets an optional key.
    pub(super) fn can_unset(&self) -> bool {
        self.kind == Kind::Written
    }

    /// The table of the text, without `extends` if that was followed.
    pub(super) fn table(&self) -> Result<DeTable<'_>, RecipeError> {
        let mut table = self.parse()?;
        if self.kind == Kind::Written {
            table.remove(EXTENDS);
        }
        Ok(table)
    }

    fn parse(&self) -> Result<DeTable<'_>, RecipeError> {
        let invalid = |error: toml::de::Error| RecipeError::Invalid {
            place: self.place(error.span().unwrap_or_default()),
            problem: Box::new(RecipeProblem::Toml(error.message().to_owned())),
        };
        Ok(DeTable::parse(&self.text).map_err(invalid)?.into_inner())
    }

    /// The recipe that this one extends, and the place of its `extends` key.
    fn base(&self) -> Result<Option<(String, Place)>, RecipeError> {
        let table = self.parse()?;
        let Some(value) = table.get(EXTENDS) else { return Ok(None) };
        let place = self.place(value.span());
        match value.get_ref().as_str() {
            Some(base) => Ok(Some((base.to_owned(), place))),
            None => {
                let reason = format!("`{EXTENDS}` must be a string: a preset, or the path of a TOML file");
                Err(RecipeError::Invalid { place, problem: Box::new(RecipeProblem::Toml(reason)) })
            }
        }
    }

    /// The preset `base`, or the file of that name relative to the folder of this text.
    fn path_of(&self, base: &str) -> PathBuf {
        match Path::new(&self.name).parent() {
            Some(folder) if preset(base).is_none() => folder.join(base),
            _ => base.into(),
        }
    }

    /// The place of some bytes of this text.
    pub(super) fn place(&self, bytes: Range<usize>) -> Place {
        let before = self.text.get(..bytes.start).unwrap_or(&self.text);
        Place { line: (!self.is_preset()).then(|| before.matches('\n').count() + 1), ..self.whole() }
    }

    /// The place of this text as a whole.
    pub(super) fn whole(&self) -> Place {
        Place { name: self.name.clone(), line: None, is_file: !self.is_preset() }
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
            "invalid recipe b.toml:1: cannot extend `mine.toml`: the recipes extend each other"
        );
        let error = parse(&[("mine.toml", "extends = \"mine.toml\"\n")], &[]).unwrap_err();
        assert!(error.contains("mine.toml:1: cannot extend `mine.toml`"), "{error}");
        let error = parse(&[("mine.toml", "# Mine.\nextends = \"tny\"\n")], &[]).unwrap_err();
        assert!(
            error.starts_with(
                "invalid recipe mine.toml:2: cannot extend `tny`: it is neither a preset (tiny,"
            ),
            "{error}"
        );
        let error = parse(&[("mine.toml", "extends = 3\n")], &[]).unwrap_err();
        assert!(error.starts_with("invalid recipe mine.toml:1: `extends` must be a string"), "{error}");
        let error = parse(&[("mine.toml", "extends = \"\"\n")], &[]).unwrap_err();
        assert!(error.starts_with("invalid recipe mine.toml:1: cannot extend ``: "), "{error}");
        let error = parse(&[("mine.toml", "extends = \"lib\"\n"), ("lib/a.toml", "")], &[]).unwrap_err();
        assert!(error.starts_with("invalid recipe mine.toml:1: cannot extend `lib`: "), "{error}");
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
        assert!(error.starts_with("the recipe mine.toml has no model sizes"), "{error}");
        assert!(error.contains("extends = \"tiny\""), "{error}");
        // Also in a file that another one extends, and for a section, which has no line.
        let without_run = preset("debug").unwrap().split("[run]").next().unwrap();
        let files = [("mine.toml", "extends = \"base.toml\"\n"), ("base.toml", without_run)];
        let error = parse(&files, &[]).unwrap_err();
        assert!(error.starts_with("invalid recipe mine.toml: missing field `run`; to take"), "{error}");
    }

    #[test]
    fn a_section_must_be_a_table_and_a_key_must_exist() {
        let error = |text: &str| parse(&[("mine.toml", text)], &[]).unwrap_err();
        for text in ["extends = \"tiny\"\nrun = [7]\n", "extends = \"tiny\"\n[[run]]\nseed = 7\n"] {
            assert_eq!(error(text), "invalid recipe mine.toml:2: `run` must be a section, [run]");
        }
        let message = error("extend = \"tiny\"\n[model]\nn_layer = 8\n");
        assert!(message.starts_with(
            "invalid recipe mine.toml:1: unknown field `extend`, expected one of `extends`, `model`"
        ));
        let message = error("[model]\nextends = \"tiny\"\n");
        assert_eq!(message, "invalid recipe mine.toml:2: `extends` must be above the first section");
    }

    #[test]
    fn windows_line_ends_a_byte_order_mark_and_dotted_keys_are_read() {
        let text = "\u{feff}extends = \"tiny\"\r\n\r\nmodel.n_layer = 8\r\nrun.seed = \"x\"\r\n";
        let error = parse(&[("mine.toml", text)], &[]).unwrap_err();
        assert!(error.starts_with("invalid recipe mine.toml:4: invalid type: string \"x\""), "{error}");
        let mine = parse(&[("mine.toml", &text.replace("\"x\"", "3"))], &[]).unwrap();
        assert_eq!(mine, of_preset("tiny", &["model.n_layer=8", "run.seed=3"]));
    }

    #[test]
    fn a_rule_is_broken_by_the_last_of_its_keys() {
        let base = "extends = \"tiny\"\n[optimizer]\nmuon_momentum = 0.9\n";
        let files =
            [("mine.toml", "extends = \"base.toml\"\n[optimizer]\nkind = \"adamw\"\n"), ("base.toml", base)];
        let error = parse(&files, &[]).unwrap_err();
        assert!(
            error.starts_with("invalid recipe mine.toml:3: `optimizer.muon_momentum` has no effect"),
            "{error}"
        );
        let error = parse(&[("base.toml", base)], &["optimizer.kind=adamw"]).unwrap_err();
        assert!(error.starts_with("invalid --set optimizer.kind=adamw: `optimizer.muon_"), "{error}");
    }

    #[test]
    fn the_sizes_of_a_base_model_replace_the_first_text_and_not_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        let parse = |text: &str| {
            fs::write(&path, text).unwrap();
            let source = RecipeSource::open(path.to_str().unwrap()).unwrap();
            source.with_sizes_of(&GptConfig::nanogpt_cpu()).parse(&[])
        };
        let recipe = parse("extends = \"finetune\"\n[model]\nblock_size = 16\n").unwrap();
        assert_eq!((recipe.model.block_size, recipe.model.n_embd), (16, GptConfig::nanogpt_cpu().n_embd));
        let error = parse("extends = \"finetune\"\n[model]\nn_layer = 16\n").unwrap_err().to_string();
        assert!(error.contains("mine.toml:3: `model.n_layer` has no effect with --init-from"), "{error}");
    }

    #[test]
    fn a_saved_recipe_is_complete() {
        let error = Recipe::parse("extends = \"tiny\"\n", &[]).unwrap_err().to_string();
        assert!(error.starts_with("invalid recipe recipe:1: unknown field `extends`"), "{error}");
        let text = preset("debug").unwrap().replace("separator = \"<|endoftext|>\"", "separator = \"none\"");
        assert_ne!(text, preset("debug").unwrap());
        assert_eq!(Recipe::parse(&text, &[]).unwrap().data.separator.as_deref(), Some("none"));
        assert_eq!(parse(&[("mine.toml", &text)], &[]).unwrap().data.separator, None, "`none` unsets");
    }
}
