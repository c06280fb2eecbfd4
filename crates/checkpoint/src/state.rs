//! Checkpoints: the state that training resumes from.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, ErrorKind},
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
};

use ::fs::{atomic, sha256_hex, sha256_of_file};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, RunFolder, error,
    version::{VERSION, updated},
};

/// The file name of a checkpoint's weights.
pub const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const OUTER: &str = "outer.bpk";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// The state of training, apart from weights and optimizer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Optimizer steps done, which also determine the position in the data.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Over all sessions of the run.
    pub elapsed_seconds: f64,
    /// The lowest validation loss so far, in nats per token.
    pub best_loss: Option<f64>,
    /// The step at which `best_loss` was measured.
    pub best_step: u64,
    /// Evaluations since `best_step`.
    #[serde(default)]
    pub evaluations_since_best: u64,
    /// Whether training stopped before the evaluation of this step and the actions that follow it.
    #[serde(default)]
    pub evaluation_pending: bool,
    /// Since the last line of training metrics.
    #[serde(default)]
    pub interval: Interval,
    #[serde(default)]
    pub losses: LossStatistics,
    /// The loss above which the next step counts as a spike.
    #[serde(default)]
    pub spike_limit: Option<f32>,
    /// Steps that did not update the weights because of an unusable loss or gradient.
    #[serde(default)]
    pub skipped_steps: u64,
    /// The current number of consecutive skipped steps with a non-finite loss or gradient.
    #[serde(default)]
    pub not_finite_in_a_row: u64,
    /// SHA-256 of the training and the validation tokens.
    pub data: [String; 2],
}

/// Measurements since the last line of training metrics.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Sum of the losses of steps that updated the weights.
    pub loss_sum: f64,
    /// Number of those steps.
    pub n_losses: u64,
}

/// Exponential moving mean and variance of the training loss.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossStatistics {
    /// Number of losses.
    pub count: u64,
    /// In nats per token.
    pub mean: f64,
    /// In squared nats per token.
    pub variance: f64,
}

/// The weights and optimizer state to write to a checkpoint, in Burn's format. A
/// [deferred](burn_pack::Tensor::deferred) tensor is in memory only while it is written.
pub struct Records {
    pub model: burn_pack::Writer,
    pub optimizer: burn_pack::Writer,
    /// The momentum of outer steps, of runs with local steps.
    pub outer: Option<burn_pack::Writer>,
}

/// A checkpoint on disk whose files matched its manifest when it was opened.
#[derive(Debug)]
pub struct Checkpoint {
    pub state: TrainerState,
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// Reads the record of the weights.
    ///
    /// # Errors
    ///
    /// If the file no longer matches the manifest.
    pub fn model(&self) -> Result<Vec<u8>> {
        record(&self.path, &self.manifest, MODEL)
    }

    /// Reads the record of the optimizer state.
    ///
    /// # Errors
    ///
    /// If the file no longer matches the manifest.
    pub fn optimizer(&self) -> Result<Vec<u8>> {
        record(&self.path, &self.manifest, OPTIMIZER)
    }

    /// Reads the record of the momentum of outer steps; `None` if the run had no local steps.
    ///
    /// # Errors
    ///
    /// If the file no longer matches the manifest.
    pub fn outer(&self) -> Result<Option<Vec<u8>>> {
        let is_listed = self.manifest.files.contains_key(OUTER);
        is_listed.then(|| record(&self.path, &self.manifest, OUTER)).transpose()
    }

    /// Whether an older version wrote it, with transposed matrices. When training resumes from it, some sums are
    /// computed in another order.
    pub fn has_older_format(&self) -> bool {
        self.manifest.version < VERSION
    }
}

/// The checkpoints of a run to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Number of newest checkpoints to keep.
    pub last: NonZeroUsize,
    /// Also keep the checkpoints at multiples of this step.
    pub every: Option<NonZeroU64>,
}

impl Keep {
    /// Whether the checkpoint of this step is kept regardless of its age. Step 0, before training, is not.
    fn is_kept(&self, step: u64) -> bool {
        step > 0 && self.every.is_some_and(|every| step.is_multiple_of(every.get()))
    }
}

/// The format version, and size and SHA-256 of each file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// 0 if absent.
    #[serde(default)]
    version: u32,
    files: BTreeMap<String, FileInfo>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileInfo {
    size_bytes: u64,
    sha256: String,
}

impl FileInfo {
    fn of(contents: &[u8]) -> Self {
        Self { size_bytes: contents.len() as u64, sha256: sha256_hex(contents) }
    }

