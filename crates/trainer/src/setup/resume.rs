//! A run to resume: its checkpoint, the changes of its recipe, and its text, which may have moved and is to be the same.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use burn::prelude::Device;
use checkpoint::{Checkpoint, RunFolder, RunLock, TrainerState};
use dataset::{Corpus, OnProgress, Prepared, Rules, TokenizerChoice};

use super::{
    data::{checksums, prepare_same_data},
    error::SetupError,
    request::{RecipeRequest, parse_recipe},
};
use crate::{
    Changes, DataRecipe, Recipe, Training,
    event::ending,
    metrics::{best_evaluation, read_metrics},
};

/// A run that is not being trained.
pub struct StoppedRun {
    /// Its folder.
    pub folder: RunFolder,
    /// The recipe that it has so far.
    pub recipe: Recipe,
}

/// What is to be other when a run resumes.
#[derive(Debug, Clone, Default)]
pub struct ResumeRequest {
    /// `section.key=value` each.
    pub overrides: Vec<String>,
    /// How often the text is to be read, in place of a number of steps.
    pub epochs: Option<f64>,
    /// Devices that are to train together.
    pub n_devices: usize,
}

/// What a run resumes with.
pub struct ResumePlan {
    /// The recipe.
    pub recipe: Recipe,
    /// What of it was changed.
    pub changes: Changes,
    /// The tokens.
    pub prepared: Prepared,
    /// The rules by which the text was read: older ones if the newest make another text of it.
    pub rules: Rules,
}

/// A run that is held by this process, with the checkpoint to resume.
pub struct HeldRun {
    folder: RunFolder,
    lock: RunLock,
    checkpoint: Option<Checkpoint>,
}

/// Weights that were put aside.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptWeights {
    /// Where they are.
    pub path: PathBuf,
    /// Their step.
    pub step: u64,
    /// Their validation loss, in nats per token.
    pub loss: f64,
}

impl StoppedRun {
    /// Reads the recipe of a run.
    ///
    /// # Errors
    ///
    /// If it was not trained here, or its recipe can't be read.
    pub fn open(folder: RunFolder) -> Result<Self, SetupError> {
        let path = folder.recipe_path();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SetupError::NotTrainedHere { path: folder.path().to_owned() });
            }
            text => text.map_err(|source| SetupError::ReadRecipe { path: path.clone(), source })?,
        };
        let recipe = parse_recipe(&path.display().to_string(), &text, &[])?;
        let recipe = with_vocabulary(&folder, recipe)?;
        Ok(Self { folder, recipe })
    }

    /// The recipe that it is to resume with, as far as it is known without its text.
    ///
    /// # Errors
    ///
    /// If it is invalid.
    pub fn recipe_with(&self, request: &ResumeRequest) -> Result<Recipe, SetupError> {
        self.recipe_request(request).parse()
    }

    fn recipe_request(&self, ResumeRequest { overrides, epochs, .. }: &ResumeRequest) -> RecipeRequest {
        RecipeRequest {
            name: self.folder.recipe_path().display().to_string(),
            text: self.recipe.to_toml(),
            overrides: overrides.clone(),
            epochs: *epochs,
        }
    }

    /// The recipe that it resumes with, and the tokens of `data`, which is that of the recipe with paths that are found later
    /// too. A run that is over, another text and a learning rate of 0 are refused.
    ///
    /// # Errors
    ///
    /// As [`SetupError`] says.
    pub fn plan(
        &self,
        request: &ResumeRequest,
        data: &DataRecipe,
        state: Option<&TrainerState>,
        data_folder: &Path,
        on_progress: OnProgress<'_>,
    ) -> Result<ResumePlan, SetupError> {
        let parsed = self.recipe_request(request);
        let (mut recipe, mut changes) = self.changed(Recipe { data: data.clone(), ..parsed.parse()? })?;
        self.refuse_over(&recipe, state)?; // Before a text is read.
        let (prepared, rules) = self.same_text(&recipe, state, data_folder, on_progress)?;
        if request.epochs.is_some() {
            let longer = parsed.parse_for(prepared.train.len())?;
            (recipe, changes) = self.changed(Recipe { data: data.clone(), ..longer })?;
            self.refuse_over(&recipe, state)?;
        }
        recipe.check_shares(request.n_devices)?;
        let before = &self.recipe;
        // An unchanged plan of this kind is that of an older version, and resumes as it would have; a warning says so.
        if (&recipe.schedule, &recipe.optimizer) != (&before.schedule, &before.optimizer) {
            recipe.check_plan()?;
        }
        let recipe = recipe.resumed_at(before, state.map_or(0, |state| state.step));
        Ok(ResumePlan { recipe, changes, prepared, rules })
    }

    /// Locks the folder, removes what a process that was cut off has left half written, and opens the newest checkpoint that
    /// is whole.
    ///
    /// # Errors
    ///
    /// If another process trains the run, or it has done steps and has no checkpoint.
    pub fn hold(&self) -> Result<HeldRun, SetupError> {
        let folder = self.folder.clone();
        let lock = folder.lock()?;
        folder.remove_unfinished()?;
        let checkpoint = folder.load_checkpoint()?;
        // The first checkpoint comes before the first step.
        if checkpoint.is_none() && read_metrics(&folder).iter().any(|line| line.step > 0) {
            return Err(checkpoint::Error::NoCheckpoint { path: folder.path().to_owned() }.into());
        }
        Ok(HeldRun { folder, lock, checkpoint })
    }

    /// The recipe with the run's vocabulary, and its changes.
    fn changed(&self, recipe: Recipe) -> Result<(Recipe, Changes), SetupError> {
        let changes = self.recipe.changes_to(&recipe)?;
        Ok((with_vocabulary(&self.folder, recipe)?, changes))
    }

    fn refuse_over(&self, recipe: &Recipe, state: Option<&TrainerState>) -> Result<(), SetupError> {
        let over = state.and_then(|state| Some((state, ending(recipe, state)?)));
        over.map_or(Ok(()), |(state, ending)| {
            let (state, recipe) = (Box::new(state.clone()), Box::new(recipe.clone()));
            Err(SetupError::Over { folder: self.folder.clone(), ending, state, recipe })
        })
    }

    /// The tokens of the run's text.
    fn same_text(
        &self,
        recipe: &Recipe,
        state: Option<&TrainerState>,
        data_folder: &Path,
        on_progress: OnProgress<'_>,
    ) -> Result<(Prepared, Rules), SetupError> {
        let (before, data) = (&self.recipe.data, &recipe.data);
        let other_text = |has_characters: bool| SetupError::OtherText {
            text: data.corpus.clone(),
            valid: data.valid.clone(),
            path: self.folder.path().to_owned(),
            has_characters,
        };
        // Of two known corpora it is known that they differ, without a download.
        let are_two_corpora = before.corpus != data.corpus
            && [before, data].iter().all(|data| Corpus::find(&data.corpus).is_some());
        if are_two_corpora {
            return Err(other_text(true));
        }
        let choice = TokenizerChoice::Given(self.folder.load_tokenizer()?);
        let expected = state.map(|state| &state.data);
        let prepared = match prepare_same_data(data, &choice, data_folder, expected, on_progress) {
            Ok(prepared) => prepared,
            Err(dataset::Error::UnknownCharacter { .. }) if before != data => return Err(other_text(false)),
            Err(source) if source.is_missing() => {
                let option = if data.valid.is_some() { "--data PATH or --valid PATH" } else { "--data PATH" };
                let (recipe, source) = (self.folder.recipe_path(), Box::new(source));
                return Err(SetupError::MovedText { recipe, option, source });
            }
            Err(error) => return Err(error.into()),
        };
        let Some(state) = state else { return Ok(prepared) };
        let [train, valid] = checksums(&prepared.0);
        if train != state.data[0] {
            return Err(other_text(true));
        }
        if valid != state.data[1] {
            let text = data.valid.as_ref().unwrap_or(&data.corpus).clone();
            return Err(SetupError::OtherValidText { text, path: self.folder.path().to_owned() });
        }
        Ok(prepared)
    }
}

