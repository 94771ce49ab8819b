//! The division of a network into two towers, one per rank, as on the two GPUs of the paper of 2012
//! (figure 2): each tower has one half of the channels, and a share of the outputs of each linear
//! layer.
//!
//! A convolution of two groups needs only the channels of its tower. Before a convolution of one group,
//! and before the images are flattened, the towers exchange their channels. The linear layers exchange
//! their outputs.

use crate::{Error, Node, Op, Result, Topology, sum_order::Share};

/// The part of a node that a rank computes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The shape of its input.
    pub input: Vec<usize>,
    /// The shape of its output.
    pub output: Vec<usize>,
    /// Whether the towers exchange their channels before it.
    pub exchange: bool,
    /// Whether its input has only the channels of one tower.
    pub divided: bool,
    /// The groups of a convolution.
    pub groups: usize,
}

/// Returns the parts of a rank that computes the whole network.
///
/// # Errors
/// [`Error::Topology`] when the network is not valid.
pub fn whole(topology: &Topology) -> Result<Vec<Part>> {
    let outputs = topology.shapes()?;
    let inputs = [&[topology.input.to_vec()], &outputs[..]].concat();
    let parts = topology.nodes.iter().zip(inputs).zip(outputs);
    Ok(parts
        .map(|((Node { op, .. }, input), output)| Part {
            input,
            output,
            exchange: false,
            divided: false,
            groups: if let Op::Conv2d { groups, .. } = *op { groups } else { 1 },
        })
        .collect())
}

/// Returns the parts of one of two towers.
///
/// # Errors
/// [`Error::Topology`] when the network is not valid; [`Error::Invalid`] (`ranks`) when the number of
/// ranks is not 2, and (`parallel`) when the network cannot be divided into towers.
pub fn tower(topology: &Topology, ranks: usize) -> Result<Vec<Part>> {
    let invalid = |field, value: String, reason: String| Error::Invalid { field, value, reason };
    let refuse = |reason: String| Err(invalid("parallel", "towers".into(), reason));
    let mut parts = whole(topology)?;
    if !topology.nodes.iter().any(|node| matches!(node.op, Op::Conv2d { groups: 2, .. })) {
        return refuse(
            "the network has no convolution with two groups, as `original` and `original-norm-first` have"
                .into(),
        );
    }
    if ranks != 2 {
        let reason = "a network has two towers, for two ranks";
        return Err(invalid("ranks", ranks.to_string(), reason.into()));
    }
    let mut divided = false;
    for (index, (Node { name, op }, part)) in topology.nodes.iter().zip(&mut parts).enumerate() {
        let needs_all =
            matches!(op, Op::Flatten | Op::Dropout { .. } | Op::Conv2d { groups: 1, .. });
        part.exchange = divided && needs_all;
        divided &= !needs_all;
        part.divided = divided;
        if divided {
            part.input[0] /= 2;
        }
        match *op {
            Op::Conv2d { outputs, groups, .. } => {
                if 2 * (Share { rank: 0, ranks }).of(outputs).len() != outputs {
                    return refuse(format!("the {outputs} outputs of {name} cannot be halved"));
                }
                if groups > 2 || groups == 2 && !divided {
                    return refuse(format!("the groups of {name} are not those of two towers"));
                }
                part.groups = 1;
                divided = true;
            }
            _ if index == 0 => return refuse(format!("{name} is not a convolution")),
            Op::LocalResponseNorm { size, .. } if divided && part.input[0] < 2 * (size / 2) => {
                return refuse(format!("a tower has too few channels for {name}"));
            }
            _ => {}
        }
        if divided {
            part.output[0] /= 2;
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alexnet::Variant;

    fn conv(outputs: usize, inputs: usize, groups: usize) -> Op {
        Op::Conv2d { inputs, outputs, kernel: 3, stride: 1, padding: 1, groups }
    }

    #[test]
    fn channels_are_exchanged_where_the_paper_connects_the_gpus() {
        for (variant, exchanges) in [
            (Variant::Original, ["features.8", "flatten"]),
            (Variant::OriginalNormFirst, ["features.8", "flatten"]),
        ] {
            let topology = variant.topology(1000);
            let parts = tower(&topology, 2).unwrap();
            let nodes = topology.nodes.iter().zip(&parts);
            let exchanged = nodes.filter(|(_, part)| part.exchange).map(|(node, _)| &node.name);
            assert!(exchanged.eq(&exchanges), "{variant}");
            let outputs: Vec<_> = topology
                .nodes
                .iter()
                .zip(&parts)
                .filter(|(node, _)| matches!(node.op, Op::Conv2d { .. }))
                .map(|(_, part)| (part.input[0], part.output[0], part.groups))
                .collect();
            let expected = [(3, 48, 1), (48, 128, 1), (256, 192, 1), (192, 192, 1), (192, 128, 1)];
            assert_eq!(outputs, expected, "{variant}");
        }
    }

    #[test]
    fn other_networks_and_other_numbers_of_ranks_are_refused() {
        let norm = Op::LocalResponseNorm { size: 9, alpha: 1.0, beta: 1.0, k: 1.0 };
        for (ops, reason) in [
            (vec![conv(8, 3, 1), conv(8, 8, 1)], "no convolution with two groups"),
            (vec![conv(8, 3, 1), conv(7, 8, 1), conv(8, 7, 1), conv(8, 8, 2)], "7 outputs of 1"),
            (vec![conv(8, 3, 1), conv(8, 8, 2), conv(8, 8, 4)], "the groups of 2"),
            (vec![Op::Relu, conv(8, 3, 1), conv(8, 8, 2)], "0 is not a convolution"),
            (vec![conv(8, 3, 1), norm, conv(8, 8, 2)], "too few channels for 1"),
        ] {
            let nodes = ops.into_iter().enumerate();
            let nodes = nodes.map(|(i, op)| Node { name: i.to_string(), op }).collect();
            let error = tower(&Topology { input: [3, 8, 8], nodes }, 2).unwrap_err().to_string();
            assert!(error.starts_with("parallel cannot be towers: "), "{error}");
            assert!(error.contains(reason), "{error}");
        }
        let error = tower(&Variant::Original.topology(5), 4).unwrap_err().to_string();
        assert!(error.starts_with("ranks cannot be 4: "), "{error}");
    }
}