    /// Reads the file in blocks.
    fn of_file(path: &Path) -> io::Result<Self> {
        let mut size_bytes = 0;
        let sha256 = sha256_of_file(path, |n_read| size_bytes += n_read)?;
        Ok(Self { size_bytes, sha256 })
    }
}

impl RunFolder {
    /// Writes a checkpoint atomically. Then removes older ones according to `keep`, and all with later steps, which
    /// were undone.
    ///
    /// # Errors
    ///
    /// If a file can't be written. The previous checkpoints then still exist.
    pub fn save_checkpoint(&self, records: Records, state: &TrainerState, keep: Keep) -> Result<PathBuf> {
        let step = state.step;
        let path = self.checkpoint_path(step);
        self.create_checkpoints_folder()?;
        atomic::fill_folder(&path, |partial| {
            let mut files = BTreeMap::new();
            let outer = records.outer.map(|record| (OUTER, record));
            for (name, record) in
                [(MODEL, records.model), (OPTIMIZER, records.optimizer)].into_iter().chain(outer)
            {
                files.insert(name.to_owned(), write_record(&partial.join(name), record)?);
            }
            let state = to_json(state);
            atomic::write_file(&partial.join(STATE), &state)?;
            files.insert(STATE.to_owned(), FileInfo::of(&state));
            Ok::<(), Error>(atomic::write_file(
                &partial.join(MANIFEST),
                &to_json(&Manifest { version: VERSION, files }),
            )?)
        })?;

        let (before, beyond): (Vec<_>, Vec<_>) =
            self.checkpoints()?.into_iter().filter(|it| it.step != step).partition(|it| it.step < step);
        let older = before.iter().rev().skip(keep.last.get() - 1);
        let superseded = older.filter(|it| !keep.is_kept(it.step));
        for old in superseded.chain(&beyond) {
            if let Err(error) = atomic::remove_folder(&old.path) {
                tracing::warn!("{error}; trying again at the next checkpoint"); // The new one is complete.
            }
        }
        Ok(path)
    }

    /// Creates the folder of checkpoints if needed, but not the run folder: a removed run is not created again.
    fn create_checkpoints_folder(&self) -> Result<()> {
        let folder = self.checkpoints_path();
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::Gone { path: self.path().to_owned() })
            }
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(error::io("create", &folder)(error))
            }
            Err(_) => Ok(()),
            Ok(()) => Ok(atomic::sync_parent(&folder)?),
        }
    }

    /// Removes incomplete files of an interrupted process. The caller must hold the run's lock.
    ///
    /// # Errors
    ///
    /// If a file can't be removed.
    pub fn remove_unfinished(&self) -> Result<()> {
        atomic::remove_unfinished(self.path())?;
        Ok(atomic::remove_unfinished(&self.checkpoints_path())?)
    }

    /// Opens the newest intact checkpoint. Damaged ones are skipped with a warning. `None` if the run was interrupted
    /// before its first checkpoint.
    ///
    /// # Errors
    ///
    /// If all existing checkpoints are damaged, or one can't be read.
    pub fn load_checkpoint(&self) -> Result<Option<Checkpoint>> {
        let checkpoints = self.checkpoints()?;
        for CheckpointFolder { path, .. } in checkpoints.iter().rev() {
            match read(path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!("{error}; trying the previous checkpoint");
                }
                Err(error) => return Err(error),
            }
        }
        match checkpoints.len() {
            0 => Ok(None),
            n => Err(Error::AllDamaged { path: self.path().to_owned(), n }),
        }
    }

    /// The training state of the newest checkpoint, if there is one. Its other files are not read.
    pub fn trainer_state(&self) -> Option<TrainerState> {
        let paths = self.checkpoints().ok()?;
        let state = fs::read(paths.last()?.path.join(STATE)).ok()?;
        serde_json::from_slice(&state).ok()
    }

    /// The steps of all checkpoints, oldest first.
    ///
    /// # Errors
    ///
    /// If the folder of checkpoints exists and can't be listed.
    pub fn checkpoint_steps(&self) -> Result<Vec<u64>> {
        Ok(self.checkpoints()?.into_iter().map(|it| it.step).collect())
    }

    /// Reads the record of the weights in the checkpoint of a step, in Burn's format.
    ///
    /// # Errors
    ///
    /// If there is no such checkpoint, or it is damaged.
    pub fn checkpoint_weights(&self, step: u64) -> Result<Vec<u8>> {
        let path = self.checkpoint_path(step);
        record(&path, &manifest(&path)?, MODEL)
    }

    /// The folder of the checkpoint of a step.
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.checkpoints_path().join(format!("step-{step:08}"))
    }

    /// The folders of all checkpoints, oldest first.
    fn checkpoints(&self) -> Result<Vec<CheckpointFolder>> {
        let folder = self.checkpoints_path();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(error::io("list", &folder))?,
        };
        let mut checkpoints: Vec<CheckpointFolder> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                // Other files belong to the user.
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some(CheckpointFolder { step, path: entry.path() })
            })
            .collect();
        checkpoints.sort_by_key(|it| it.step);
        Ok(checkpoints)
    }
}

