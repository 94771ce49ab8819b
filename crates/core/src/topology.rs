//! The network as data: a list of named operations, with the shapes and parameters that follow from it.

use std::collections::BTreeSet;

use crate::{Error, Result};

/// One operation. Fields are named because positional convolution arguments hide mistakes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Cross-correlation with bias (`torch.nn.Conv2d`), square kernel; weight `[outputs, inputs/groups, kernel, kernel]`.
    Conv2d {
        /// Channels in.
        inputs: usize,
        /// Channels out.
        outputs: usize,
        /// Height and width of the kernel.
        kernel: usize,
        /// Distance of two positions of the kernel.
        stride: usize,
        /// Zeros added on each side.
        padding: usize,
        /// Output channels of group g see only the input channels of group g.
        groups: usize,
    },
    /// `max(x, 0)`.
    Relu,
    /// Largest value of each window, no padding, rounding down (`torch.nn.MaxPool2d`); ties go to the first maximum in
    /// row-major order.
    MaxPool2d {
        /// Height and width of the window.
        kernel: usize,
        /// Distance of two windows; smaller than `kernel` for the paper's overlapping pooling (section 3.4).
        stride: usize,
    },
    /// `y[c] = x[c] / (k + alpha · Σ x[j]²)^beta`, j over the `size` channels around c that exist (paper, section 3.3).
    /// `alpha` is the paper's; `torch.nn.LocalResponseNorm` divides its own by `size`.
    LocalResponseNorm {
        /// Channels in the sum, `c - size/2 ..= c + (size-1)/2`.
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
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
    },
    /// In training each element is dropped with probability `p` and the others are multiplied by `1/(1-p)`; nothing in
    /// evaluation (`torch.nn.Dropout`). Masks come from [`crate::rng::dropout_scale`].
    Dropout {
        /// Probability of dropping, `0 ≤ p < 1`.
        p: f32,
    },
}

/// A named operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// PyTorch's name of the module, `features.0`; parameters are `features.0.weight` and `features.0.bias`.
    pub name: String,
    /// What it does.
    pub op: Op,
}

/// A network: the nodes in order, each working on the output of the one before.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// `[C, H, W]` of one image.
    pub input: [usize; 3],
    /// The operations.
    pub nodes: Vec<Node>,
}

/// Whether a parameter multiplies or is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `…weight`
    Weight,
    /// `…bias`
    Bias,
}

/// A parameter that a topology asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// `features.0.weight`.
    pub name: String,
    /// Weights `[out, in/groups, kh, kw]` or `[out, in]`; biases `[out]`.
    pub shape: Vec<usize>,
    /// Index of its node in [`Topology::nodes`].
    pub node: usize,
    /// Weight or bias.
    pub role: Role,
}

impl Parameter {
    /// The number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A line of [`Topology::summary`].
#[derive(Clone, Debug, PartialEq)]
pub struct SummaryRow {
    /// The node's name.
    pub name: String,
    /// The operation in words.
    pub op: String,
    /// The shape of its output for one image, `[C, H, W]` or `[features]`.
    pub output: Vec<usize>,
    /// Its parameters.
    pub parameters: usize,
    /// Its multiply-adds for one image.
    pub multiply_adds: u64,
}

impl Op {
    /// The output shape for an input shape, `[C, H, W]` or `[features]`, or what is wrong.
    fn output(&self, input: &[usize]) -> Result<Vec<usize>, String> {
        let image = || match *input {
            [c, h, w] => Ok([c, h, w]),
            _ => Err(format!("needs [channels, height, width], gets {input:?}")),
        };
        let windows = |extent: usize, kernel: usize, stride: usize, padding: usize| {
            if kernel == 0 || stride == 0 {
                return Err("kernel and stride must be at least 1".to_string());
            }
            (extent + 2 * padding)
                .checked_sub(kernel)
                .map(|free| free / stride + 1)
                .ok_or_else(|| format!("its window of {kernel} is larger than the {extent} it works on"))
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
                Ok(vec![outputs, windows(h, kernel, stride, padding)?, windows(w, kernel, stride, padding)?])
            }
            Self::MaxPool2d { kernel, stride } => {
                let [c, h, w] = image()?;
                Ok(vec![c, windows(h, kernel, stride, 0)?, windows(w, kernel, stride, 0)?])
            }
            Self::LocalResponseNorm { size, .. } => {
                image()?;
                if size == 0 { Err("its size must be at least 1".into()) } else { Ok(input.to_vec()) }
            }
            Self::Flatten => Ok(vec![input.iter().product()]),
            Self::Linear { inputs, outputs } => match *input {
                [features] if features == inputs && outputs > 0 => Ok(vec![outputs]),
                _ => Err(format!("expects [{inputs}] and gives [{outputs}], gets {input:?}")),
            },
            Self::Dropout { p } if !(0.0..1.0).contains(&p) => Err(format!("p must be in 0..1, is {p}")),
            Self::Relu | Self::Dropout { .. } => Ok(input.to_vec()),
        }
    }

