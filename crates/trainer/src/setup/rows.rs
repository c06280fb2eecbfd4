//! Reads the rows of chat data, collects those that can't be trained on, and divides the others into two parts.

use std::{error::Error, fmt, iter, path::Path, sync::Arc};

use chat::{
    Flaw,
    data::{Located, Reader},
};
use dataset::Examples;

use super::error::SetupError;
use crate::{DataRecipe, Recipe};

/// Kinds of flaws that are listed.
const N_LISTED: usize = 20;

/// The rows of a file or folder that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsRead {
    pub n_rows: usize,
    /// Rows that can't be trained on.
    pub n_flawed: usize,
    /// The first kinds of their flaws.
    flaws: Vec<FlawedRows>,
    /// Flawed rows that were read, but can't be encoded.
    n_not_encoded: usize,
    /// Flawed rows that are data of another preset, and that.
    n_of_other_preset: usize,
    other_preset: Option<&'static str>,
    /// The block sizes that rows need which do not fit the block.
    needed_block_sizes: Vec<usize>,
    /// SHA-256 of the bytes.
    pub sha256: String,
}

/// Rows with the same flaw, except for numbers in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FlawedRows {
    n_rows: usize,
    /// The flaw without digits.
    kind: String,
    /// The place of the first one, and its flaw.
    place: String,
    flaw: String,
}

impl fmt::Display for FlawedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n_rows > 1 {
            write!(f, "{} rows, first at ", self.n_rows)?;
        }
        write!(f, "{}: {}", self.place, self.flaw)
    }
}

impl RowsRead {
    /// Passes each row to `add`, which encodes it, and returns the block size that it needs if it does not fit the block.
    /// Rows with flaws, and those that can't be encoded, are counted.
    ///
    /// # Errors
    ///
    /// If a file can't be read.
    pub(super) fn read<T>(
        mut rows: Reader<T>,
        mut add: impl FnMut(&Located<T>) -> chat::Result<Option<usize>>,
    ) -> Result<Self, SetupError> {
        let mut read = Self::default();
        for row in rows.by_ref() {
            read.n_rows += 1;
            match row {
                Ok(row) => match add(&row) {
                    Ok(needed) => read.needed_block_sizes.extend(needed),
                    Err(error) => {
                        read.n_not_encoded += 1;
                        read.add_flaw(row.to_string(), in_one_line(&error));
                    }
                },
                Err(chat::Error::Row { path, line, flaw }) => {
                    if let Flaw::OtherKind { preset, .. } = flaw {
                        read.n_of_other_preset += 1;
                        read.other_preset = Some(preset);
                    }
                    read.add_flaw(format!("{}:{line}", path.display()), flaw.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { sha256: rows.checksum(), ..read })
    }

    fn add_flaw(&mut self, place: String, flaw: String) {
        self.n_flawed += 1;
        let kind = flaw.replace(|character: char| character.is_ascii_digit(), "");
        if let Some(same) = self.flaws.iter_mut().find(|rows| rows.kind == kind) {
            same.n_rows += 1;
        } else if self.flaws.len() < N_LISTED {
            self.flaws.push(FlawedRows { n_rows: 1, kind, place, flaw });
        }
    }

    /// Refuses rows that can't be trained on. `path` has the rows.
    ///
    /// # Errors
    ///
    /// If there are any: [`SetupError::Flaws`] with their flaws. If all rows have the same cause, the error names it:
    /// [`SetupError::OtherPreset`] or [`SetupError::NotEncoded`].
    pub fn refuse_flaws(&self, path: &Path) -> Result<(), SetupError> {
        let (path, n_rows, n_flawed) = (path.to_owned(), self.n_rows, self.n_flawed);
        if n_flawed == 0 {
            return Ok(());
        }
        if let Some(preset) = self.other_preset
            && self.n_of_other_preset == n_rows
        {
            return Err(SetupError::OtherPreset { path, preset });
        }
        let mut flaws: Vec<String> = self.flaws.iter().map(ToString::to_string).collect();
        match n_flawed - self.flaws.iter().map(|rows| rows.n_rows).sum::<usize>() {
            0 => {}
            n_more => flaws.push(format!("and {n_more} more with other flaws")),
        }
        Err(match self.n_not_encoded == n_rows {
            true => SetupError::NotEncoded { path, flaws },
            false => SetupError::Flaws { path, n_rows, n_flawed, flaws },
        })
    }
}

/// The examples of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowKind {
    /// One example.
    Conversation,
    /// Two examples.
    Pair,
}

impl RowKind {
    fn n_examples(self) -> usize {
        match self {
            Self::Conversation => 1,
            Self::Pair => 2,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::Pair => "pair",
        }
    }
}

/// The examples to train on and those to validate on, from separate files or one. `read` returns the examples of the
/// rows that fit the block.
///
/// # Errors
///
/// The errors of `read`, or if a path has flawed rows or too few that fit.
pub(super) fn parts(
    recipe: &Recipe,
    kind: RowKind,
    mut read: impl FnMut(&Path) -> Result<(Examples, RowsRead), SetupError>,
) -> Result<[Arc<Examples>; 2], SetupError> {
    let DataRecipe { corpus, valid, valid_fraction, .. } = &recipe.data;
    let size = kind.n_examples();
    let mut read_at_least = |path: &str, n_wanted: usize| {
        let (examples, rows) = read(Path::new(path))?;
        rows.refuse_flaws(Path::new(path))?;
        let n = examples.len() / size;
        if n >= n_wanted {
            return Ok(examples);
        }
        let mut needed = rows.needed_block_sizes;
        needed.sort_unstable();
        Err(SetupError::FewRows {
            path: path.to_owned(),
            noun: kind.noun(),
            n_rows: rows.n_rows,
            n_too_long: needed.len(),
            n_wanted,
            block_size: recipe.model.block_size,
            needed_block_size: needed.get(n_wanted - n - 1).copied(),
        })
    };
    let Some(valid) = valid else {
        let mut train = read_at_least(corpus, 2)?;
        let n_last = n_valid(train.len() / size, *valid_fraction);
        let valid = train.split_off_last(size * n_last);
        return Ok([train.into(), valid.into()]);
    };
    Ok([read_at_least(corpus, 1)?.into(), read_at_least(valid, 1)?.into()])
}

/// The number of validation rows: at least one, and not all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
fn n_valid(n: usize, fraction: f64) -> usize {
    ((n as f64 * fraction).round() as usize).clamp(1, n - 1)
}

/// The error and its causes.
fn in_one_line(error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    causes.collect::<Vec<_>>().join(": ")
}