/// The folder of a checkpoint.
struct CheckpointFolder {
    step: u64,
    path: PathBuf,
}

/// Opens a checkpoint and checks each file against the manifest. Ignores the `scheduler.bpk` of older checkpoints,
/// which contains only the step.
fn read(path: &Path) -> Result<Checkpoint> {
    let manifest = manifest(path)?;
    let outer = manifest.files.contains_key(OUTER).then_some(OUTER);
    for name in [MODEL, OPTIMIZER].into_iter().chain(outer) {
        let found = FileInfo::of_file(&path.join(name)).map_err(|error| unreadable(path, name, error))?;
        check(path, &manifest, name, &found)?;
    }
    let state = serde_json::from_slice(&checked(path, &manifest, STATE)?)
        .map_err(|error| damaged(path, format!("{STATE} is invalid: {error}")))?;
    Ok(Checkpoint { state, path: path.to_owned(), manifest })
}

/// Writes a record and flushes it to disk.
fn write_record(path: &Path, record: burn_pack::Writer) -> Result<FileInfo> {
    let write = || {
        record.auto_extension(false).write_to_file_in_place(path).map_err(io_error)?;
        File::options().write(true).open(path)?.sync_all()?; // Windows flushes only writable files.
        FileInfo::of_file(path)
    };
    write().map_err(error::io("write", path))
}

/// Recovers the I/O error from an error of burn-pack, whose text ends in the OS error number.
fn io_error(error: burn_pack::Error) -> io::Error {
    let text = error.to_string();
    let number = text.strip_suffix(')').and_then(|text| text.rsplit_once("(os error "));
    match number.and_then(|(_, number)| number.parse().ok()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(text),
    }
}

fn manifest(path: &Path) -> Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&file(path, MANIFEST)?)
        .map_err(|error| damaged(path, format!("{MANIFEST} is invalid: {error}")))?;
    match manifest.version {
        version if version > VERSION => Err(Error::NewerCheckpoint { path: path.to_owned(), version }),
        _ => Ok(manifest),
    }
}

/// Reads a record after checking it against the manifest, and converts it to the current version.
fn record(path: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
    updated(checked(path, manifest, name)?, manifest.version)
        .map_err(|error| damaged(path, format!("{name} is not a valid record: {error}")))
}

/// Reads a file of a checkpoint and checks it against the manifest.
fn checked(path: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
    let contents = file(path, name)?;
    check(path, manifest, name, &FileInfo::of(&contents))?;
    Ok(contents)
}

/// Fails if a file does not match the manifest.
fn check(path: &Path, manifest: &Manifest, name: &str, found: &FileInfo) -> Result<()> {
    match manifest.files.get(name) {
        Some(facts) if facts == found => Ok(()),
        Some(_) => Err(damaged(path, format!("{name} does not match the manifest"))),
        None => Err(damaged(path, format!("{MANIFEST} does not list {name}"))),
    }
}

fn file(path: &Path, name: &str) -> Result<Vec<u8>> {
    fs::read(path.join(name)).map_err(|error| unreadable(path, name, error))
}

fn unreadable(path: &Path, name: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => damaged(path, format!("{name} is missing")),
        _ => error::io("read", &path.join(name))(error), // The file may still be intact.
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Damaged { path: path.to_owned(), reason }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("states and manifests can be serialised");
    json.push(b'\n');
    json
}

#[cfg(test)]
mod tests {
    use burn_pack::{Bytes, DType, Tensor, Writer};
    use proptest::{prelude::*, sample::Index};

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

