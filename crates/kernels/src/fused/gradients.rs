//! The gradients that a backward pass consumes and registers.
//!
//! A tensor that several operations use gets the sum of their gradients: two such sums per block of a GPT, one per
//! residual connection. [`Gradients::register`] computes them by `float_add` of the backend, on one core. Here the sum is
//! computed on all cores, in place.

use std::{cell::RefCell, collections::VecDeque};

use burn::backend::{
    Flex,
    autodiff::{NodeId, grads::Gradients, ops::Ops},
    flex::FlexTensor,
};
use cpu::{SimdLevel, add};

use super::tensors::{contiguous, values};

thread_local! {
    /// The newest nodes with a registered gradient that is not consumed yet. A backward pass stays on its thread.
    static REGISTERED: RefCell<VecDeque<NodeId>> = const { RefCell::new(VecDeque::new()) };
}

/// Nodes to remember. An older one costs the slower sum. Operations of Burn consume gradients without telling.
const CAPACITY: usize = 32;

/// An operation in the graph, with `N` parents.
pub(super) struct Nodes<const N: usize>(Ops<(), N>);

impl<const N: usize> Nodes<N> {
    /// Separates the operation's state from its place in the graph.
    pub(super) fn split<S>(ops: Ops<S, N>) -> (Self, S) {
        let Ops { parents, node, state } = ops;
        (Self(Ops { parents, node, state: () }), state)
    }

    /// Takes the gradient of the operation's output.
    pub(super) fn consume(&self, grads: &mut Gradients) -> FlexTensor {
        REGISTERED.with_borrow_mut(|nodes| nodes.retain(|id| *id != self.0.node.id));
        contiguous(grads.consume::<Flex>(&self.0.node))
    }

    /// Adds to the gradient of a parent, if it needs one.
    pub(super) fn register(
        &self,
        grads: &mut Gradients,
        parent: usize,
        gradient: impl FnOnce() -> FlexTensor,
    ) {
        let Some(node) = &self.0.parents[parent] else { return };
        let mut gradient = gradient();
        // The gradient of a leaf, such as a parameter, can be consumed any number of times: it would count twice.
        let is_leaf = node.parents.is_empty();
        if !is_leaf && is_registered(node.id) {
            let earlier = contiguous(grads.consume::<Flex>(node));
            gradient = contiguous(gradient);
            add(SimdLevel::best(), gradient.storage_mut(), values(&earlier));
        }
        grads.register::<Flex>(node.id, gradient);
    }
}

/// Whether the node has a gradient already; from now on, it has.
fn is_registered(id: NodeId) -> bool {
    REGISTERED.with_borrow_mut(|nodes| {
        let found = nodes.contains(&id);
        if !found {
            nodes.truncate(CAPACITY - 1);
            nodes.push_front(id);
        }
        found
    })
}
