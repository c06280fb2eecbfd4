//! Synchronises ranks with local steps.

use std::time::Duration;

use crate::{Error, active_run::ActiveRun};

/// Synchronises the ranks if that is due after the step just taken. Returns how long this rank had to wait for others.
///
/// # Errors
///
/// If another rank has failed.
pub(crate) fn synchronise_if_due(run: &mut ActiveRun) -> Result<Duration, Error> {
    let Some(local) = &mut run.local_steps else { return Ok(Duration::ZERO) };
    local.step();
    match run.recipe.synchronises_after(run.state.step) {
        true => local.synchronise(&mut run.learner),
        false => Ok(Duration::ZERO),
    }
}
