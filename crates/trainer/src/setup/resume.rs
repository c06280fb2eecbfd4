//! A run to resume: its checkpoint, the changes to its recipe, and its text, which may have moved but must be the same.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::prelude::Device;
use checkpoint::{Checkpoint, RunFolder, RunLock, TrainerState};
use dataset::{Corpus, OnProgress, Prepared, Rules, TokenizerChoice};
use families::WeightStorage;
use ranks::Alone;

use super::{
    chats::ChatFormat,
    data::{RunData, checksums, prepare_same_data},
    error::SetupError,
    request::RecipeRequest,
};
use crate::{
    Changes, ChatRecipe, DataRecipe, Recipe, RecipeError, RecipeSource, Training,
    event::ending,
    metrics::{best_evaluation, read_metrics},
};

/// A run that this process may resume.
pub struct StoppedRun {
    pub folder: RunFolder,
    /// The recipe so far.
    pub recipe: Recipe,
    /// The text of the recipe.
    source: RecipeSource,
}

/// The changes requested for a resumed run.
#[derive(Debug, Clone, Default)]
pub struct ResumeRequest {
    /// Each is `section.key=value`.
    pub overrides: Vec<String>,
    /// Length of the run in epochs, instead of steps.
    pub epochs: Option<f64>,
    /// Number of devices for data-parallel training.
    pub n_devices: usize,
}

/// The recipe and tokens with which a run resumes.
pub struct ResumePlan {
    pub recipe: Recipe,
    pub changes: Changes,
    pub data: RunData,
    /// The rules by which the text was read: older ones if the newest would give other tokens.
    pub rules: Rules,
}

/// A run that this process has locked, with the checkpoint to resume.
pub struct LockedRun {
    folder: RunFolder,
    lock: RunLock,
    checkpoint: Option<Checkpoint>,
}

/// Weights copied to a separate file.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptWeights {
    pub path: PathBuf,
    pub step: u64,
    /// Validation loss, in nats per token.
    pub loss: f64,
}

impl StoppedRun {
    /// Reads the recipe of a run.
    ///
    /// # Errors
    ///
    /// If it was not trained here or its recipe can't be read.
    pub fn open(folder: RunFolder) -> Result<Self, SetupError> {
        let path = folder.recipe_path();
        let source = match RecipeSource::saved(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SetupError::NotTrainedHere { path: folder.path().to_owned() });
            }
            source => source.map_err(|source| RecipeError::Read { path, source })?,
        };
        let recipe = with_vocabulary(&folder, source.parse(&[])?)?;
        Ok(Self { folder, recipe, source })
    }

    /// The recipe to resume with, as far as it is known without the text.
    ///
    /// # Errors
    ///
    /// If it is invalid.
    pub fn recipe_with(&self, request: &ResumeRequest) -> Result<Recipe, SetupError> {
        self.recipe_request(request).parse()
    }

    fn recipe_request(&self, ResumeRequest { overrides, epochs, .. }: &ResumeRequest) -> RecipeRequest {
        RecipeRequest { source: self.source.clone(), overrides: overrides.clone(), epochs: *epochs }
    }

    /// The recipe to resume with and its tokens. `data` is the recipe's `[data]`, with paths that remain valid later. A
    /// run that has ended, a different text and a learning rate of 0 are errors.
    ///
    /// # Errors
    ///
    /// See [`SetupError`].
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
        self.check_not_ended(&recipe, state)?; // Before the text is read, which may take long.
        let (run_data, rules) = match recipe.chat {
            Some(chat) => (self.same_chats(&recipe, chat, state)?, Rules::NEWEST),
            None => {
                let (prepared, rules) = self.same_text(&recipe, state, data_folder, on_progress)?;
                (RunData::Text(prepared), rules)
            }
        };
        if request.epochs.is_some() {
            let longer = parsed.parse_for(run_data.training_data().tokens_per_epoch(&recipe)?)?;
            (recipe, changes) = self.changed(Recipe { data: data.clone(), ..longer })?;
            self.check_not_ended(&recipe, state)?;
        }
        recipe.check_device_count(request.n_devices)?;
        let before = &self.recipe;
        // An unchanged plan may have a learning rate of 0 if an older version created it; it resumes with a warning.
        if (&recipe.schedule, &recipe.optimizer) != (&before.schedule, &before.optimizer) {
            recipe.check_plan()?;
        }
        let recipe = recipe.resumed_at(before, state.map_or(0, |state| state.step));
        Ok(ResumePlan { recipe, changes, data: run_data, rules })
    }

    /// Locks the folder, removes partial files of killed processes, and opens the newest intact checkpoint.
    ///
    /// # Errors
    ///
    /// If another process trains the run, or the run has done steps but has no checkpoint.
    pub fn lock(&self) -> Result<LockedRun, SetupError> {
        let folder = self.folder.clone();
        let lock = folder.lock()?;
        folder.remove_unfinished()?;
        let checkpoint = folder.load_checkpoint()?;
        // The first checkpoint comes before the first step.
        if checkpoint.is_none() && read_metrics(&folder).iter().any(|line| line.step > 0) {
            return Err(checkpoint::Error::NoCheckpoint { path: folder.path().to_owned() }.into());
        }
        Ok(LockedRun { folder, lock, checkpoint })
    }

    /// The recipe with the run's vocabulary size, and the changes to it.
    fn changed(&self, recipe: Recipe) -> Result<(Recipe, Changes), SetupError> {
        let changes = self.recipe.changes_to(&recipe)?;
        Ok((with_vocabulary(&self.folder, recipe)?, changes))
    }

    fn check_not_ended(&self, recipe: &Recipe, state: Option<&TrainerState>) -> Result<(), SetupError> {
        let over = state.and_then(|state| Some((state, ending(recipe, state)?)));
        over.map_or(Ok(()), |(state, ending)| {
            let (state, recipe) = (Box::new(state.clone()), Box::new(recipe.clone()));
            Err(SetupError::RunEnded { folder: self.folder.clone(), ending, state, recipe })
        })
    }

    /// The tokens of the run's text, checked against its checksums.
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
        // Two known corpora differ; no download is needed to tell.
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
        self.check_same(data, checksums(&prepared.0), state)?;
        Ok(prepared)
    }

    /// The conversations of the run, checked against their checksums.
    fn same_chats(
        &self,
        recipe: &Recipe,
        chat: ChatRecipe,
        state: Option<&TrainerState>,
    ) -> Result<RunData, SetupError> {
        let (tokenizer, special_tokens) = (self.folder.load_tokenizer()?, self.folder.special_tokens()?);
        let name = self.folder.path().display().to_string();
        let format = ChatFormat::of(&name, &tokenizer, &special_tokens, chat)?;
        let chats = RunData::read_chats(recipe, format).map_err(|error| match error {
            SetupError::Chat(source @ chat::Error::Read { .. }) => {
                SetupError::MovedChats { recipe: self.folder.recipe_path(), source: Box::new(source) }
            }
            error => error,
        })?;
        self.check_same(&recipe.data, chats.checksums(), state).map_err(|error| match error {
            SetupError::OtherText { text, path, .. } => SetupError::OtherChats { text, path },
            error => error,
        })?;
        Ok(chats)
    }

    /// Compares the checksums of training and validation data with the run's.
    fn check_same(
        &self,
        data: &DataRecipe,
        [train, valid]: [String; 2],
        state: Option<&TrainerState>,
    ) -> Result<(), SetupError> {
        let Some(state) = state else { return Ok(()) };
        let path = self.folder.path().to_owned();
        if train != state.data[0] {
            let (text, valid) = (data.corpus.clone(), data.valid.clone());
            return Err(SetupError::OtherText { text, valid, path, has_characters: true });
        }
        if valid != state.data[1] {
            let text = data.valid.as_ref().unwrap_or(&data.corpus).clone();
            return Err(SetupError::OtherValidText { text, path });
        }
        Ok(())
    }
}

