//! Commands from the training loop to its optimizers. Burn passes an optimizer only a learning rate, so both share a
//! cell with the command.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use burn::prelude::*;
use burn_pack::Scalar;
use kernels::MuonUpdate;

/// The factor that the gradients of a step are multiplied with.
#[derive(Debug, Clone)]
pub(crate) enum Scale {
    /// A factor known to the host; below 1 if gradients are clipped.
    Known(f32),
    /// The step is skipped: it counts, but changes neither weights nor moments.
    Skipped,
    /// A factor that only the device knows, `[1]`; NaN skips the step.
    OnDevice(Box<Tensor<1>>),
}

impl Scale {
    /// From a scale `[1]` that is NaN if the step is skipped.
    pub(crate) fn on_device(scale: Tensor<1>) -> Self {
        Self::OnDevice(Box::new(scale))
    }
}

/// The optimizer state of one parameter, for a checkpoint. Names are relative to the parameter's name.
#[derive(Debug, Default)]
pub(crate) struct ParameterState {
    /// Number of dimensions of the parameter.
    pub(crate) rank: usize,
    pub(crate) tensors: Vec<(&'static str, burn_pack::Tensor)>,
    pub(crate) scalars: Vec<(&'static str, Scalar)>,
}

/// The action of the optimizers for each parameter that Burn passes them.
#[derive(Debug)]
enum OptimizerCommand {
    /// Take a step with gradients multiplied by this scale; append parameters to update together.
    Step(Scale, Vec<MuonUpdate>),
    /// Replace the parameters that were appended by these, in the same order.
    Restore(VecDeque<UpdatedMatrix>),
    /// Change nothing; append the parameter's state, or `None` if it has none.
    Snapshot(Vec<Option<ParameterState>>),
    /// Replace the weights by the gradients.
    Assign,
    /// Forget the parameter's state.
    Forget,
}

/// A matrix that Muon has updated, and its mean of gradients, `[out, in]`.
pub(crate) type UpdatedMatrix = (Tensor<2>, Tensor<2>);

/// The action of an optimizer for a parameter.
pub(crate) enum Action {
    /// Take a step with the gradient multiplied by this scale, or collect it with [`CommandCell::collect`].
    Step(Scale),
    /// Restore the next updated parameter with [`CommandCell::next_updated`].
    Restore,
    Nothing,
    /// Replace the weights by the gradient.
    Assign,
    /// Forget the state.
    Forget,
}

/// The shared cell. Clones refer to the same command; there is one while Burn calls the optimizers.
#[derive(Debug, Clone, Default)]
pub(crate) struct CommandCell(Arc<Mutex<Option<OptimizerCommand>>>);

impl CommandCell {
    /// Takes a step for the parameters for which `step` makes Burn call the optimizers. Returns those that are collected
    /// instead, whose state is empty until [`CommandCell::restore`].
    pub(crate) fn step(&self, scale: Scale, step: impl FnOnce()) -> Vec<MuonUpdate> {
        match self.during(OptimizerCommand::Step(scale, Vec::new()), step) {
            OptimizerCommand::Step(_, collected) => collected,
            _ => unreachable!("only the loop sets commands, and it waits for this one"),
        }
    }

    /// Restores the parameters that [`CommandCell::step`] returned, updated and in the same order. `step` makes Burn
    /// call the optimizers for all parameters of that step.
    ///
    /// # Panics
    ///
    /// If a parameter is left.
    pub(crate) fn restore(&self, updated: Vec<UpdatedMatrix>, step: impl FnOnce()) {
        match self.during(OptimizerCommand::Restore(updated.into()), step) {
            OptimizerCommand::Restore(rest) => assert!(rest.is_empty(), "{} matrices are left", rest.len()),
            _ => unreachable!("only the loop sets commands, and it waits for this one"),
        }
    }

    /// The states of the parameters for which `step` makes Burn call the optimizers, in order of the calls.
    pub(crate) fn read_states(&self, step: impl FnOnce()) -> Vec<Option<ParameterState>> {
        match self.during(OptimizerCommand::Snapshot(Vec::new()), step) {
            OptimizerCommand::Snapshot(states) => states,
            _ => unreachable!("only the loop sets commands, and it waits for this one"),
        }
    }

    /// Replaces the weights of the parameters for which `step` makes Burn call the optimizers by their gradients.
    pub(crate) fn assign(&self, step: impl FnOnce()) {
        self.during(OptimizerCommand::Assign, step);
    }

    /// Forgets the states of the parameters for which `step` makes Burn call the optimizers.
    pub(crate) fn forget(&self, step: impl FnOnce()) {
        self.during(OptimizerCommand::Forget, step);
    }

    /// Runs `step` under a command. Returns the command after it.
    fn during(&self, command: OptimizerCommand, step: impl FnOnce()) -> OptimizerCommand {
        *self.lock() = Some(command);
        step();
        self.lock().take().expect("only the loop sets commands, and it waits for this one")
    }

    /// The action of an optimizer. For a snapshot, records `state`.
    ///
    /// # Panics
    ///
    /// If there is no command.
    pub(crate) fn action(&self, state: impl FnOnce() -> Option<ParameterState>) -> Action {
        match self.lock().as_mut().expect("the loop gives a command before a step") {
            OptimizerCommand::Step(scale, _) => Action::Step(scale.clone()),
            OptimizerCommand::Restore(_) => Action::Restore,
            OptimizerCommand::Snapshot(states) => {
                states.push(state());
                Action::Nothing
            }
            OptimizerCommand::Assign => Action::Assign,
            OptimizerCommand::Forget => Action::Forget,
        }
    }

    /// Postpones the update of a parameter, until all collected parameters are updated together.
    pub(crate) fn collect(&self, update: MuonUpdate) {
        match self.lock().as_mut() {
            Some(OptimizerCommand::Step(_, collected)) => collected.push(update),
            _ => unreachable!("the action is a step"),
        }
    }

    /// The next of the updated parameters.
    pub(crate) fn next_updated(&self) -> UpdatedMatrix {
        match self.lock().as_mut() {
            Some(OptimizerCommand::Restore(updated)) => {
                updated.pop_front().expect("each parameter of the step is restored")
            }
            _ => unreachable!("the action is to restore parameters"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<OptimizerCommand>> {
        self.0.lock().expect("no holder of the lock panics")
    }
}