        #[test]
        fn damage_anywhere_is_an_error_that_names_the_checkpoint(
            file in prop::sample::select(vec![MODEL, OPTIMIZER, OUTER, STATE, MANIFEST]),
            (from, to) in any::<(Index, Index)>(),
            put in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let (_parent, run) = run();
            let path = save(&run, 5).unwrap();
            let before = fs::read(path.join(file)).unwrap();
            let (from, to) = (from.index(before.len()), to.index(before.len()));
            let mut after = before.clone();
            after.splice(from.min(to)..from.max(to), put);
            fs::write(path.join(file), &after).unwrap();
            match read(&path) {
                Ok(read) => {
                    // Only white space of the manifest may change.
                    prop_assert!(before == after || file == MANIFEST);
                    prop_assert_eq!(Contents::of(&read), contents(5));
                }
                Err(error) => {
                    let is_damage = matches!(error, Error::Damaged { .. });
                    prop_assert!(is_damage);
                    prop_assert!(error.to_string().contains("step-00000005"), "{}", error);
                }
            }
        }
    }

    /// The contents of a checkpoint.
    #[derive(Debug, PartialEq)]
    struct Contents {
        model: Vec<u8>,
        optimizer: Vec<u8>,
        outer: Vec<u8>,
        state: TrainerState,
    }

    impl Contents {
        fn of(checkpoint: &Checkpoint) -> Self {
            Self {
                model: checkpoint.model().unwrap(),
                optimizer: checkpoint.optimizer().unwrap(),
                outer: checkpoint.outer().unwrap().unwrap(),
                state: checkpoint.state.clone(),
            }
        }
    }

    /// A record with one deferred tensor.
    fn record(name: &str, bytes: &'static [u8]) -> Writer {
        let read = move || Ok(Bytes::from_bytes_vec(bytes.to_vec()));
        Writer::new(vec![Tensor::deferred(
            name.to_owned(),
            DType::U8,
            [bytes.len()],
            None,
            bytes.len(),
            read,
        )])
    }

    fn records() -> Records {
        Records {
            model: record("weight", &[1, 2, 3]),
            optimizer: record("moment", &[4; 100]),
            outer: Some(record("momentum", &[5; 10])),
        }
    }

    fn state(step: u64) -> TrainerState {
        TrainerState { step, tokens: 10 * step, elapsed_seconds: 0.5, ..TrainerState::default() }
    }

    /// The expected contents of the checkpoint of this step.
    fn contents(step: u64) -> Contents {
        let Records { model, optimizer, outer } = records();
        let [model, optimizer, outer] =
            [model, optimizer, outer.unwrap()].map(|record| record.into_bytes().unwrap().to_vec());
        Contents { model, optimizer, outer, state: state(step) }
    }

    fn newest_contents(run: &RunFolder) -> Contents {
        Contents::of(&run.load_checkpoint().unwrap().unwrap())
    }

    fn run() -> (tempfile::TempDir, RunFolder) {
        let parent = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&parent.path().join("run")).unwrap();
        (parent, run)
    }

    fn save(run: &RunFolder, step: u64) -> Result<PathBuf> {
        run.save_checkpoint(
            records(),
            &state(step),
            Keep { last: NonZeroUsize::new(2).unwrap(), every: None },
        )
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_checkpoint_of_a_newer_version_is_refused_but_not_damaged() {
        let (_parent, run) = run();
        save(&run, 4).unwrap();
        let manifest = save(&run, 5).unwrap().join(MANIFEST);
        let text = fs::read_to_string(&manifest).unwrap();
        let (now, next) = (format!("\"version\": {VERSION}"), format!("\"version\": {}", VERSION + 1));
        assert!(text.contains(&now), "{text}");
        fs::write(&manifest, text.replace(&now, &next)).unwrap();
        let error = run.load_checkpoint().unwrap_err().to_string();
        assert!(error.contains("step-00000005") && error.contains("newer version"), "{error}");
    }

    #[test]
    fn a_full_disk_is_recognised_while_writing_a_record() {
        let error = write_record(Path::new("/dev/full"), record("weight", &[1])).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    }

    #[test]
    fn the_schedule_of_an_older_checkpoint_is_ignored() {
        let (_parent, run) = run();
        let path = save(&run, 5).unwrap();
        fs::write(path.join("scheduler.bpk"), [1]).unwrap();
        let text = fs::read_to_string(path.join(MANIFEST)).unwrap();
        let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
        manifest.files.insert("scheduler.bpk".to_owned(), FileInfo { size_bytes: 9, sha256: String::new() });
        fs::write(path.join(MANIFEST), to_json(&manifest)).unwrap();
        assert_eq!(newest_contents(&run), contents(5));
    }

    #[test]
    fn the_newest_checkpoint_is_loaded() {
        let (_parent, run) = run();
        for step in [5, 10, 1000] {
            save(&run, step).unwrap();
        }
        assert_eq!(newest_contents(&run), contents(1000));
        assert_eq!(run.checkpoints().unwrap().len(), 2);
    }

    #[test]
    fn a_damaged_checkpoint_is_skipped() {
        let (_parent, run) = run();
        save(&run, 5).unwrap();
        let newest = save(&run, 10).unwrap();
        fs::write(newest.join(OPTIMIZER), vec![5; 100]).unwrap();
        assert_eq!(newest_contents(&run), contents(5));
    }

    #[test]
    fn an_incomplete_checkpoint_is_ignored() {
        let (_parent, run) = run();
        save(&run, 5).unwrap();
        let partial = run.checkpoints_path().join("step-00000010.partial");
        fs::create_dir(&partial).unwrap();
        fs::write(partial.join(MODEL), [1]).unwrap();
        assert_eq!(newest_contents(&run), contents(5));
        save(&run, 10).unwrap();
        assert!(!partial.exists());
    }

    #[test]
    fn other_folders_are_left_alone() {
        let (_parent, run) = run();
        save(&run, 5).unwrap();
        let mine = run.checkpoints_path().join("zz-mine");
        fs::create_dir(&mine).unwrap();
        for step in [99_999_999, 100_000_000, 100_000_001] {
            save(&run, step).unwrap();
        }
        assert!(mine.exists());
        assert_eq!(run.checkpoints().unwrap().len(), 2);
        assert_eq!(run.load_checkpoint().unwrap().unwrap().state.step, 100_000_001);
    }

    #[test]
    fn checkpoints_of_undone_steps_are_removed() {
        let (_parent, run) = run();
        save(&run, 16).unwrap();
        let undone = save(&run, 20).unwrap();
        fs::write(undone.join(MODEL), [0]).unwrap();
        // Training resumed from step 16 and stopped at 18: the checkpoint of step 20 must not count as the newest.
        run.save_checkpoint(records(), &state(18), Keep { last: NonZeroUsize::MIN, every: None }).unwrap();
        assert!(!undone.exists());
        assert_eq!(run.checkpoints().unwrap().len(), 1);
        assert_eq!(newest_contents(&run), contents(18));
    }

    #[test]
    fn checkpoints_at_multiples_of_every_are_kept() {
        let (_parent, run) = run();
        let keep = Keep { last: NonZeroUsize::MIN, every: NonZeroU64::new(20) };
        for step in [0, 10, 20, 30, 40, 50] {
            run.save_checkpoint(records(), &state(step), keep).unwrap();
        }
        assert_eq!(run.checkpoint_steps().unwrap(), [20, 40, 50]);
        assert_eq!(run.checkpoint_weights(20).unwrap(), contents(20).model);
        let error = run.checkpoint_weights(30).unwrap_err().to_string();
        assert!(error.contains("step-00000030"), "{error}");
        fs::write(run.checkpoint_path(40).join(MODEL), [1, 2, 4]).unwrap();
        assert!(matches!(run.checkpoint_weights(40), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_checkpoint_moved_aside_and_not_replaced_is_restored() {
        let (_parent, run) = run();
        let only = save(&run, 5).unwrap();
        fs::rename(&only, run.checkpoints_path().join("step-00000005.old")).unwrap();
        fs::create_dir(run.checkpoints_path().join("step-00000005.partial")).unwrap();
        run.remove_unfinished().unwrap();
        assert_eq!(newest_contents(&run), contents(5));
    }

    #[test]
    fn no_checkpoint_differs_from_all_damaged() {
        let (_parent, run) = run();
        assert!(run.load_checkpoint().unwrap().is_none());
        let only = save(&run, 5).unwrap();
        fs::write(only.join(MANIFEST), "{").unwrap();
        let error = run.load_checkpoint().unwrap_err().to_string();
        assert!(error.contains(&run.path().display().to_string()), "{error}");
    }

    #[test]
    fn a_removed_run_is_not_created_again() {
        let (_parent, run) = run();
        fs::remove_dir_all(run.path()).unwrap();
        let error = save(&run, 5).unwrap_err();
        assert!(matches!(error, Error::Gone { .. }), "{error}");
        assert!(!run.path().exists());
    }

    #[test]
    fn unfinished_writes_are_removed_and_nothing_else() {
        let (_parent, run) = run();
        save(&run, 5).unwrap();
        let unfinished = ["step-00000010.partial", "step-00000005.old", "step-00000004.removed"];
        for name in unfinished {
            fs::create_dir(run.checkpoints_path().join(name)).unwrap();
        }
        let theirs = [run.path().join("partial"), run.path().join("notes.partial.txt")];
        theirs.iter().for_each(|path| fs::write(path, "kept").unwrap());
        let partial = run.path().join("model.safetensors.partial");
        fs::write(&partial, [1]).unwrap();
        run.remove_unfinished().unwrap();
        assert!(!partial.exists());
        assert!(theirs.iter().all(|path| path.exists()));
        assert_eq!(fs::read_dir(run.checkpoints_path()).unwrap().count(), 1);
    }
}
