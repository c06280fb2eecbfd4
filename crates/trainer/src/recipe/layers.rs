//! The texts and overrides of a recipe, laid over each other key by key.

use std::ops::Range;

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue, Deserializer},
};

use super::{
    error::{Place, RecipeError, RecipeProblem},
    overrides::{NONE, Override, in_words, optional_keys},
    sections::Recipe,
    source::{EXTENDS, RecipeSource, RecipeText},
};

/// Two keys with one meaning: setting one unsets the other.
const ALTERNATIVES: [&str; 2] = ["schedule.eval_windows", "schedule.eval_batches"];

const MAX_STEPS: &str = "schedule.max_steps";
const DECAY_STEPS: &str = "schedule.decay_steps";

/// How serde begins an error about a key that is missing.
const MISSING: &str = "missing field";

/// A recipe as one table. Spans count through all texts and overrides in order, so a span tells its origin.
pub(super) struct Layers<'a> {
    table: DeTable<'a>,
    /// Where each origin begins, in rising order.
    origins: Vec<(usize, Origin<'a>)>,
    /// Where the next origin begins.
    end: usize,
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
    /// Lays the texts over each other, and the overrides over all of them. Later values replace earlier ones.
    pub(super) fn new(source: &'a RecipeSource, overrides: &'a [String]) -> Result<Self, RecipeError> {
        let mut layers = Self { table: DeTable::new(), origins: Vec::new(), end: 0 };
        for text in source.texts() {
            layers.lay_text(text)?;
        }
        layers.lay_overrides(overrides)?;
        Ok(layers)
    }

    fn lay_text(&mut self, text: &'a RecipeText) -> Result<(), RecipeError> {
        let extends = !self.origins.is_empty();
        let start = self.begin(Origin::Text(text), text.len());
        let mut table = moved_table(text.table()?, start);
        table.remove(EXTENDS);
        let optional = if extends { optional_keys() } else { Vec::new() };
        let mut assignments = Vec::new();
        for (section, value) in table {
            let span = value.span();
            match value.into_inner() {
                DeValue::Table(keys) => {
                    let empty = || Spanned::new(span, DeValue::Table(DeTable::new()));
                    self.table.entry(section.clone()).or_insert_with(empty);
                    assignments.extend(keys.into_iter().map(|(key, value)| {
                        let path = format!("{}.{}", section.get_ref(), key.get_ref());
                        let unsets = value.get_ref().as_str() == Some(NONE) && optional.contains(&path);
                        Assignment { section: section.clone(), key, value: (!unsets).then_some(value) }
                    }));
                }
                // Not a section, so deserialization refuses it, with its line.
                value => {
                    self.table.insert(section, Spanned::new(span, value));
                }
            }
        }
        self.lay_over(assignments);
        Ok(())
    }

    fn lay_overrides(&mut self, overrides: &'a [String]) -> Result<(), RecipeError> {
        let mut assignments = Vec::new();
        for text in overrides {
            let Override { section, key, value } = Override::parse(text)?;
            let start = self.begin(Origin::Override(text), text.len());
            let span = start..start + text.len();
            let spanned = |name: &'a str| Spanned::new(span.clone(), DeString::from(name));
            let value = value.map(|value| Spanned::new(span.clone(), value));
            assignments.push(Assignment { section: spanned(section), key: spanned(key), value });
        }
        self.lay_over(assignments);
        Ok(())
    }

    /// Counts on from the last origin. Returns where the new one begins.
    fn begin(&mut self, origin: Origin<'a>, len: usize) -> usize {
        let start = self.end;
        self.origins.push((start, origin));
        self.end += len + 1; // An empty text has a place too.
        start
    }

    /// Assigns the keys of one layer, and unsets those that follow from them, unless this layer sets them too.
    fn lay_over(&mut self, assignments: Vec<Assignment<'a>>) {
        let paths: Vec<String> = assignments.iter().map(Assignment::path).collect();
        let sets = |path: &str| paths.iter().any(|it| it == path);
        let before = self.integer(MAX_STEPS);
        // The learning rate falls until the end of the run, wherever a later layer moves that.
        let decay_follows = before.is_some() && before == self.integer(DECAY_STEPS);
        for assignment in assignments {
            self.assign(assignment);
        }
        let [one, other] = ALTERNATIVES;
        for (set, unset) in [(one, other), (other, one)] {
            if sets(set) && !sets(unset) {
                self.remove(unset);
            }
        }
        if decay_follows && !sets(DECAY_STEPS) && self.integer(MAX_STEPS) != before {
            self.remove(DECAY_STEPS);
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

    /// The value of a key, or the innermost table around it.
    fn value(&self, path: &str) -> Option<&Spanned<DeValue<'a>>> {
        let mut names = path.split('.');
        let section = self.table.get(names.next()?)?.get_ref().as_table()?;
        let value = section.get(names.next()?)?;
        let inner = |value, name| {
            DeValue::as_table(Spanned::get_ref(value)).and_then(|it| it.get(name)).unwrap_or(value)
        };
        Some(names.fold(value, inner))
    }

    fn integer(&self, path: &str) -> Option<u64> {
        let integer = self.value(path)?.get_ref().as_integer()?;
        u64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    /// The start of the last text.
    fn whole(&self) -> Range<usize> {
        let is_text = |(_, origin): &&(usize, Origin<'_>)| matches!(origin, Origin::Text(_));
        let start = self.origins.iter().rev().find(is_text).map_or(0, |(start, _)| *start);
        start..start
    }

    /// The recipe, with all values in their ranges.
    pub(super) fn recipe(&self) -> Result<Recipe, RecipeError> {
        let root = Spanned::new(self.whole(), self.table.clone());
        let recipe = Recipe::deserialize(Deserializer::from(root)).map_err(|error| {
            if error.message().starts_with(MISSING) && self.value("model.n_layer").is_none() {
                return RecipeError::NoSizes { name: self.whole_place().name };
            }
            let problem = RecipeProblem::Toml(self.advise(in_words(error.message())));
            self.invalid(problem, error.span().unwrap_or_else(|| self.whole()))
        })?;
        recipe.check().map_err(|problem| self.at_key(problem))?;
        Ok(recipe)
    }

    /// A recipe of one text can take its missing keys from another.
    fn advise(&self, reason: String) -> String {
        let n_texts = self.origins.iter().filter(|(_, origin)| matches!(origin, Origin::Text(_))).count();
        if n_texts == 1 && reason.starts_with(MISSING) {
            format!("{reason}; to take missing keys from a preset, start the file with {EXTENDS} = \"tiny\"")
        } else {
            reason
        }
    }

    /// An error at the last of the keys that the problem is about.
    fn at_key(&self, problem: RecipeProblem) -> RecipeError {
        let spans = problem.keys().into_iter().filter_map(|key| self.value(&key).map(Spanned::span));
        match spans.max_by_key(|span| span.start) {
            Some(span) => self.invalid(problem, span),
            None => RecipeError::Invalid { place: self.whole_place(), problem: Box::new(problem) },
        }
    }

    fn whole_place(&self) -> Place {
        match self.origin(self.whole().start) {
            (_, Origin::Text(text)) => text.whole(),
            (_, Origin::Override(_)) => unreachable!("the whole recipe is a text"),
        }
    }

    fn invalid(&self, problem: RecipeProblem, at: Range<usize>) -> RecipeError {
        match self.origin(at.start) {
            (start, Origin::Text(text)) => RecipeError::Invalid {
                place: text.place(at.start - start..at.end.max(at.start) - start),
                problem: Box::new(problem),
            },
            (_, Origin::Override(assignment)) => {
                RecipeError::Override { assignment: assignment.to_owned(), reason: problem.to_string() }
            }
        }
    }

    fn origin(&self, at: usize) -> (usize, Origin<'a>) {
        let next = self.origins.partition_point(|(start, _)| *start <= at);
        self.origins[next.saturating_sub(1)]
    }
}

impl Assignment<'_> {
    fn path(&self) -> String {
        format!("{}.{}", self.section.get_ref(), self.key.get_ref())
    }
}

/// The table with all of its spans moved by `by` bytes.
fn moved_table(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(key, value)| (moved(key, by, |key| key), moved(value, by, |it| moved_value(it, by))))
        .collect()
}

fn moved_value(value: DeValue<'_>, by: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(moved_table(table, by)),
        value => value,
    }
}

fn moved<T>(spanned: Spanned<T>, by: usize, inner: impl FnOnce(T) -> T) -> Spanned<T> {
    let Range { start, end } = spanned.span();
    Spanned::new(start + by..end + by, inner(spanned.into_inner()))
}
