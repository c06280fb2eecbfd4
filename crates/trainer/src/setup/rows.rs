//! Reads the rows of chat data, refuses those that can't be trained on, and divides them into two parts.

use std::{error::Error, iter, path::Path, sync::Arc};

use chat::data::Reader;
use dataset::Examples;

use super::error::SetupError;
use crate::DataRecipe;

/// Rows with errors that are listed.
const N_LISTED: usize = 20;

/// Passes each row to `add`, which encodes it.
///
/// # Errors
///
/// If a file can't be read, or rows have flaws or can't be encoded: these are listed together.
pub(super) fn read_rows<T>(
    path: &Path,
    rows: Reader<T>,
    mut add: impl FnMut(&T) -> chat::Result<()>,
) -> Result<(), SetupError> {
    let (mut flaws, mut n_flawed) = (Vec::new(), 0);
    for row in rows {
        let added = row
            .map_err(|error| (None, error))
            .and_then(|row| add(&row.value).map_err(|error| (Some(row.to_string()), error)));
        match added {
            Ok(()) => {}
            Err((_, error @ chat::Error::Read { .. })) => return Err(error.into()),
            Err((place, error)) => {
                n_flawed += 1;
                if flaws.len() < N_LISTED {
                    flaws.push(in_one_line(place, &error));
                }
            }
        }
    }
    match flaws.is_empty() {
        true => Ok(()),
        false => Err(SetupError::Flaws { path: path.to_owned(), n_flawed, flaws }),
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
