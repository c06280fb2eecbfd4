//! Checks the ranges of a recipe's values, and keys that exclude or require each other.

use std::num::NonZeroU64;

use chat::TrainOn;
use families::Family;
use model::GptConfig;

use super::{
    error::RecipeProblem,
    sections::{ChatRecipe, DpoRecipe, LoraRecipe, OptimizerKind, Recipe, Restart, ScheduleKind},
};

impl Recipe {
    /// Checks for invalid values.
    ///
    /// # Errors
    ///
    /// The first value out of range, or the first key that another key excludes or requires.
    pub(super) fn check(&self) -> Result<(), RecipeProblem> {
        const MOST: u64 = 1 << 20;
        let Self { model, data, optimizer, schedule, .. } = self;
        // A vocabulary size of 0 is valid here: the tokenizer determines it later.
        GptConfig { vocab_size: model.vocab_size.max(1), ..model.clone() }.check()?;
        if model.family.is_some() {
            Family::of(model).map_err(|error| RecipeProblem::Family(Box::new(error)))?;
        }
        let in_range = |key, value, range, holds| {
            if holds { Ok(()) } else { Err(RecipeProblem::Range { key, value, range }) }
        };
        let not_too_many = "must be at most 1048576";
        let batch_size = optimizer.batch_size.get() as u64;
        let n_batches = optimizer.grad_accumulation.get();
        in_range("optimizer.batch_size", batch_size as f64, not_too_many, batch_size <= MOST)?;
        in_range("optimizer.grad_accumulation", n_batches as f64, not_too_many, n_batches <= MOST)?;
        let (steps, few_enough) = (schedule.max_steps, "must be at most 1e12");
        in_range("schedule.max_steps", steps as f64, few_enough, steps <= 1_000_000_000_000)?;
        match (schedule.kind, schedule.stable_steps) {
            (ScheduleKind::Wsd, None) => return Err(RecipeProblem::NoStableSteps),
            (ScheduleKind::Wsd, Some(stable)) if stable > schedule.decay_end() => {
                let followed = schedule.decay_steps.is_none();
                return Err(RecipeProblem::Order {
                    lower: "schedule.stable_steps",
                    lower_value: stable as f64,
                    upper: if followed { "schedule.max_steps" } else { "schedule.decay_steps" },
                    upper_value: schedule.decay_end() as f64,
                });
            }
            (ScheduleKind::Wsd, Some(_)) | (_, None) => {}
            (_, Some(_)) => return Err(RecipeProblem::UnusedStableSteps),
        }
        match (schedule.eval_windows, schedule.eval_batches) {
            (Some(windows), None) => {
                let windows = windows.get();
                in_range("schedule.eval_windows", windows as f64, not_too_many, windows <= MOST)?;
            }
            (None, Some(_)) => {}
            (None, None) => return Err(RecipeProblem::NoEvaluationSize),
            (Some(_), Some(_)) => return Err(RecipeProblem::TwoEvaluationSizes),
        }
        if let Some(Restart { learning_rate, .. }) = schedule.restart {
            let holds = learning_rate >= 0.0 && learning_rate.is_finite();
            in_range("schedule.restart.learning_rate", learning_rate, "must be at least 0", holds)?;
        }
        if let Some("" | "off" | "no") = data.separator.as_deref() {
            return Err(RecipeProblem::NoSeparator);
        }
        let fraction = "must be above 0 and below 1";
        let share = "must be at least 0 and below 1";
        let not_negative = "must be at least 0";
        let positive = "must be above 0";
        let (beta_1, beta_2) = (f64::from(optimizer.beta_1), f64::from(optimizer.beta_2));
        let (rate, floor) = (optimizer.learning_rate, optimizer.min_learning_rate);
        let decay = f64::from(optimizer.weight_decay);
        let clip = optimizer.grad_clip.unwrap_or(1.0);
        let z_score = self.guards.spike_z_score.unwrap_or(1.0);
        let valid = data.valid_fraction;
        in_range("data.valid_fraction", valid, fraction, valid > 0.0 && valid < 1.0)?;
        in_range("optimizer.beta_1", beta_1, share, (0.0..1.0).contains(&beta_1))?;
        in_range("optimizer.beta_2", beta_2, share, (0.0..1.0).contains(&beta_2))?;
        in_range("optimizer.learning_rate", rate, positive, rate > 0.0 && rate.is_finite())?;
        in_range("optimizer.min_learning_rate", floor, not_negative, floor >= 0.0 && floor.is_finite())?;
        in_range("optimizer.weight_decay", decay, not_negative, decay >= 0.0 && decay.is_finite())?;
        let wide = |x: Option<f32>| x.map(f64::from);
        let muon = [
            ("optimizer.muon_learning_rate", optimizer.muon_learning_rate, positive),
            ("optimizer.muon_momentum", wide(optimizer.muon_momentum), share),
            ("optimizer.muon_weight_decay", wide(optimizer.muon_weight_decay), not_negative),
        ];
        for (key, value, range) in muon {
            let Some(value) = value else { continue };
            if optimizer.kind != OptimizerKind::Muon {
                return Err(RecipeProblem::UnusedMuon { key });
            }
            let holds = match range {
                _ if range == share => (0.0..1.0).contains(&value),
                _ if range == positive => value > 0.0 && value.is_finite(),
                _ => value >= 0.0 && value.is_finite(),
            };
            in_range(key, value, range, holds)?;
        }
        if let Some(DpoRecipe { beta }) = self.dpo {
            in_range("dpo.beta", beta, positive, beta > 0.0 && beta.is_finite())?;
            match self.chat {
                None => return Err(RecipeProblem::DpoWithoutChat),
                Some(ChatRecipe { train_on: TrainOn::Assistant, .. }) => return Err(RecipeProblem::DpoOfAll),
                Some(ChatRecipe { train_on: TrainOn::Last, .. }) => {}
            }
        }
        if let Some(LoraRecipe { alpha, dropout, ref targets, .. }) = self.lora {
            if targets.as_ref().is_some_and(Vec::is_empty) {
                return Err(RecipeProblem::NoTargets);
            }
            if optimizer.kind == OptimizerKind::Muon {
                return Err(RecipeProblem::MuonOfLora);
            }
            in_range("lora.alpha", alpha, positive, alpha > 0.0 && alpha.is_finite())?;
            in_range("lora.dropout", dropout, share, (0.0..1.0).contains(&dropout))?;
        }
        in_range("optimizer.grad_clip", clip, positive, clip > 0.0)?;
        in_range("guards.spike_z_score", z_score, positive, z_score > 0.0)?;
        self.check_synchronisation()?;
        if floor > rate {
            return Err(RecipeProblem::Order {
                lower: "optimizer.min_learning_rate",
                lower_value: floor,
                upper: "optimizer.learning_rate",
                upper_value: rate,
            });
        }
        Ok(())
    }

    /// Checks the keys that local steps restrict. Evaluations, checkpoints and samples are of weights that all ranks share.
    fn check_synchronisation(&self) -> Result<(), RecipeProblem> {
        let (schedule, interval) = (&self.schedule, self.run.sync_interval());
        if self.run.has_local_steps() && self.run.shard_optimizer {
            return Err(RecipeProblem::ShardsOfLocalSteps { interval });
        }
        let intervals = [
            ("schedule.eval_interval", Some(schedule.eval_interval)),
            ("schedule.checkpoint_interval", Some(schedule.checkpoint_interval)),
            ("schedule.keep_every", schedule.keep_every),
            ("schedule.sample_interval", schedule.sample_interval),
        ];
        for (key, value) in intervals {
            let value = value.map_or(0, NonZeroU64::get);
            if !value.is_multiple_of(interval) {
                let next = value.next_multiple_of(interval);
                return Err(RecipeProblem::Unsynchronised { key, value, interval, next });
            }
        }
        Ok(())
    }
}
