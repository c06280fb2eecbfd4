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

/// The name of the file of weights of a checkpoint.
pub const MODEL: &str = "model.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const MANIFEST: &str = "manifest.json";

/// Where training stands, beside weights and optimizer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerState {
    /// Number of optimizer steps done, which is also the position in the data.
    pub step: u64,
    /// Tokens trained on.
    pub tokens: u64,
    /// Seconds of training, over all sessions of the run.
    pub elapsed_seconds: f64,
    /// The lowest validation loss so far, in nats per token.
    pub best_loss: Option<f64>,
    /// The step it was measured after.
    pub best_step: u64,
    /// Evaluations since that one.
    #[serde(default)]
    pub evaluations_since_best: u64,
    /// Whether the step was stopped before its evaluation, and what comes after that, was done.
    #[serde(default)]
    pub evaluation_pending: bool,
    /// The steps since the last line of training metrics.
    #[serde(default)]
    pub interval: Interval,
    /// What the losses of the steps so far were like.
    #[serde(default)]
    pub losses: LossStatistics,
    /// The loss above which the next step is a spike.
    #[serde(default)]
    pub spike_limit: Option<f32>,
    /// Steps that left the weights as they were, because their loss or gradient was not to be used.
    #[serde(default)]
    pub skipped_steps: u64,
    /// How many of the last steps, in a row, were among them because something was not finite.
    #[serde(default)]
    pub not_finite_in_a_row: u64,
    /// Sha256 of the tokens that are trained on and of those validated on.
    pub data: [String; 2],
}

/// What has been measured since the last line of training metrics.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// The sum of the losses of the steps that changed the weights.
    pub loss_sum: f64,
    /// The number of these steps.
    pub n_losses: u64,
}

/// Mean and variance of the losses of training steps, of which old ones count less and less.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossStatistics {
    /// Losses seen.
    pub count: u64,
    /// In nats per token.
    pub mean: f64,
    /// In the square of that.
    pub variance: f64,
}

/// Weights and optimizer state on their way to a checkpoint, in Burn's own format. Each tensor is in memory while it is
/// written, and no longer, if it is a [deferred](burn_pack::Tensor::deferred) one.
pub struct Records {
    /// The weights.
    pub model: burn_pack::Writer,
    /// The optimizer's moments.
    pub optimizer: burn_pack::Writer,
}

/// A checkpoint on disk, of which each file was what its manifest says.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where training stands.
    pub state: TrainerState,
    path: PathBuf,
    manifest: Manifest,
}

impl Checkpoint {
    /// The record of the weights.
    ///
    /// # Errors
    ///
    /// If the file is no longer what was written.
    pub fn model(&self) -> Result<Vec<u8>> {
        record(&self.path, &self.manifest, MODEL)
    }

    /// The record of the optimizer's moments.
    ///
    /// # Errors
    ///
    /// If the file is no longer what was written.
    pub fn optimizer(&self) -> Result<Vec<u8>> {
        record(&self.path, &self.manifest, OPTIMIZER)
    }

    /// Whether an older version wrote it, with matrices the other way round. Training that resumes from it takes some sums
    /// in another order.
    pub fn is_of_older_version(&self) -> bool {
        self.manifest.version < VERSION
    }
}

/// Which checkpoints of a run are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Number of newest ones.
    pub last: NonZeroUsize,
    /// Those of each multiple of so many steps, in addition.
    pub every: Option<NonZeroU64>,
}

impl Keep {
    /// Whether a checkpoint of this step is kept however old it is. That of step 0 has learnt nothing.
    fn is_kept(&self, step: u64) -> bool {
        step > 0 && self.every.is_some_and(|every| step.is_multiple_of(every.get()))
    }
}

/// The version, and size and sha256 of each file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// 0 where the manifest does not say.
    #[serde(default)]
    version: u32,
    files: BTreeMap<String, FileFacts>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileFacts {
    size_bytes: u64,
    sha256: String,
}

impl FileFacts {
    fn of(contents: &[u8]) -> Self {
        Self { size_bytes: contents.len() as u64, sha256: sha256_hex(contents) }
    }

