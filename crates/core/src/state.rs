//! Parameters and optimiser moments on the host.

use std::collections::BTreeMap;

use crate::{Error, Result, Topology};

/// An f32 array on the host, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// The extent of each dimension.
    pub shape: Vec<usize>,
    /// The elements; as many as the product of `shape`.
    pub values: Vec<f32>,
}

impl Array {
    /// All elements `value`.
    pub fn filled(shape: &[usize], value: f32) -> Self {
        Self { shape: shape.to_vec(), values: vec![value; shape.iter().product()] }
    }

    /// Whether this is a whole array of that shape.
    fn fits(&self, shape: &[usize]) -> bool {
        self.shape == shape && self.values.len() == shape.iter().product::<usize>()
    }

    fn describe(&self) -> String {
        let Self { shape, values } = self;
        if self.fits(shape) { format!("{shape:?}") } else { format!("{shape:?} of {} numbers", values.len()) }
    }
}

/// All that a model has learnt: what a checkpoint stores and what an engine starts from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// By PyTorch's names: `features.0.weight` `[out, in/groups, kh, kw]`, `classifier.1.weight` `[out, in]`, ….
    pub parameters: BTreeMap<String, Array>,
    /// The optimiser's memory by `parameter.moment`, with PyTorch's names for the moments (`exp_avg`, `exp_avg_sq`,
    /// `momentum_buffer`); empty before the first step.
    pub moments: BTreeMap<String, Array>,
}

impl State {
    /// Checks that exactly the parameters of `topology` are here, in their shapes, and that each moment has the shape of
    /// its parameter.
    ///
    /// # Errors
    /// [`Error::Parameters`] with a table of what does not fit.
    pub fn check(&self, topology: &Topology) -> Result<()> {
        let expected: BTreeMap<String, Vec<usize>> =
            topology.parameters()?.into_iter().map(|p| (p.name, p.shape)).collect();
        let mut table = Vec::new();
        for (name, shape) in &expected {
            match self.parameters.get(name) {
                Some(found) if found.fits(shape) => {}
                Some(found) => {
                    table.push(format!("  {name}: expected {shape:?}, found {}", found.describe()))
                }
                None => table.push(format!("  {name}: expected {shape:?}, found none")),
            }
        }
        for (name, found) in &self.parameters {
            if !expected.contains_key(name) {
                table.push(format!("  {name}: expected none, found {}", found.describe()));
            }
        }
        for (name, found) in &self.moments {
            let shape = name.rsplit_once('.').and_then(|(parameter, _)| expected.get(parameter));
            match shape {
                Some(shape) if found.fits(shape) => {}
                Some(shape) => {
                    table.push(format!("  {name}: expected {shape:?}, found {}", found.describe()))
                }
                None => table.push(format!("  {name}: expected none, found {}", found.describe())),
            }
        }
        if table.is_empty() { Ok(()) } else { Err(Error::Parameters { table: table.join("\n") }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, Op};

    #[test]
    fn what_does_not_fit_is_listed() {
        let topology = Topology {
            input: [3, 1, 1],
            nodes: vec![
                Node { name: "flatten".into(), op: Op::Flatten },
                Node { name: "fc".into(), op: Op::Linear { inputs: 3, outputs: 2 } },
            ],
        };
        let mut state = State::default();
        state.parameters.insert("fc.weight".into(), Array::filled(&[2, 3], 0.0));
        state.parameters.insert("fc.bias".into(), Array::filled(&[2], 0.0));
        state.moments.insert("fc.bias.exp_avg".into(), Array::filled(&[2], 0.0));
        state.check(&topology).unwrap();

        state.parameters.insert("fc.weight".into(), Array { shape: vec![2, 3], values: vec![0.0; 5] });
        state.parameters.remove("fc.bias");
        state.parameters.insert("conv.bias".into(), Array::filled(&[4], 0.0));
        state.moments.insert("fc.bias.exp_avg".into(), Array::filled(&[3], 0.0));
        state.moments.insert("other.exp_avg".into(), Array::filled(&[3], 0.0));
        let Err(Error::Parameters { table }) = state.check(&topology) else { panic!("it fits") };
        assert_eq!(
            table.lines().map(str::trim).collect::<Vec<_>>(),
            [
                "fc.bias: expected [2], found none",
                "fc.weight: expected [2, 3], found [2, 3] of 5 numbers",
                "conv.bias: expected none, found [4]",
                "fc.bias.exp_avg: expected [2], found [3]",
                "other.exp_avg: expected none, found [3]",
            ]
        );
    }
}
