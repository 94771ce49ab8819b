//! The topology of a network: a list of named operations. The shapes and parameters are derived
//! from it.

use std::collections::BTreeSet;

use crate::{Error, Result};

/// One operation. Fields are named because positional convolution arguments hide mistakes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Cross-correlation with bias (`torch.nn.Conv2d`), square kernel; weight `[outputs,
    /// inputs/groups, kernel, kernel]`.
    Conv2d {
        /// Input channels.
        inputs: usize,
        /// Output channels.
        outputs: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// The distance between two positions of the kernel.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
        /// The number of groups; the output channels of group g depend only on the input channels
        /// of group g.
        groups: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// Largest value of each window, no padding, rounding down (`torch.nn.MaxPool2d`); ties go to
    /// the first maximum in row-major order.
    MaxPool2d {
        /// Height and width of the window.
        kernel: usize,
        /// The distance between two windows; smaller than `kernel` for the paper's overlapping
        /// pooling (section 3.4).
        stride: usize,
    },
    /// `y[c] = x[c] / (k + alpha · Σ x[j]²)^beta`, where j runs over the `size` channels around c,
    /// as far as they exist (paper, section 3.3). `alpha` is used as in the paper, while
    /// `torch.nn.LocalResponseNorm` divides its `alpha` by `size`.
    LocalResponseNorm {
        /// The number of channels in the sum, `c - size/2 ..= c + (size-1)/2`.
        size: usize,
        /// Factor of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added to the sum.
        k: f32,
    },
    /// `[C, H, W]` to `[C·H·W]`.
    Flatten,
    /// `y = W·x + b` (`torch.nn.Linear`); weight `[outputs, inputs]`.
    Linear {
        /// Input features.
        inputs: usize,
        /// Output features.
        outputs: usize,
    },
    /// In training, sets each element to 0 with probability `p` and multiplies the others by
    /// `1/(1-p)`. In evaluation, does nothing (`torch.nn.Dropout`). The masks come from
    /// [`crate::rng::dropout_scale`].
    Dropout {
        /// The probability of dropping an element, `0 ≤ p < 1`.
        p: f32,
    },
}

/// A named operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// PyTorch's name of the module, such as `features.0`; its parameters are `features.0.weight`
    /// and `features.0.bias`.
    pub name: String,
    /// The operation.
    pub op: Op,
}

/// A network: its nodes in order. The input of each node is the output of the previous one.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// The shape `[C, H, W]` of one image.
    pub input: [usize; 3],
    /// The nodes.
    pub nodes: Vec<Node>,
}

/// The role of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A factor, `…weight`.
    Weight,
    /// A summand, `…bias`.
    Bias,
}

/// A parameter of a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name, such as `features.0.weight`.
    pub name: String,
    /// Its shape: weights `[out, in/groups, kh, kw]` or `[out, in]`; biases `[out]`.
    pub shape: Vec<usize>,
    /// The index of its node in [`Topology::nodes`].
    pub node: usize,
    /// Whether it is a weight or a bias.
    pub role: Role,
}

impl Parameter {
    /// Returns the number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A line of [`Topology::summary`].
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    /// The node's name.
    pub name: String,
    /// A description of the operation.
    pub op: String,
    /// The shape of its output for one image, `[C, H, W]` or `[features]`.
    pub output: Vec<usize>,
    /// The number of its parameters.
    pub parameters: usize,
    /// The number of its multiply-adds for one image.
    pub multiply_adds: u64,
}