impl HeldRun {
    /// Where it stands; a run that was cut off before its first checkpoint has nothing.
    pub fn state(&self) -> Option<&TrainerState> {
        self.checkpoint.as_ref().map(|checkpoint| &checkpoint.state)
    }

    /// Whether an older version wrote its checkpoint, so that it goes on equal up to rounding and not bit for bit.
    pub fn is_of_older_version(&self) -> bool {
        self.checkpoint.as_ref().is_some_and(Checkpoint::is_of_older_version)
    }

    /// Keeps a copy of the best weights if they are of a step that a resume undoes. By the same recipe it would come back to
    /// them; by another, others would be written over them.
    ///
    /// # Errors
    ///
    /// If the copy can't be written.
    pub fn keep_undone_weights(&self) -> Result<Option<KeptWeights>, SetupError> {
        let Some(state) = self.state() else { return Ok(None) };
        let metrics = read_metrics(&self.folder);
        let best = best_evaluation(&metrics).and_then(|line| Some((line.step, line.loss?)));
        let Some((step, loss)) = best
            .filter(|&(step, loss)| step > state.step && state.best_loss.is_none_or(|before| loss < before))
        else {
            return Ok(None);
        };
        Ok(Some(KeptWeights { path: self.folder.keep_weights(step)?, step, loss }))
    }

    /// The run, ready to train. A changed recipe is written.
    ///
    /// # Errors
    ///
    /// If the recipe can't be written, or the weights of a run without a checkpoint can't be read.
    ///
    /// # Panics
    ///
    /// If there is no device.
    pub fn training(
        self,
        before: &Recipe,
        plan: ResumePlan,
        devices: &[Device],
    ) -> Result<Training, SetupError> {
        let Self { folder, lock, checkpoint } = self;
        let ResumePlan { recipe, prepared, .. } = plan;
        let [device, more_devices @ ..] = devices else { panic!("a run has a device") };
        let model = match &checkpoint {
            // It has the weights itself.
            Some(_) => recipe.model.zeros(device)?,
            // Cut off before its first checkpoint, it has those it started from.
            None => folder.load_model(device)?.with_dropout(recipe.model.dropout),
        };
        if recipe != *before {
            folder.save_recipe(&recipe.to_toml())?; // Before the session is logged.
        }
        let data = checksums(&prepared);
        let Prepared { train, valid, .. } = prepared;
        let (device, more_devices, resume) = (device.clone(), more_devices.to_vec(), checkpoint);
        Ok(Training { recipe, folder, lock, model, train, valid, data, resume, device, more_devices })
    }
}

/// The recipe with the vocabulary size of the run's model, which no key of a recipe holds.
fn with_vocabulary(folder: &RunFolder, mut recipe: Recipe) -> Result<Recipe, SetupError> {
    recipe.model.vocab_size = folder.config()?.vocab_size;
    Ok(recipe)
}
