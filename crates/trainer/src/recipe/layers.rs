//! Merges the texts and overrides of a recipe, key by key.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue, Deserializer},
};

use super::{
    error::{Place, RecipeError, RecipeProblem},
    overrides::{NONE, Override, in_words, keys, optional_keys},
    sections::Recipe,
    source::{EXTENDS, RecipeSource, RecipeText},
};

/// Two keys with one meaning: setting one unsets the other.
const ALTERNATIVES: [&str; 2] = ["schedule.eval_windows", "schedule.eval_batches"];

const MAX_STEPS_KEY: &str = "schedule.max_steps";
const DECAY_STEPS_KEY: &str = "schedule.decay_steps";

/// The keys of `[model]` that do not have to be the base model's.
const FREE_SIZES: [&str; 2] = ["model.dropout", "model.block_size"];

/// The keys without which a recipe has no model.
const REQUIRED_SIZES: [&str; 5] = ["model", "n_layer", "n_head", "n_embd", "block_size"];

/// A recipe as one table. Spans are offsets into the concatenated texts and overrides, so a span identifies its origin.
pub(super) struct Layers<'a> {
    table: DeTable<'a>,
    /// The start of each origin, ascending.
    origins: Vec<(usize, Origin<'a>)>,
    next_start: usize,
    /// The text that extends all others, and its start.
    last_text: Option<(usize, &'a RecipeText)>,
    /// Whether a recipe without a preset could have been started with `extends`.
    can_extend: bool,
}

#[derive(Clone, Copy)]
enum Origin<'a> {
    Text(&'a RecipeText),
    Override(&'a str),
}

/// A key with its value; without a value, the key is unset.
struct Assignment<'a> {
    section: Spanned<DeString<'a>>,
    key: Spanned<DeString<'a>>,
    value: Option<Spanned<DeValue<'a>>>,
}

impl<'a> Layers<'a> {
    /// Merges the texts in order, then the overrides. Later values replace earlier ones.
    pub(super) fn new(source: &'a RecipeSource, overrides: &'a [String]) -> Result<Self, RecipeError> {
        let (first, others) = source.texts().split_first().expect("a recipe has a text");
        let mut layers = Self {
            table: DeTable::new(),
            origins: Vec::new(),
            next_start: 0,
            last_text: None,
            can_extend: first.can_unset(),
        };
        let has_base_model = !source.sizes().is_empty();
        layers.merge_text(first, false)?;
        layers.merge_overrides(source.sizes())?;
        for text in others {
            layers.merge_text(text, has_base_model)?;
        }
        layers.merge_overrides(overrides)?;
        Ok(layers)
    }

    fn merge_text(&mut self, text: &'a RecipeText, has_base_model: bool) -> Result<(), RecipeError> {
        let start = self.add_origin(Origin::Text(text), text.len());
        self.last_text = Some((start, text));
        let mut assignments = Vec::new();
        for (section, value) in moved_table(text.table()?, start) {
            let (name, span) = (section.get_ref().clone(), value.span());
            let DeValue::Table(section_keys) = value.into_inner() else {
                return Err(self.not_a_section(&section));
            };
            let empty = || Spanned::new(span, DeValue::Table(DeTable::new()));
            self.table.entry(section.clone()).or_insert_with(empty);
            for (key, value) in section_keys {
                let path = format!("{name}.{}", key.get_ref());
                if has_base_model && name == "model" && !FREE_SIZES.contains(&path.as_str()) {
                    return Err(self.invalid(RecipeProblem::FixedSize { key: path }, key.span()));
                }
                let is_none = text.can_unset() && value.get_ref().as_str() == Some(NONE);
                let unsets = is_none && optional_keys().contains(&path);
                let value = (!unsets).then_some(value);
                assignments.push(Assignment { section: section.clone(), key, value });
            }
        }
        self.merge(assignments);
        Ok(())
    }

    fn merge_overrides(&mut self, overrides: &'a [String]) -> Result<(), RecipeError> {
        let mut assignments = Vec::new();
        for text in overrides {
            let Override { section, key, value } = Override::parse(text)?;
            let start = self.add_origin(Origin::Override(text), text.len());
            let span = start..start + text.len();
            let spanned = |name: &'a str| Spanned::new(span.clone(), DeString::from(name));
            let value = value.map(|value| Spanned::new(span.clone(), value));
            assignments.push(Assignment { section: spanned(section), key: spanned(key), value });
        }
        self.merge(assignments);
        Ok(())
    }

    /// Adds an origin after the last one and returns its start.
    fn add_origin(&mut self, origin: Origin<'a>, len: usize) -> usize {
        let start = self.next_start;
        self.origins.push((start, origin));
        self.next_start += len + 1; // An empty text has a start of its own too.
        start
    }

    /// Assigns the keys of one layer. Unsets keys that these replace, unless the layer sets them too.
    fn merge(&mut self, assignments: Vec<Assignment<'a>>) {
        let paths: Vec<(String, bool)> =
            assignments.iter().map(|it| (it.path(), it.value.is_some())).collect();
        let mentions = |path: &str| paths.iter().any(|(it, _)| it == path);
        let sets = |path: &str| paths.iter().any(|(it, has_value)| it == path && *has_value);
        let before = self.integer(MAX_STEPS_KEY);
        // The learning rate falls until the end of the run, even if a later layer moves the end.
        let decay_follows = before.is_some() && before == self.integer(DECAY_STEPS_KEY);
        for assignment in assignments {
            self.assign(assignment);
        }
        let [one, other] = ALTERNATIVES;
        for (set, unset) in [(one, other), (other, one)] {
            if sets(set) && !mentions(unset) {
                self.remove(unset);
            }
        }
        if decay_follows && !mentions(DECAY_STEPS_KEY) && self.integer(MAX_STEPS_KEY) != before {
            self.remove(DECAY_STEPS_KEY);
        }
    }

    fn assign(&mut self, Assignment { section, key, value }: Assignment<'a>) {
        let empty = Spanned::new(self.whole(), DeValue::Table(DeTable::new()));
        let keys = self.table.entry(section).or_insert(empty);
        if let DeValue::Table(keys) = keys.get_mut() {
            keys.remove(key.get_ref().as_ref()); // With its span.
            if let Some(value) = value {
                keys.insert(key, value);
            }
        }
    }

    fn remove(&mut self, path: &str) {
        if let Some((section, key)) = path.split_once('.')
            && let Some(section) = self.table.get_mut(section)
            && let DeValue::Table(keys) = section.get_mut()
        {
            keys.remove(key);
        }
    }

    /// The value of `section` or `section.key`.
    fn value(&self, path: &str) -> Option<&Spanned<DeValue<'a>>> {
        match path.split_once('.') {
            None => self.table.get(path),
            Some((section, key)) => self.table.get(section)?.get_ref().as_table()?.get(key),
        }
    }

    fn integer(&self, path: &str) -> Option<u64> {
        let integer = self.value(path)?.get_ref().as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The span of the recipe as a whole: an empty one in the last text.
    fn whole(&self) -> Range<usize> {
        let start = self.last_text.map_or(0, |(start, _)| start);
        start..start
    }

    /// The recipe, with all values in their ranges.
    pub(super) fn recipe(&self) -> Result<Recipe, RecipeError> {
        self.check_keys()?;
        let root = Spanned::new(self.whole(), self.table.clone());
        let recipe = Recipe::deserialize(Deserializer::from(root)).map_err(|error| {
            let message = error.message();
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
            if missing.is_some_and(|key| REQUIRED_SIZES.contains(&key)) {
                let advice = self.extends_advice(", or start the file with");
                return RecipeError::NoSizes { name: self.last_text().name().to_owned(), advice };
            }
            let advice = match missing {
                Some(_) => self.extends_advice("; to take missing keys from a preset, start the file with"),
                None => String::new(),
            };
            let problem = RecipeProblem::Toml(in_words(message) + &advice);
            self.invalid(problem, error.span().unwrap_or_else(|| self.whole()))
        })?;
        recipe.check().map_err(|problem| self.at_last_key(problem))?;
        Ok(recipe)
    }

    /// Refuses unknown keys, before missing ones are noticed.
    fn check_keys(&self) -> Result<(), RecipeError> {
        let paths: Vec<String> = keys().collect();
        let known: Vec<(&str, &str)> = paths.iter().filter_map(|path| path.split_once('.')).collect();
        for (section, value) in &self.table {
            let known_keys = known.iter().filter(|(it, _)| it == section.get_ref()).map(|(_, key)| *key);
            let known_keys: Vec<&str> = known_keys.collect();
            if known_keys.is_empty() {
                return Err(self.unknown_section(section));
            }
            for (key, _) in value.get_ref().as_table().into_iter().flatten() {
                if key.get_ref() == EXTENDS {
                    let reason = format!("`{EXTENDS}` must be above the first section");
                    return Err(self.invalid(RecipeProblem::Toml(reason), key.span()));
                }
                if !known_keys.contains(&key.get_ref().as_ref()) {
                    return Err(self.unknown(key, known_keys.iter().copied()));
                }
            }
        }
        Ok(())
    }

    /// The error for a key at the top that holds a value.
    fn not_a_section(&self, key: &Spanned<DeString<'_>>) -> RecipeError {
        let name = key.get_ref();
        if !sections().any(|section| section == *name) {
            return self.unknown_section(key);
        }
        self.invalid(RecipeProblem::Toml(format!("`{name}` must be a section, [{name}]")), key.span())
    }

    fn unknown_section(&self, key: &Spanned<DeString<'_>>) -> RecipeError {
        let known: Vec<String> =
            self.can_extend.then(|| EXTENDS.to_owned()).into_iter().chain(sections()).collect();
        self.unknown(key, known.iter().map(String::as_str))
    }

    fn unknown<'k>(&self, key: &Spanned<DeString<'_>>, known: impl Iterator<Item = &'k str>) -> RecipeError {
        let known: Vec<String> = known.map(|key| format!("`{key}`")).collect();
        let reason = format!("unknown field `{}`, expected one of {}", key.get_ref(), known.join(", "));
        self.invalid(RecipeProblem::Toml(reason), key.span())
    }

    /// A file that extends no preset can take its missing keys from one.
    fn extends_advice(&self, before: &str) -> String {
        if self.can_extend { format!("{before} {EXTENDS} = \"tiny\"") } else { String::new() }
    }

    /// The error, located at the last key that breaks the rule.
    fn at_last_key(&self, problem: RecipeProblem) -> RecipeError {
        let spans = problem.keys().into_iter().filter_map(|key| self.value(&key).map(Spanned::span));
        let span = spans.max_by_key(|span| span.start).unwrap_or_else(|| self.whole());
        self.invalid(problem, span)
    }

    fn last_text(&self) -> &'a RecipeText {
        self.last_text.expect("a recipe has a text").1
    }

    fn invalid(&self, problem: RecipeProblem, at: Range<usize>) -> RecipeError {
        let invalid = |place: Place, problem| RecipeError::Invalid { place, problem: Box::new(problem) };
        let idx = self.origins.partition_point(|(start, _)| *start <= at.start).saturating_sub(1);
        match self.origins[idx] {
            _ if at == self.whole() => invalid(self.last_text().whole(), problem),
            (start, Origin::Text(text)) => invalid(text.place(at.start - start..at.end - start), problem),
            (_, Origin::Override(assignment)) => {
                RecipeError::Override { assignment: assignment.to_owned(), reason: problem.to_string() }
            }
        }
    }
}

/// The sections of a recipe, in the order of its struct.
fn sections() -> impl Iterator<Item = String> {
    let mut sections: Vec<String> =
        keys().filter_map(|key| key.split_once('.').map(|(section, _)| section.to_owned())).collect();
    sections.dedup();
    sections.into_iter()
}

impl Assignment<'_> {
    fn path(&self) -> String {
        format!("{}.{}", self.section.get_ref(), self.key.get_ref())
    }
}

/// The table with all spans of its keys and values moved by `by` bytes.
fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let moved_value = |value| {
        moved(value, by, |value| match value {
            DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
            value => value, // No key is an array; an error is about the array as a whole.
        })
    };
    table.into_iter().map(|(key, value)| (moved(key, by, |key| key), moved_value(value))).collect()
}

fn moved<T>(spanned: Spanned<T>, by: usize, inner: impl FnOnce(T) -> T) -> Spanned<T> {
    let Range { start, end } = spanned.span();
    Spanned::new(start + by..end + by, inner(spanned.into_inner()))
}