impl Op {
    /// Returns the output shape for an input shape, `[C, H, W]` or `[features]`, or a message if
    /// the input shape is invalid.
    fn output(&self, input: &[usize]) -> Result<Vec<usize>, String> {
        let image = || match *input {
            [c, h, w] => Ok([c, h, w]),
            _ => Err(format!("expects [channels, height, width], gets {input:?}")),
        };
        let windows = |extent: usize, kernel: usize, stride: usize, padding: usize| {
            if kernel == 0 || stride == 0 {
                return Err("kernel and stride must be at least 1".to_string());
            }
            (extent + 2 * padding).checked_sub(kernel).map(|free| free / stride + 1).ok_or_else(
                || format!("its window of size {kernel} is larger than its input of size {extent}"),
            )
        };
        match *self {
            Self::Conv2d { inputs, outputs, kernel, stride, padding, groups } => {
                let [c, h, w] = image()?;
                if c != inputs {
                    return Err(format!("expects {inputs} channels, gets {c}"));
                }
                if groups == 0 || outputs == 0 || inputs % groups != 0 || outputs % groups != 0 {
                    return Err(format!(
                        "{inputs} inputs and {outputs} outputs do not divide into {groups} groups"
                    ));
                }
                Ok(vec![
                    outputs,
                    windows(h, kernel, stride, padding)?,
                    windows(w, kernel, stride, padding)?,
                ])
            }
            Self::MaxPool2d { kernel, stride } => {
                let [c, h, w] = image()?;
                Ok(vec![c, windows(h, kernel, stride, 0)?, windows(w, kernel, stride, 0)?])
            }
            Self::LocalResponseNorm { size, .. } => {
                image()?;
                if size == 0 {
                    Err("its size must be at least 1".into())
                } else {
                    Ok(input.to_vec())
                }
            }
            Self::Flatten => Ok(vec![input.iter().product()]),
            Self::Linear { inputs, outputs } => match *input {
                [features] if features == inputs && outputs > 0 => Ok(vec![outputs]),
                _ => Err(format!("expects [{inputs}] and returns [{outputs}], gets {input:?}")),
            },
            Self::Dropout { p } if !(0.0..1.0).contains(&p) => {
                Err(format!("p must be in 0..1, is {p}"))
            }
            Self::Relu | Self::Dropout { .. } => Ok(input.to_vec()),
        }
    }

    /// Returns the shapes of weight and bias, or `None` for operations without parameters.
    pub(crate) fn parameter_shapes(&self) -> Option<[Vec<usize>; 2]> {
        match *self {
            Self::Conv2d { inputs, outputs, kernel, groups, .. } => {
                Some([vec![outputs, inputs / groups, kernel, kernel], vec![outputs]])
            }
            Self::Linear { inputs, outputs } => Some([vec![outputs, inputs], vec![outputs]]),
            Self::Relu
            | Self::MaxPool2d { .. }
            | Self::LocalResponseNorm { .. }
            | Self::Flatten
            | Self::Dropout { .. } => None,
        }
    }

    fn describe(&self) -> String {
        match *self {
            Self::Conv2d { kernel, stride, padding, groups, .. } => {
                let mut text = format!("conv {kernel}×{kernel}");
                for (word, value, default) in
                    [("stride", stride, 1), ("pad", padding, 0), ("groups", groups, 1)]
                {
                    if value != default {
                        text += &format!(", {word} {value}");
                    }
                }
                text
            }
            Self::Relu => "relu".into(),
            Self::MaxPool2d { kernel, stride } => {
                format!("max pool {kernel}×{kernel}, stride {stride}")
            }
            Self::LocalResponseNorm { size, .. } => format!("local response norm, size {size}"),
            Self::Flatten => "flatten".into(),
            Self::Linear { .. } => "linear".into(),
            Self::Dropout { p } => format!("dropout {p}"),
        }
    }
}

impl Topology {
    /// Returns the output shape of each node for one image: `[C, H, W]`, or `[features]` after
    /// flattening. Validates the whole network.
    ///
    /// # Errors
    /// [`Error::Topology`] with the first invalid node.
    pub fn shapes(&self) -> Result<Vec<Vec<usize>>> {
        let mut shape = self.input.to_vec();
        self.nodes
            .iter()
            .map(|node| {
                shape = node
                    .op
                    .output(&shape)
                    .map_err(|reason| Error::Topology { node: node.name.clone(), reason })?;
                Ok(shape.clone())
            })
            .collect()
    }

    /// Returns the number of classes, which is the number of output features of the last node.
    ///
    /// # Errors
    /// [`Error::Topology`] when the network is not valid or its output is not `[features]`.
    pub fn classes(&self) -> Result<usize> {
        match self.shapes()?.last().map(Vec::as_slice) {
            Some([classes]) => Ok(*classes),
            other => Err(Error::Topology {
                node: self.nodes.last().map(|n| n.name.clone()).unwrap_or_default(),
                reason: format!("the network must end in [classes], ends in {other:?}"),
            }),
        }
    }

