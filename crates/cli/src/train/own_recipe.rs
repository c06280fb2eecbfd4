//! Checks the recipe named on the command line when a run is resumed.

use std::{fs, path::Path, time::SystemTime};

use checkpoint::RunFolder;
use console::warn;
use journal::History;
use trainer::preset;

use crate::usage::bail_usage;

/// Accepts the recipe that a run was started with, by name or path, and the run's own `recipe.toml`. The latter is used
/// in either case.
pub(super) fn check_own_recipe(folder: &RunFolder, named: &str) -> anyhow::Result<()> {
    let is_same_file = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        // A relative path may not resolve from this working directory, so only the file names are compared.
        (Err(_), _) => one.file_name() == other.file_name(),
        _ => false,
    };
    let (own_file, named_file) = (folder.recipe_path(), Path::new(named));
    let history = History::open(folder.clone())?;
    let Some(started_with) = history.recipe_name() else { return Ok(()) };
    let is_own = started_with == named
        || is_same_file(&own_file, named_file)
        || (preset(started_with).is_none() && is_same_file(Path::new(started_with), named_file));
    let path = folder.path().display();
    if !is_own {
        bail_usage!(
            "{path} was started with the recipe {started_with}, not {named}. Omit the recipe to resume the run, or --resume to \
             start a new one"
        );
    }
    let started = history.sessions.first().map_or(0, |session| session.started);
    let changed = fs::metadata(named_file).and_then(|file| file.modified()).ok();
    let changed = changed.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    if preset(named).is_none()
        && !is_same_file(&own_file, named_file)
        && changed.is_some_and(|time| time.as_secs() > started)
    {
        warn(format_args!(
            "{named} was changed after {path} was started. The run uses its own {}; change a key with --set",
            own_file.display()
        ));
    }
    Ok(())
}