    /// Shapes of weight and bias, for the operations that have them.
    fn parameter_shapes(&self) -> Option<[Vec<usize>; 2]> {
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
                for (word, value, silent) in
                    [("stride", stride, 1), ("pad", padding, 0), ("groups", groups, 1)]
                {
                    if value != silent {
                        text += &format!(", {word} {value}");
                    }
                }
                text
            }
            Self::Relu => "relu".into(),
            Self::MaxPool2d { kernel, stride } => format!("max pool {kernel}×{kernel}, stride {stride}"),
            Self::LocalResponseNorm { size, .. } => format!("local response norm, size {size}"),
            Self::Flatten => "flatten".into(),
            Self::Linear { .. } => "linear".into(),
            Self::Dropout { p } => format!("dropout {p}"),
        }
    }
}

impl Topology {
    /// The output shape of each node for one image: `[C, H, W]`, or `[features]` after flattening. Validates the whole
    /// network.
    ///
    /// # Errors
    /// [`Error::Topology`] names the first node that cannot work.
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

    /// The number of classes: the features that the last node gives.
    ///
    /// # Errors
    /// [`Error::Topology`] when the network is not valid or does not end in features.
    pub fn classes(&self) -> Result<usize> {
        match self.shapes()?.last().map(Vec::as_slice) {
            Some([classes]) => Ok(*classes),
            other => Err(Error::Topology {
                node: self.nodes.last().map(|n| n.name.clone()).unwrap_or_default(),
                reason: format!("the network must end in [classes], ends in {other:?}"),
            }),
        }
    }

    /// All parameters in the order of the nodes, weight before bias.
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
                all.push(Parameter { name: format!("{name}.bias"), shape: bias, node, role: Role::Bias });
            }
        }
        Ok(all)
    }

    /// The names of the parameters inside `module`: `features` has those of the whole stage, `features.0` has
    /// `features.0.weight` and `features.0.bias`. What [`crate::Options::frozen`] takes, as
    /// `model.get_submodule(module).parameters()` is what `requires_grad = False` goes to in PyTorch.
    ///
    /// # Errors
    /// [`Error::Invalid`] (`module`) with the modules that there are, when no parameter belongs to this one;
    /// [`Error::Topology`] when the network is not valid.
    pub fn parameters_of(&self, module: &str) -> Result<BTreeSet<String>> {
        let all = self.parameters()?;
        let inside = |name: &&str| name.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
        let names: BTreeSet<String> =
            all.iter().map(|p| p.name.as_str()).filter(inside).map(String::from).collect();
        if !names.is_empty() {
            return Ok(names);
        }
        let mut modules: Vec<&str> = Vec::new();
        for parameter in &all {
            let layer = self.nodes[parameter.node].name.as_str();
            // A stage before its layers, each once.
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
            reason: format!("no parameter is in such a module; there are {}", modules.join(", ")),
        })
    }

    /// One row a node, for one image.
    ///
    /// # Errors
    /// [`Error::Topology`] when the network is not valid.
    pub fn summary(&self) -> Result<Vec<SummaryRow>> {
        let row = |(node, output): (&Node, Vec<usize>)| {
            let shapes = node.op.parameter_shapes();
            let elements = |shape: &[usize]| shape.iter().product::<usize>();
            // Each weight is used once for every position of the output plane.
            let positions = output.get(1..).map_or(1, elements);
            SummaryRow {
                name: node.name.clone(),
                op: node.op.describe(),
                parameters: shapes.iter().flatten().map(|s| elements(s)).sum(),
                multiply_adds: shapes.map_or(0, |[weight, _]| (elements(&weight) * positions) as u64),
                output,
            }
        };
        Ok(self.nodes.iter().zip(self.shapes()?).map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(inputs: usize, groups: usize) -> Op {
        Op::Conv2d { inputs, outputs: 8, kernel: 3, stride: 2, padding: 1, groups }
    }

    fn single(input: [usize; 3], op: Op) -> Topology {
        Topology { input, nodes: vec![Node { name: "it".into(), op }] }
    }

    #[test]
    fn shapes_round_down_like_pytorch() {
        assert_eq!(single([4, 10, 7], conv(4, 2)).shapes().unwrap(), [vec![8, 5, 4]]);
        let pool = Op::MaxPool2d { kernel: 3, stride: 2 };
        assert_eq!(single([4, 10, 7], pool).shapes().unwrap(), [vec![4, 4, 3]]);
    }

    #[test]
    fn a_bad_node_is_named_with_its_reason() {
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
    fn modules_have_the_parameters_below_their_name() {
        let topology = crate::alexnet::Variant::Tutorial.topology(5);
        let names = |module| Vec::from_iter(topology.parameters_of(module).unwrap());
        // Not those of `features.10`.
        assert_eq!(names("features.0"), ["features.0.bias", "features.0.weight"]);
        assert_eq!(names("classifier").len(), 6);
        assert_eq!(names("features").len(), 10);
        for module in ["features.1", "feature", "features.", "features.0.weight", ""] {
            let error = topology.parameters_of(module).unwrap_err().to_string();
            let modules = "there are features, features.0, features.3, features.6, features.8, features.10, \
                           classifier, classifier.1, classifier.4, classifier.6";
            assert!(error.starts_with(&format!("module cannot be `{module}`: ")), "{error}");
            assert!(error.ends_with(modules), "{error}");
        }
    }

    #[test]
    fn a_network_must_end_in_classes() {
        assert!(single([4, 2, 2], Op::Relu).classes().is_err());
        assert_eq!(single([4, 2, 2], Op::Flatten).classes().unwrap(), 16);
    }
}
