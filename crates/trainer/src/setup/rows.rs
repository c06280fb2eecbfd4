//! Reads the rows of chat data, collects those that can't be trained on, and divides the others into two parts.

use std::{error::Error, iter, path::Path, sync::Arc};

use chat::data::{Located, Reader};
use dataset::Examples;

use super::error::SetupError;
use crate::DataRecipe;

/// Flawed rows that are listed.
const N_LISTED: usize = 20;

/// The rows of a file or folder that were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsRead {
    pub n_rows: usize,
    /// Rows that can't be trained on.
    pub n_flawed: usize,
    /// The first of them, with their places.
    flaws: Vec<String>,
    /// SHA-256 of the bytes.
    pub sha256: String,
}

impl RowsRead {
    /// Passes each row to `add`, which encodes it. Rows with flaws, and those that can't be encoded, are counted.
    ///
    /// # Errors
    ///
    /// If a file can't be read.
    pub(super) fn read<T>(
        mut rows: Reader<T>,
        mut add: impl FnMut(&Located<T>) -> chat::Result<()>,
    ) -> Result<Self, SetupError> {
        let mut read = Self::default();
        for row in rows.by_ref() {
            let added = row
                .map_err(|error| (None, error))
                .and_then(|row| add(&row).map_err(|error| (Some(row.to_string()), error)));
            match added {
                Ok(()) => {}
                Err((_, error @ chat::Error::Read { .. })) => return Err(error.into()),
                Err((place, error)) => {
                    read.n_flawed += 1;
                    if read.flaws.len() < N_LISTED {
                        read.flaws.push(in_one_line(place, &error));
                    }
                }
            }
            read.n_rows += 1;
        }
        Ok(Self { sha256: rows.checksum(), ..read })
    }

    /// Refuses rows that can't be trained on. `path` has the rows.
    ///
    /// # Errors
    ///
    /// [`SetupError::Flaws`] with the first of them, if there are any.
    pub fn refuse_flaws(self, path: &Path) -> Result<(), SetupError> {
        let Self { n_rows, n_flawed, flaws, .. } = self;
        match n_flawed {
            0 => Ok(()),
            _ => Err(SetupError::Flaws { path: path.to_owned(), n_rows, n_flawed, flaws }),
        }
    }
}

/// The examples to train on and those to validate on, from separate files or one. `read` returns `size` examples for
/// each row that fits the block.
///
/// # Errors
///
/// The errors of `read`, or the result of `few` for a path with too few rows.
pub(super) fn parts(
    data: &DataRecipe,
    size: usize,
    mut read: impl FnMut(&str) -> Result<Examples, SetupError>,
    few: impl Fn(String, usize) -> SetupError,
) -> Result<[Arc<Examples>; 2], SetupError> {
    let DataRecipe { corpus, valid, valid_fraction, .. } = data;
    let mut train = read(corpus)?;
    let valid_part = match valid {
        Some(path) => read(path)?,
        None => {
            let n = train.len() / size;
            if n < 2 {
                return Err(few(corpus.clone(), n));
            }
            train.split_off_last(size * n_valid(n, *valid_fraction))
        }
    };
    for (part, path) in [(&train, Some(corpus)), (&valid_part, valid.as_ref())] {
        if let Some(path) = path.filter(|_| part.is_empty()) {
            return Err(few(path.clone(), 0));
        }
    }
    Ok([train.into(), valid_part.into()])
}

/// The number of validation rows: at least one, and not all.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
fn n_valid(n: usize, fraction: f64) -> usize {
    ((n as f64 * fraction).round() as usize).clamp(1, n - 1)
}

/// The error with its place, if its message lacks that, and its causes.
fn in_one_line(place: Option<String>, error: &dyn Error) -> String {
    let causes = iter::successors(Some(error), |&error| error.source()).map(ToString::to_string);
    place.into_iter().chain(causes).collect::<Vec<_>>().join(": ")
}