impl LockedRun {
    /// The state of its checkpoint; `None` if the run was killed before its first one.
    pub fn state(&self) -> Option<&TrainerState> {
        self.checkpoint.as_ref().map(|checkpoint| &checkpoint.state)
    }

    /// Whether an older version wrote the checkpoint. The resumed run then equals an uninterrupted one only up to
    /// rounding.
    pub fn has_older_format(&self) -> bool {
        self.checkpoint.as_ref().is_some_and(Checkpoint::has_older_format)
    }

    /// Copies the best weights if resuming undoes their step. With the same recipe the run would reach them again; with
    /// another, it would overwrite them.
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
        Ok(Some(KeptWeights { path: self.folder.back_up_weights(step)?, step, loss }))
    }

    /// The run, ready to train alone. Saves the recipe if it has changed.
    ///
    /// # Errors
    ///
    /// If the recipe can't be written, or the weights of a run without checkpoint can't be read.
    ///
    /// # Panics
    ///
    /// If `devices` is empty.
    pub fn training(
        self,
        before: &Recipe,
        plan: ResumePlan,
        devices: &[Device],
    ) -> Result<Training, SetupError> {
        let Self { folder, lock, checkpoint } = self;
        let ResumePlan { recipe, data, .. } = plan;
        let [device, more_devices @ ..] = devices else { panic!("a run needs a device") };
        let model = match &checkpoint {
            // Updates need their base; a checkpoint replaces them.
            _ if folder.is_adapter() => {
                let (storage, dropout) = match &recipe.lora {
                    Some(lora) => (lora.storage(device)?, lora.dropout),
                    None => (WeightStorage::Mapped, 0.0),
                };
                let model = folder.load_adapter_model(storage, device)?;
                model.with_dropout(recipe.model.dropout).with_lora_dropout(dropout)
            }
            // The checkpoint has the weights.
            Some(_) => recipe.model.zeros(device)?,
            // Killed before its first checkpoint, the run continues from its initial weights.
            None => folder.load_model(device)?.with_dropout(recipe.model.dropout),
        };
        if recipe != *before {
            folder.save_recipe(&recipe.to_toml())?; // Before the session is logged.
        }
        let (data, checksums) = (data.training_data(), data.checksums());
        let (device, more_devices, resume) = (device.clone(), more_devices.to_vec(), checkpoint);
        let group = Arc::new(Alone::new());
        Ok(Training { recipe, folder, lock, model, data, checksums, resume, device, more_devices, group })
    }
}

/// The recipe with the vocabulary size of the run's model, which is not a recipe key.
fn with_vocabulary(folder: &RunFolder, mut recipe: Recipe) -> Result<Recipe, SetupError> {
    recipe.model.vocab_size = folder.config()?.vocab_size;
    Ok(recipe)
}