    /// Of a file, which is in memory a piece at a time.
    fn of_file(path: &Path) -> io::Result<Self> {
        let mut size_bytes = 0;
        let sha256 = sha256_of_file(path, |n_read| size_bytes += n_read)?;
        Ok(Self { size_bytes, sha256 })
    }
}

impl RunFolder {
    /// Writes a checkpoint as a whole or not at all, then removes those before it that are not to be kept, and those
    /// beyond it, which are of steps that were undone.
    ///
    /// # Errors
    ///
    /// If a file can't be written; the checkpoints before are then still there.
    pub fn save_checkpoint(&self, records: Records, state: &TrainerState, keep: Keep) -> Result<PathBuf> {
        let step = state.step;
        let path = self.checkpoint_path(step);
        self.make_checkpoints_folder()?;
        atomic::fill_folder(&path, |partial| {
            let mut files = BTreeMap::new();
            for (name, record) in [(MODEL, records.model), (OPTIMIZER, records.optimizer)] {
                files.insert(name.to_owned(), write_record(&partial.join(name), record)?);
            }
            let state = to_json(state);
            atomic::write_file(&partial.join(STATE), &state)?;
            files.insert(STATE.to_owned(), FileFacts::of(&state));
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
            if let Err(error) = atomic::remove_whole(&old.path) {
                tracing::warn!("{error}; the next checkpoint will try again"); // The new one is there.
            }
        }
        Ok(path)
    }

    /// Makes the folder of checkpoints if need be, but not the run's own: a run that is gone is not made anew.
    fn make_checkpoints_folder(&self) -> Result<()> {
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

    /// Removes what a process that was cut off has left half written. Only who holds the run's lock may.
    ///
    /// # Errors
    ///
    /// If it can't be removed.
    pub fn remove_unfinished(&self) -> Result<()> {
        atomic::remove_unfinished(self.path())?;
        Ok(atomic::remove_unfinished(&self.checkpoints_path())?)
    }

    /// The newest checkpoint that is whole; none if the run was cut off before its first. A damaged one is passed over
    /// with a warning.
    ///
    /// # Errors
    ///
    /// If there are checkpoints, and all are damaged, or the newest can't be read at this time.
    pub fn load_checkpoint(&self) -> Result<Option<Checkpoint>> {
        let checkpoints = self.checkpoints()?;
        for Numbered { path, .. } in checkpoints.iter().rev() {
            match read(path) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error @ Error::Damaged { .. }) => {
                    tracing::warn!("{error}; it is passed over for the one before");
                }
                Err(error) => return Err(error),
            }
        }
        match checkpoints.len() {
            0 => Ok(None),
            n => Err(Error::AllDamaged { path: self.path().to_owned(), n }),
        }
    }

    /// Where training stands by the newest checkpoint, if there is one; its other files are not read.
    pub fn trainer_state(&self) -> Option<TrainerState> {
        let paths = self.checkpoints().ok()?;
        let state = fs::read(paths.last()?.path.join(STATE)).ok()?;
        serde_json::from_slice(&state).ok()
    }

    /// The steps of all checkpoints, oldest first.
    ///
    /// # Errors
    ///
    /// If the folder of checkpoints is there and can't be listed.
    pub fn checkpoint_steps(&self) -> Result<Vec<u64>> {
        Ok(self.checkpoints()?.into_iter().map(|it| it.step).collect())
    }

    /// The record of the weights in the checkpoint of a step, in Burn's own format.
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
    fn checkpoints(&self) -> Result<Vec<Numbered>> {
        let folder = self.checkpoints_path();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(error::io("list", &folder))?,
        };
        let mut checkpoints: Vec<Numbered> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                // Whatever else a person keeps there is theirs.
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some(Numbered { step, path: entry.path() })
            })
            .collect();
        checkpoints.sort_by_key(|it| it.step);
        Ok(checkpoints)
    }
}

/// A checkpoint by its name.
struct Numbered {
    step: u64,
    path: PathBuf,
}

