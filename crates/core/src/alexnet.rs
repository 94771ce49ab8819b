//! The topologies of the common AlexNet variants (Krizhevsky, Sutskever, Hinton: *ImageNet
//! Classification with Deep Convolutional Neural Networks*, 2012).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Node, Op, Topology};

/// A variant of AlexNet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// The tutorial's network: half the paper's width, no groups, no local response normalization;
    /// input 224×224.
    #[default]
    Tutorial,
    /// The network of 2012: two groups in conv2, 4 and 5, local response normalization; input
    /// 227×227. Normalization follows the pooling of stages 1 and 2, as in the tutorial's data flow
    /// and in Caffe's CaffeNet.
    Original,
    /// [`Variant::Original`] with normalization before pooling, as in section 3.5 of the paper. The
    /// parameters are the same.
    OriginalNormFirst,
    /// `torchvision.models.alexnet` (the network of the follow-up paper, arXiv 1404.5997); input
    /// 224×224.
    Torchvision,
}

impl Variant {
    /// All variants, in the order of the help text.
    pub const ALL: [Self; 4] =
        [Self::Tutorial, Self::Original, Self::OriginalNormFirst, Self::Torchvision];

    /// Returns the name that settings and weights files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tutorial => "tutorial",
            Self::Original => "original",
            Self::OriginalNormFirst => "original-norm-first",
            Self::Torchvision => "torchvision",
        }
    }

    /// Returns the network with `classes` outputs.
    pub fn topology(self, classes: usize) -> Topology {
        match self {
            Self::Tutorial => network(
                224,
                &conv_stages([48, 128, 192, 192, 128], 2, 1, Norm::None),
                2048,
                classes,
                Drop::Before,
            ),
            Self::Torchvision => network(
                224,
                &conv_stages([64, 192, 384, 256, 256], 2, 1, Norm::None),
                4096,
                classes,
                Drop::Before,
            ),
            Self::Original => network(
                227,
                &conv_stages(FULL_WIDTH, 0, 2, Norm::AfterPool),
                4096,
                classes,
                Drop::After,
            ),
            Self::OriginalNormFirst => network(
                227,
                &conv_stages(FULL_WIDTH, 0, 2, Norm::BeforePool),
                4096,
                classes,
                Drop::After,
            ),
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Variant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|v| v.name() == text).ok_or_else(|| {
            format!("unknown variant `{}`; the variants are {names}", crate::text::shown(text))
        })
    }
}

const FULL_WIDTH: [usize; 5] = [96, 256, 384, 384, 256];

/// The position of local response normalization in stages 1 and 2.
#[derive(Clone, Copy, PartialEq)]
enum Norm {
    None,
    BeforePool,
    AfterPool,
}

/// The position of dropout: before the two hidden linear layers (tutorial, torchvision) or after
/// them (paper, section 4.2).
#[derive(Clone, Copy, PartialEq)]
enum Drop {
    Before,
    After,
}

/// Returns the five convolutional stages; `groups` applies to conv2, 4 and 5.
fn conv_stages(width: [usize; 5], padding1: usize, groups: usize, norm: Norm) -> Vec<Op> {
    let conv = |inputs, outputs, kernel, stride, padding, groups| Op::Conv2d {
        inputs,
        outputs,
        kernel,
        stride,
        padding,
        groups,
    };
    let pool = Op::MaxPool2d { kernel: 3, stride: 2 };
    let lrn = Op::LocalResponseNorm { size: 5, alpha: 1e-4, beta: 0.75, k: 2.0 };
    let reduce = match norm {
        Norm::None => vec![pool.clone()],
        Norm::BeforePool => vec![lrn, pool.clone()],
        Norm::AfterPool => vec![pool.clone(), lrn],
    };
    let [w1, w2, w3, w4, w5] = width;
    let mut ops = vec![conv(3, w1, 11, 4, padding1, 1), Op::Relu];
    ops.extend(reduce.clone());
    ops.extend([conv(w1, w2, 5, 1, 2, groups), Op::Relu]);
    ops.extend(reduce);
    ops.extend([conv(w2, w3, 3, 1, 1, 1), Op::Relu]);
    ops.extend([conv(w3, w4, 3, 1, 1, groups), Op::Relu]);
    ops.extend([conv(w4, w5, 3, 1, 1, groups), Op::Relu, pool]);
    ops
}

