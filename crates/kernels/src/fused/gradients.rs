//! The gradients that a backward pass consumes and registers.
//!
//! The gradient of a tensor with several uses is a sum; a block of a GPT has two, one per residual connection.
//! [`Gradients::register`] computes it on one core, with the backend's `float_add`. This module computes it on all cores.

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

/// Maximum number of nodes kept: Burn's own operations consume gradients without notice, so entries become stale. For a
/// node that is no longer kept, Burn computes the sum.
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

/// Whether the node already has a gradient. Marks it as having one.
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
