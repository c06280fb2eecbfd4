//! `/api/runs`: the runs folder and the losses of a run, for the page.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    routing::get,
};
use checkpoint::RunFolder;
use journal::History;
use serde::Serialize;
use tokio::task::spawn_blocking;
use trainer::Split;

use crate::{App, error::ApiError};

/// A curve has at most twice as many points.
const N_BUCKETS: usize = 500;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new().route("/api/runs", get(list)).route("/api/runs/{name}/losses", get(losses))
}

/// A run in the list.
#[derive(Debug, Serialize)]
struct Run {
    name: String,
    /// The last step with metrics or a checkpoint.
    step: Option<u64>,
    max_steps: Option<u64>,
    train_loss: Option<f64>,
    val_loss: Option<f64>,
    best_val_loss: Option<f64>,
    /// In seconds since 1970.
    modified: Option<u64>,
    is_training: bool,
}

/// The loss curves of a run, as points of step and loss.
#[derive(Debug, Serialize)]
struct Losses {
    train: Vec<(u64, f64)>,
    val: Vec<(u64, f64)>,
}

async fn list(State(app): State<Arc<App>>) -> Result<Json<Vec<Run>>, ApiError> {
    let runs = read_files(move || {
        let folders = RunFolder::all(&app.settings.runs)?;
        // A run that is being created or removed may be unreadable for a moment.
        let readable = folders.into_iter().rev().filter_map(|folder| History::open(folder).ok());
        Ok(readable.map(|history| Run::of(&history)).collect())
    });
    Ok(Json(runs.await?))
}

/// Only a name in the list of runs is read, so a request can't name another path.
async fn losses(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Losses>, ApiError> {
    let Path(name) = name?;
    let losses = read_files(move || {
        let named = RunFolder::all(&app.settings.runs)?.into_iter().find(|folder| folder.name() == name);
        let folder = named.ok_or_else(|| ApiError::not_found(format!("there is no run `{name}`")))?;
        let history = History::open(folder).map_err(|error| ApiError::internal(error.to_string()))?;
        let curve = |split| {
            let points = history.metrics_of(split).filter_map(|line| Some((line.step, line.loss?)));
            thin(&points.collect::<Vec<_>>())
        };
        Ok(Losses { train: curve(Split::Train), val: curve(Split::Valid) })
    });
    Ok(Json(losses.await?))
}

impl Run {
    fn of(history: &History) -> Self {
        let last_loss = |split| history.metrics_of(split).filter_map(|line| line.loss).last();
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok().map(|it| it.as_secs());
        let steps = history.metrics.iter().map(|line| line.step);
        Self {
            name: history.folder.name(),
            step: steps.chain(history.state.as_ref().map(|state| state.step)).max(),
            max_steps: history.recipe.as_ref().map(|recipe| recipe.schedule.max_steps),
            train_loss: last_loss(Split::Train),
            val_loss: last_loss(Split::Valid),
            best_val_loss: history.best().and_then(|best| best.loss),
            modified: history.folder.last_modified().and_then(seconds),
            is_training: history.folder.holder().is_some(),
        }
    }
}

/// Runs a function that reads files on a thread that may block.
async fn read_files<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    spawn_blocking(read).await.unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))
}

impl From<checkpoint::Error> for ApiError {
    fn from(error: checkpoint::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// Thins a long curve to its first and last point, and the lowest and the highest of each bucket of neighbours. So no
/// spike is lost.
fn thin(points: &[(u64, f64)]) -> Vec<(u64, f64)> {
    if points.len() <= 2 * N_BUCKETS {
        return points.to_vec();
    }
    let mut kept = Vec::with_capacity(2 * N_BUCKETS + 2);
    kept.extend(points.first());
    for bucket in points.chunks(points.len().div_ceil(N_BUCKETS)) {
        let by_loss = |a: &&(u64, f64), b: &&(u64, f64)| a.1.total_cmp(&b.1);
        let mut extremes = [bucket.iter().min_by(by_loss), bucket.iter().max_by(by_loss)];
        extremes.sort_by_key(|point| point.map(|point| point.0));
        kept.extend(extremes.into_iter().flatten());
    }
    kept.extend(points.last());
    kept.dedup();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_is_thinned_and_keeps_its_spikes() {
        let mut points: Vec<(u64, f64)> = (0..100_000).map(|step| (step, 1.0 / (step + 1) as f64)).collect();
        points[54_321].1 = 900.0;
        points[54_322].1 = -900.0;
        let thinned = thin(&points);
        assert!((900..=2 * N_BUCKETS + 2).contains(&thinned.len()), "{}", thinned.len());
        assert!(thinned.contains(&points[54_321]) && thinned.contains(&points[54_322]));
        assert_eq!((thinned.first(), thinned.last()), (points.first(), points.last()));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0), "each step occurs once, in order");
    }

    #[test]
    fn a_short_curve_is_unchanged() {
        let points: Vec<(u64, f64)> = (0..1000).map(|step| (step, 2.0)).collect();
        assert_eq!(thin(&points), points);
        assert_eq!(thin(&[]), []);
    }
}