fn network(size: usize, features: &[Op], hidden: usize, classes: usize, dropout: Drop) -> Topology {
    let last_width = features
        .iter()
        .rev()
        .find_map(|op| if let Op::Conv2d { outputs, .. } = op { Some(*outputs) } else { None })
        .unwrap_or_default();
    // Every variant pools to 6×6 before the classifier.
    let inputs = last_width * 6 * 6;
    let linear = |inputs, outputs| Op::Linear { inputs, outputs };
    let drop = || Op::Dropout { p: 0.5 };
    let classifier = match dropout {
        Drop::Before => vec![
            drop(),
            linear(inputs, hidden),
            Op::Relu,
            drop(),
            linear(hidden, hidden),
            Op::Relu,
            linear(hidden, classes),
        ],
        Drop::After => vec![
            linear(inputs, hidden),
            Op::Relu,
            drop(),
            linear(hidden, hidden),
            Op::Relu,
            drop(),
            linear(hidden, classes),
        ],
    };
    let named = |stem: &'static str, ops: &[Op]| -> Vec<Node> {
        ops.iter()
            .enumerate()
            .map(|(i, op)| Node { name: format!("{stem}.{i}"), op: op.clone() })
            .collect()
    };
    let mut nodes = named("features", features);
    nodes.push(Node { name: "flatten".into(), op: Op::Flatten });
    nodes.extend(named("classifier", &classifier));
    Topology { input: [3, size, size], nodes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameter_counts_are_those_of_the_literature() {
        for (variant, classes, count) in [
            (Variant::Tutorial, 5, 14_591_685),
            (Variant::Tutorial, 1000, 16_630_440),
            (Variant::Original, 1000, 60_965_224),
            (Variant::OriginalNormFirst, 1000, 60_965_224),
            (Variant::Torchvision, 1000, 61_100_840),
        ] {
            let parameters = variant.topology(classes).parameters().unwrap();
            assert_eq!(parameters.iter().map(|p| p.elements()).sum::<usize>(), count, "{variant}");
        }
    }

    #[test]
    fn original_has_the_shapes_of_the_tutorial() {
        let mut flow = vec![];
        let topology = Variant::Original.topology(1000);
        for (node, shape) in topology.nodes.iter().zip(topology.shapes().unwrap()) {
            if matches!(node.op, Op::Conv2d { .. } | Op::MaxPool2d { .. } | Op::Linear { .. }) {
                flow.push(shape);
            }
        }
        let expected: [&[usize]; 11] = [
            &[96, 55, 55],
            &[96, 27, 27],
            &[256, 27, 27],
            &[256, 13, 13],
            &[384, 13, 13],
            &[384, 13, 13],
            &[256, 13, 13],
            &[256, 6, 6],
            &[4096],
            &[4096],
            &[1000],
        ];
        assert_eq!(flow, expected);
    }

    #[test]
    fn names_are_pytorchs() {
        let names: Vec<_> = Variant::Tutorial
            .topology(5)
            .parameters()
            .unwrap()
            .into_iter()
            .map(|p| p.name)
            .collect();
        let weights: Vec<_> = names.iter().filter(|n| n.ends_with("weight")).collect();
        assert_eq!(
            weights,
            [
                "features.0.weight",
                "features.3.weight",
                "features.6.weight",
                "features.8.weight",
                "features.10.weight",
                "classifier.1.weight",
                "classifier.4.weight",
                "classifier.6.weight"
            ]
        );
    }

    #[test]
    fn every_variant_is_found_by_its_name() {
        for variant in Variant::ALL {
            assert_eq!(variant.name().parse(), Ok(variant));
        }
        assert!("half".parse::<Variant>().unwrap_err().contains("tutorial"));
    }
}