/// Opens a checkpoint's folder, and checks each file against the manifest. Older ones have a `scheduler.bpk`, which says no
/// more than the step and is not read.
fn read(path: &Path) -> Result<Checkpoint> {
    let manifest = manifest(path)?;
    for name in [MODEL, OPTIMIZER] {
        let found = FileFacts::of_file(&path.join(name)).map_err(|error| unreadable(path, name, error))?;
        check(path, &manifest, name, &found)?;
    }
    let state = serde_json::from_slice(&checked(path, &manifest, STATE)?)
        .map_err(|error| damaged(path, format!("{STATE} is not understood: {error}")))?;
    Ok(Checkpoint { state, path: path.to_owned(), manifest })
}

/// Writes a record, down to the disk.
fn write_record(path: &Path, record: burn_pack::Writer) -> Result<FileFacts> {
    let write = || {
        record.auto_extension(false).write_to_file_in_place(path).map_err(of_system)?;
        File::options().write(true).open(path)?.sync_all()?; // Windows flushes only what can be written.
        FileFacts::of_file(path)
    };
    write().map_err(error::io("write", path))
}

/// The error of the system behind one of burn-pack, which keeps no more of it than a text that ends in its number.
fn of_system(error: burn_pack::Error) -> io::Error {
    let text = error.to_string();
    let number = text.strip_suffix(')').and_then(|text| text.rsplit_once("(os error "));
    match number.and_then(|(_, number)| number.parse().ok()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(text),
    }
}

fn manifest(path: &Path) -> Result<Manifest> {
    let manifest: Manifest = serde_json::from_slice(&file(path, MANIFEST)?)
        .map_err(|error| damaged(path, format!("{MANIFEST} is not understood: {error}")))?;
    match manifest.version {
        version if version > VERSION => Err(Error::NewerCheckpoint { path: path.to_owned(), version }),
        _ => Ok(manifest),
    }
}

/// A record of a checkpoint, if its file is what the manifest says, as this version has it.
fn record(path: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
    updated(checked(path, manifest, name)?, manifest.version)
        .map_err(|error| damaged(path, format!("{name} is no record: {error}")))
}

/// A file of a checkpoint, if it is what the manifest says.
fn checked(path: &Path, manifest: &Manifest, name: &str) -> Result<Vec<u8>> {
    let contents = file(path, name)?;
    check(path, manifest, name, &FileFacts::of(&contents))?;
    Ok(contents)
}

/// Compares a file with the manifest.
fn check(path: &Path, manifest: &Manifest, name: &str, found: &FileFacts) -> Result<()> {
    match manifest.files.get(name) {
        Some(facts) if facts == found => Ok(()),
        Some(_) => Err(damaged(path, format!("{name} is not what was written"))),
        None => Err(damaged(path, format!("{MANIFEST} does not list {name}"))),
    }
}

fn file(path: &Path, name: &str) -> Result<Vec<u8>> {
    fs::read(path.join(name)).map_err(|error| unreadable(path, name, error))
}

