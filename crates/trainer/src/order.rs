//! The line from the loop to the optimizers. Burn calls them, and passes on a learning rate and nothing else; so the loop
//! and the optimizers of its learner share a cell with what is to be done.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard},
};

use burn::prelude::*;
use burn_pack::Scalar;

/// What the gradients of a step are multiplied with.
#[derive(Debug, Clone)]
pub(crate) enum Scale {
    /// Below one where they are clipped.
    Known(f32),
    /// The step is skipped: it counts, and changes neither weights nor moments.
    Skipped,
    /// Either of these, where only the device knows it.
    OnDevice(Box<ScaleOnDevice>),
}

/// A scale as tensors, `[1]` each.
#[derive(Debug, Clone)]
pub(crate) struct ScaleOnDevice {
    pub(crate) scale: Tensor<1>,
    /// Whether the step is skipped.
    pub(crate) is_skipped: Tensor<1, Bool>,
}

impl Scale {
    /// A scale that is NaN if the step is skipped.
    pub(crate) fn on_device(scale: Tensor<1>) -> Self {
        let is_skipped = scale.clone().is_nan();
        Self::OnDevice(Box::new(ScaleOnDevice { scale, is_skipped }))
    }
}

/// What an optimizer keeps of a parameter, on its way to a checkpoint. Names are those that follow the parameter's own.
#[derive(Debug, Default)]
pub(crate) struct ParameterState {
    /// The number of dimensions of the parameter.
    pub(crate) rank: usize,
    pub(crate) tensors: Vec<(&'static str, burn_pack::Tensor)>,
    pub(crate) scalars: Vec<(&'static str, Scalar)>,
}

/// What the optimizers do with each parameter that Burn shows them.
#[derive(Debug)]
enum Order {
    /// Step, with gradients multiplied by this.
    Step(Scale),
    /// Change nothing and add the parameter's state here, if it has any.
    Read(Vec<Option<ParameterState>>),
}

/// The cell. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Orders(Arc<Mutex<Order>>);

impl Orders {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Order::Step(Scale::Known(1.0)))))
    }

    /// Has the next steps multiply gradients by a scale.
    pub(crate) fn set_scale(&self, scale: Scale) {
        *self.lock() = Order::Step(scale);
    }

    /// The states of the parameters that `show` has Burn show to the optimizers, in that order.
    pub(crate) fn read_states(&self, show: impl FnOnce()) -> Vec<Option<ParameterState>> {
        let before = mem::replace(&mut *self.lock(), Order::Read(Vec::new()));
        show();
        match mem::replace(&mut *self.lock(), before) {
            Order::Read(states) => states,
            Order::Step(_) => unreachable!("only the loop gives orders, and it waits for this one"),
        }
    }

    /// The scale of the step that an optimizer is to take; none where it is to hand over its state, which this does.
    pub(crate) fn scale_or_hand_over(&self, state: impl FnOnce() -> Option<ParameterState>) -> Option<Scale> {
        match &mut *self.lock() {
            Order::Step(scale) => Some(scale.clone()),
            Order::Read(states) => {
                states.push(state());
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.0.lock().expect("nothing panics while it is held")
    }
}
