//! Commands from the training loop to its optimizers. Burn passes an optimizer only a learning rate, so both share a
//! cell with the command.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use burn::prelude::*;
use burn_pack::Scalar;

/// The factor that the gradients of a step are multiplied with.
#[derive(Debug, Clone)]
pub(crate) enum Scale {
    /// A factor known to the host; below 1 if gradients are clipped.
    Known(f32),
    /// The step is skipped: it counts, but changes neither weights nor moments.
    Skipped,
    /// A factor or a skip that only the device knows.
    OnDevice(Box<ScaleOnDevice>),
}

/// A scale on the device; both tensors are `[1]`.
#[derive(Debug, Clone)]
pub(crate) struct ScaleOnDevice {
    pub(crate) scale: Tensor<1>,
    pub(crate) is_skipped: Tensor<1, Bool>,
}

impl Scale {
    /// From a scale `[1]` that is NaN if the step is skipped.
    pub(crate) fn on_device(scale: Tensor<1>) -> Self {
        let is_skipped = scale.clone().is_nan();
        Self::OnDevice(Box::new(ScaleOnDevice { scale, is_skipped }))
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
    /// Take a step with gradients multiplied by this scale.
    Step(Scale),
    /// Change nothing; append the parameter's state, or `None` if it has none.
    Snapshot(Vec<Option<ParameterState>>),
    /// Replace the weights by the gradients.
    Assign,
    /// Forget the parameter's state.
    Forget,
}

/// The action of an optimizer for a parameter.
pub(crate) enum Action {
    /// Take a step with the gradient multiplied by this scale.
    Step(Scale),
    Nothing,
    /// Replace the weights by the gradient.
    Assign,
    /// Forget the state.
    Forget,
}

/// The shared cell. Clones refer to the same command.
#[derive(Debug, Clone)]
pub(crate) struct CommandCell(Arc<Mutex<OptimizerCommand>>);

impl CommandCell {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(OptimizerCommand::Step(Scale::Known(1.0)))))
    }

    /// Sets the scale of the next steps.
    pub(crate) fn set_scale(&self, scale: Scale) {
        *self.lock() = OptimizerCommand::Step(scale);
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
        let before = mem::replace(&mut *self.lock(), command);
        step();
        mem::replace(&mut *self.lock(), before)
    }

    /// The action of an optimizer. For a snapshot, records `state`.
    pub(crate) fn action(&self, state: impl FnOnce() -> Option<ParameterState>) -> Action {
        match &mut *self.lock() {
            OptimizerCommand::Step(scale) => Action::Step(scale.clone()),
            OptimizerCommand::Snapshot(states) => {
                states.push(state());
                Action::Nothing
            }
            OptimizerCommand::Assign => Action::Assign,
            OptimizerCommand::Forget => Action::Forget,
        }
    }

    fn lock(&self) -> MutexGuard<'_, OptimizerCommand> {
        self.0.lock().expect("no holder of the lock panics")
    }
}
