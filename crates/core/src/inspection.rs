//! The activations of a network and the gradients of its logits with respect to them, for
//! explanations of its predictions.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Array, Error, Logits, Op, Result, Topology};

/// The backward pass of a ReLU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReluRule {
    /// The gradient: `dy` where the input is positive, otherwise 0.
    #[default]
    Gradient,
    /// Guided backpropagation (Springenberg et al. 2014, arXiv 1412.6806): `max(dy, 0)` where the
    /// input is positive, otherwise 0.
    Guided,
}

/// The result of [`crate::Model::inspect`]. Arrays have PyTorch's layout: `[N, C, H, W]` or
/// `[N, features]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Inspection {
    /// The logits, `[N, classes]`, in evaluation mode.
    pub logits: Logits,
    /// The output of each observed node, by its name.
    pub activations: BTreeMap<String, Array>,
    /// The gradient of `Σ cotangent · logits` with respect to each of these outputs.
    pub gradients: BTreeMap<String, Array>,
    /// The gradient with respect to the normalized images, `[N, 3, H, W]`.
    pub input_gradient: Array,
}

/// A node whose output can be inspected, in a network that an engine has lowered to layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedNode {
    /// Its name in the topology.
    pub name: String,
    /// Whether it is a ReLU.
    pub is_relu: bool,
    /// The number of layers whose last output is that of the node.
    pub layers: usize,
}

/// The observed nodes of a lowered network, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    nodes: Vec<ObservedNode>,
    unobserved_relu: Option<String>,
}

impl Observed {
    /// Creates the list from the number of layers after each node. `layers_after[i]` is the number
    /// of layers of the lowered network that compute nodes 0 to i, if the last of them ends with
    /// node i. Engines must not fuse an observed node with the next one.
    pub fn new(topology: &Topology, names: &BTreeSet<String>, layers_after: &[usize]) -> Self {
        let nodes = topology.nodes.iter().zip(layers_after);
        let nodes = nodes.filter(|(node, _)| names.contains(&node.name));
        let observed = nodes.map(|(node, layers)| ObservedNode {
            name: node.name.clone(),
            is_relu: node.op == Op::Relu,
            layers: *layers,
        });
        let mut relus = topology.nodes.iter().filter(|node| node.op == Op::Relu);
        Self {
            nodes: observed.collect(),
            unobserved_relu: relus
                .find(|node| !names.contains(&node.name))
                .map(|node| node.name.clone()),
        }
    }

    /// Returns the observed nodes that end after this number of layers.
    pub fn after(&self, layers: usize) -> impl DoubleEndedIterator<Item = &ObservedNode> {
        self.nodes.iter().filter(move |node| node.layers == layers)
    }

    /// Checks that a node is observed and that the backward pass can use `rule`: guided
    /// backpropagation needs every ReLU to be observed, so that none is fused with the next
    /// operation.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self, rule: ReluRule) -> Result<()> {
        if self.nodes.is_empty() {
            return Err(Error::Invalid {
                field: "observed",
                value: "no node".into(),
                reason: "an inspection needs at least one".into(),
            });
        }
        match (&self.unobserved_relu, rule) {
            (Some(relu), ReluRule::Guided) => Err(Error::Invalid {
                field: "observed",
                value: format!("without `{relu}`"),
                reason: "guided backpropagation needs all ReLUs".into(),
            }),
            _ => Ok(()),
        }
    }
}