fn unreadable(path: &Path, name: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => damaged(path, format!("{name} is missing")),
        _ => error::io("read", &path.join(name))(error), // It may be whole all the same.
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Damaged { path: path.to_owned(), reason }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(value).expect("numbers, strings and maps become JSON");
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
            file in prop::sample::select(vec![MODEL, OPTIMIZER, STATE, MANIFEST]),
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
                    // Spaces between words of the manifest may change, and nothing else.
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

    /// All that a checkpoint says.
    #[derive(Debug, PartialEq)]
    struct Contents {
        model: Vec<u8>,
        optimizer: Vec<u8>,
        state: TrainerState,
    }

    impl Contents {
        fn of(checkpoint: &Checkpoint) -> Self {
            Self {
                model: checkpoint.model().unwrap(),
                optimizer: checkpoint.optimizer().unwrap(),
                state: checkpoint.state.clone(),
            }
        }
    }

    /// A record with one tensor, read when it is written.
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
        Records { model: record("weight", &[1, 2, 3]), optimizer: record("moment", &[4; 100]) }
    }

    fn state(step: u64) -> TrainerState {
        TrainerState { step, tokens: 10 * step, elapsed_seconds: 0.5, ..TrainerState::default() }
    }

    /// What a checkpoint of this step comes back as.
    fn contents(step: u64) -> Contents {
        let [model, optimizer] =
            [records().model, records().optimizer].map(|record| record.into_bytes().unwrap());
        Contents { model: model.to_vec(), optimizer: optimizer.to_vec(), state: state(step) }
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
    fn a_checkpoint_of_a_newer_version_is_refused_and_not_taken_for_damaged() {
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
    fn a_record_for_which_there_is_no_room_says_so() {
        let error = write_record(Path::new("/dev/full"), record("weight", &[1])).unwrap_err();
        assert!(matches!(error, Error::DiskFull { .. }), "{error}");
    }

    #[test]
    fn the_schedule_of_an_older_checkpoint_is_passed_over() {
        let (_parent, run) = run();
        let path = save(&run, 5).unwrap();
        fs::write(path.join("scheduler.bpk"), [1]).unwrap();
        let text = fs::read_to_string(path.join(MANIFEST)).unwrap();
        let mut manifest: Manifest = serde_json::from_str(&text).unwrap();
        manifest.files.insert("scheduler.bpk".to_owned(), FileFacts { size_bytes: 9, sha256: String::new() });
        fs::write(path.join(MANIFEST), to_json(&manifest)).unwrap();
        assert_eq!(newest_contents(&run), contents(5));
    }

    #[test]
    fn the_newest_checkpoint_comes_back_whole() {
        let (_parent, run) = run();
        for step in [5, 10, 1000] {
            save(&run, step).unwrap();
        }
        assert_eq!(newest_contents(&run), contents(1000));
        assert_eq!(run.checkpoints().unwrap().len(), 2);
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over() {
        let (_parent, run) = run();
        save(&run, 5).unwrap();
        let newest = save(&run, 10).unwrap();
        fs::write(newest.join(OPTIMIZER), vec![5; 100]).unwrap();
        assert_eq!(newest_contents(&run), contents(5));
    }

    #[test]
    fn a_half_written_checkpoint_is_not_seen() {
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
    fn checkpoints_beyond_the_newest_are_of_steps_that_were_undone() {
        let (_parent, run) = run();
        save(&run, 16).unwrap();
        let undone = save(&run, 20).unwrap();
        fs::write(undone.join(MODEL), [0]).unwrap();
        // It went on from 16 and was stopped at 18: keeping "the newest two" must not mean 20 and 18.
        run.save_checkpoint(records(), &state(18), Keep { last: NonZeroUsize::MIN, every: None }).unwrap();
        assert!(!undone.exists());
        assert_eq!(run.checkpoints().unwrap().len(), 1);
        assert_eq!(newest_contents(&run), contents(18));
    }

    #[test]
    fn checkpoints_of_every_so_many_steps_stay() {
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
    fn what_was_put_aside_and_not_replaced_is_put_back() {
        let (_parent, run) = run();
        let only = save(&run, 5).unwrap();
        fs::rename(&only, run.checkpoints_path().join("step-00000005.old")).unwrap();
        fs::create_dir(run.checkpoints_path().join("step-00000005.partial")).unwrap();
        run.remove_unfinished().unwrap();
        assert_eq!(newest_contents(&run), contents(5));
    }

    #[test]
    fn none_is_told_from_all_damaged() {
        let (_parent, run) = run();
        assert!(run.load_checkpoint().unwrap().is_none());
        let only = save(&run, 5).unwrap();
        fs::write(only.join(MANIFEST), "{").unwrap();
        let error = run.load_checkpoint().unwrap_err().to_string();
        assert!(error.contains(&run.path().display().to_string()), "{error}");
    }

    #[test]
    fn a_run_that_is_gone_is_not_made_anew() {
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
        let cut_off = run.path().join("model.safetensors.partial");
        fs::write(&cut_off, [1]).unwrap();
        run.remove_unfinished().unwrap();
        assert!(!cut_off.exists());
        assert!(theirs.iter().all(|path| path.exists()));
        assert_eq!(fs::read_dir(run.checkpoints_path()).unwrap().count(), 1);
    }
}