    /// Returns all parameters in the order of the nodes, weight before bias.
    ///
    /// # Errors
    /// [`Error::Topology`] when the network is not valid.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        self.shapes()?;
        let mut all = Vec::new();
        for (node, Node { name, op }) in self.nodes.iter().enumerate() {
            if let Some([weight, bias]) = op.parameter_shapes() {
                all.push(Parameter {
                    name: format!("{name}.weight"),
                    shape: weight,
                    node,
                    role: Role::Weight,
                });
                all.push(Parameter {
                    name: format!("{name}.bias"),
                    shape: bias,
                    node,
                    role: Role::Bias,
                });
            }
        }
        Ok(all)
    }

    /// Returns the names of the parameters in `module`: `features` has those of the whole stage,
    /// `features.0` has `features.0.weight` and `features.0.bias`. They can be used for
    /// [`crate::Options::frozen`], like `model.get_submodule(module).parameters()` with
    /// `requires_grad = False` in PyTorch.
    ///
    /// # Errors
    /// [`Error::Invalid`] (`module`) with the list of modules, when no parameter belongs to this
    /// one; [`Error::Topology`] when the network is not valid.
    pub fn parameters_of(&self, module: &str) -> Result<BTreeSet<String>> {
        let all = self.parameters()?;
        let inside =
            |name: &&str| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        let names: BTreeSet<String> =
            all.iter().map(|p| p.name.as_str()).filter(inside).map(String::from).collect();
        if !names.is_empty() {
            return Ok(names);
        }
        let mut modules: Vec<&str> = Vec::new();
        for parameter in &all {
            let layer = self.nodes[parameter.node].name.as_str();
            // Each stage before its layers, without duplicates.
            let stage = layer.split_once('.').map(|(stage, _)| stage);
            for module in stage.into_iter().chain([layer]) {
                if !modules.contains(&module) {
                    modules.push(module);
                }
            }
        }
        Err(Error::Invalid {
            field: "module",
            value: format!("`{module}`"),
            reason: format!(
                "this module has no parameters; the modules with parameters are {}",
                modules.join(", ")
            ),
        })
    }

    /// Returns the network without its last linear layer and the dropout before it. In evaluation
    /// mode, its output is the input of that layer: the activations of the last hidden layer,
    /// `[features]`.
    ///
    /// # Errors
    /// [`Error::Topology`] when the network is not valid or has no layer before the last linear
    /// one.
    pub fn without_last_layer(&self) -> Result<Self> {
        let is_linear = |node: &Node| matches!(node.op, Op::Linear { .. });
        let is_dropout = |node: &Node| matches!(node.op, Op::Dropout { .. });
        let mut nodes = self.nodes[..self.nodes.iter().rposition(is_linear).unwrap_or(0)].to_vec();
        while nodes.pop_if(|node| is_dropout(node)).is_some() {}
        let shortened = Self { input: self.input, nodes };
        shortened.classes()?;
        Ok(shortened)
    }

    /// Returns one row per node. Shapes and multiply-adds are those of one image.
    ///
    /// # Errors
    /// [`Error::Topology`] when the network is not valid.
    pub fn summary(&self) -> Result<Vec<SummaryRow>> {
        let row = |(node, output): (&Node, Vec<usize>)| {
            let shapes = node.op.parameter_shapes();
            let elements = |shape: &[usize]| shape.iter().product::<usize>();
            // Each weight is used once per position of the output plane.
            let positions = output.get(1..).map_or(1, elements);
            SummaryRow {
                name: node.name.clone(),
                op: node.op.describe(),
                parameters: shapes.iter().flatten().map(|s| elements(s)).sum(),
                multiply_adds: shapes
                    .map_or(0, |[weight, _]| (elements(&weight) * positions) as u64),
                output,
            }
        };
        Ok(self.nodes.iter().zip(self.shapes()?).map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alexnet::Variant;

    fn conv(inputs: usize, groups: usize) -> Op {
        Op::Conv2d { inputs, outputs: 8, kernel: 3, stride: 2, padding: 1, groups }
    }

    fn single(input: [usize; 3], op: Op) -> Topology {
        Topology { input, nodes: vec![Node { name: "it".into(), op }] }
    }

    #[test]
    fn output_sizes_are_rounded_down_as_in_pytorch() {
        assert_eq!(single([4, 10, 7], conv(4, 2)).shapes().unwrap(), [vec![8, 5, 4]]);
        let pool = Op::MaxPool2d { kernel: 3, stride: 2 };
        assert_eq!(single([4, 10, 7], pool).shapes().unwrap(), [vec![4, 4, 3]]);
    }

    #[test]
    fn errors_name_the_node_and_the_reason() {
        for (input, op, reason) in [
            ([3, 8, 8], conv(4, 1), "expects 4 channels, gets 3"),
            ([4, 8, 8], conv(4, 3), "do not divide into 3 groups"),
            ([4, 0, 0], conv(4, 1), "larger than"),
            ([4, 2, 2], Op::MaxPool2d { kernel: 3, stride: 2 }, "larger than"),
            ([4, 8, 8], Op::MaxPool2d { kernel: 3, stride: 0 }, "at least 1"),
            ([4, 2, 2], Op::Linear { inputs: 16, outputs: 2 }, "gets [4, 2, 2]"),
            ([4, 2, 2], Op::Dropout { p: 1.0 }, "p must be"),
            ([4, 2, 2], Op::Dropout { p: f32::NAN }, "p must be"),
            ([4, 2, 2], Op::LocalResponseNorm { size: 0, alpha: 1.0, beta: 1.0, k: 1.0 }, "size"),
        ] {
            let error = single(input, op).shapes().unwrap_err().to_string();
            assert!(error.contains("`it`") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn modules_have_the_parameters_with_their_prefix() {
        let topology = Variant::Tutorial.topology(5);
        let names = |module| Vec::from_iter(topology.parameters_of(module).unwrap());
        // Not those of `features.10`.
        assert_eq!(names("features.0"), ["features.0.bias", "features.0.weight"]);
        assert_eq!(names("classifier").len(), 6);
        assert_eq!(names("features").len(), 10);
        for module in ["features.1", "feature", "features.", "features.0.weight", ""] {
            let error = topology.parameters_of(module).unwrap_err().to_string();
            let modules = "the modules with parameters are features, features.0, features.3, features.6, features.8, features.10, \
                           classifier, classifier.1, classifier.4, classifier.6";
            assert!(error.starts_with(&format!("module cannot be `{module}`: ")), "{error}");
            assert!(error.ends_with(modules), "{error}");
        }
    }

    #[test]
    fn without_the_last_layer_the_last_hidden_relu_is_the_output() {
        for (variant, features) in [
            (Variant::Tutorial, 2048),
            (Variant::Original, 4096),
            (Variant::OriginalNormFirst, 4096),
            (Variant::Torchvision, 4096),
        ] {
            let topology = variant.topology(5);
            let hidden = topology.without_last_layer().unwrap();
            assert_eq!(hidden.classes().unwrap(), features, "{variant}");
            assert_eq!(hidden.nodes.last().unwrap().op, Op::Relu);
            let removed = &topology.nodes[hidden.nodes.len()..];
            let is_last = |node: &Node| matches!(node.op, Op::Linear { outputs: 5, .. });
            assert!(
                removed.iter().all(|node| is_last(node) || matches!(node.op, Op::Dropout { .. }))
            );
        }
        let flat = single([4, 2, 2], Op::Flatten);
        assert!(flat.without_last_layer().is_err());
        let linear = Node { name: "last".into(), op: Op::Linear { inputs: 16, outputs: 2 } };
        let nodes = [flat.nodes.clone(), vec![linear]].concat();
        assert_eq!(Topology { nodes, ..flat.clone() }.without_last_layer().unwrap(), flat);
    }

    #[test]
    fn a_network_must_end_in_classes() {
        assert!(single([4, 2, 2], Op::Relu).classes().is_err());
        assert_eq!(single([4, 2, 2], Op::Flatten).classes().unwrap(), 16);
    }
}
