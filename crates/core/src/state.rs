//! The parameters and optimizer moments on the host.

use std::collections::BTreeMap;

use crate::{Error, Result, Topology, text::shown};

/// An f32 array on the host, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// The elements. Their number is the product of `shape`.
    pub values: Vec<f32>,
}

impl Array {
    /// Creates an array in which all elements are `value`.
    pub fn filled(shape: &[usize], value: f32) -> Self {
        Self { shape: shape.to_vec(), values: vec![value; shape.iter().product()] }
    }

    /// Whether the number of elements matches the shape.
    fn is_complete(&self) -> bool {
        self.values.len() == self.shape.iter().product::<usize>()
    }

    fn describe(&self) -> String {
        let Self { shape, values } = self;
        if self.is_complete() {
            format!("{shape:?}")
        } else {
            format!("{shape:?} of {} numbers", values.len())
        }
    }
}

/// The parameters by PyTorch's names: `features.0.weight` `[out, in/groups, kh, kw]`,
/// `classifier.1.weight` `[out, in]`, ….
pub type Parameters = BTreeMap<String, Array>;

/// The state of a model in training. It is stored in checkpoints, and engines start from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The weights and biases.
    pub parameters: Parameters,
    /// The moments of the optimizer by `parameter.moment`, with PyTorch's names of the moments
    /// (`exp_avg`, `exp_avg_sq`, `momentum_buffer`); empty before the first step.
    pub moments: BTreeMap<String, Array>,
    /// The moving average of the parameters ([`crate::ema`]). Only the training loop uses it, not
    /// the engines.
    pub average: Parameters,
}

impl From<Parameters> for State {
    /// Creates the state before the first step.
    fn from(parameters: Parameters) -> Self {
        Self { parameters, ..Self::default() }
    }
}

impl State {
    /// Whether all numbers of the state are finite.
    pub fn is_finite(&self) -> bool {
        let Self { parameters, moments, average } = self;
        let arrays = parameters.values().chain(moments.values()).chain(average.values());
        arrays.flat_map(|array| array.values.chunks(1024)).all(|values| {
            // A fold without a branch per value is much faster, and each checkpoint calls this
            // function.
            values.iter().fold(true, |finite, value| finite & value.is_finite())
        })
    }

    /// Checks that the state has exactly the parameters of `topology` with their shapes, and that
    /// each moment has the shape of its parameter.
    ///
    /// # Errors
    /// [`Error::Parameters`] with a table of the parameters and moments that do not fit.
    pub fn check(&self, topology: &Topology) -> Result<()> {
        let shapes =
            self.parameters.iter().map(|(name, array)| (name.as_str(), array.shape.as_slice()));
        let mut table = shape_mismatches(topology, shapes)?;
        if !self.average.is_empty() {
            let shapes =
                self.average.iter().map(|(name, array)| (name.as_str(), array.shape.as_slice()));
            table.extend(
                shape_mismatches(topology, shapes)?
                    .into_iter()
                    .map(|row| format!("{row} (average)")),
            );
        }
        let expected = topology.parameters()?;
        let expected: BTreeMap<&str, &[usize]> =
            expected.iter().map(|p| (p.name.as_str(), p.shape.as_slice())).collect();
        let broken = |(name, array): &(&String, &Array)| {
            expected.contains_key(name.as_str()) && !array.is_complete()
        };
        for (name, array) in self.parameters.iter().filter(broken) {
            table.push(row(name, Some(expected[name.as_str()]), Some(&array.describe())));
        }
        for (name, found) in &self.moments {
            let shape = name.rsplit_once('.').and_then(|(parameter, _)| expected.get(parameter));
            match shape {
                Some(shape) if found.shape == *shape && found.is_complete() => {}
                shape => table.push(row(name, shape.copied(), Some(&found.describe()))),
            }
        }
        if table.is_empty() { Ok(()) } else { Err(Error::Parameters { table: table.join("\n") }) }
    }
}

/// Compares names and shapes of parameters with those of `topology`. Returns one row (name,
/// expected, found) for each difference.
///
/// # Errors
/// [`Error::Topology`].
pub fn shape_mismatches<'a>(
    topology: &Topology,
    found: impl IntoIterator<Item = (&'a str, &'a [usize])>,
) -> Result<Vec<String>> {
    let mut found: BTreeMap<&str, &[usize]> = found.into_iter().collect();
    let mut table = Vec::new();
    for parameter in topology.parameters()? {
        let shape = found.remove(parameter.name.as_str());
        if shape != Some(&parameter.shape) {
            let shape = shape.map(|shape| format!("{shape:?}"));
            table.push(row(&parameter.name, Some(&parameter.shape), shape.as_deref()));
        }
    }
    let unknown =
        found.into_iter().map(|(name, shape)| row(name, None, Some(&format!("{shape:?}"))));
    table.extend(unknown);
    Ok(table)
}

fn row(name: &str, expected: Option<&[usize]>, found: Option<&str>) -> String {
    let expected = expected.map_or("none".into(), |shape| format!("{shape:?}"));
    format!("  {}: expected {expected}, found {}", shown(name), shown(found.unwrap_or("none")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, Op};

    #[test]
    fn non_finite_numbers_are_found_at_any_place() {
        let arrays = || Parameters::from([("a".into(), Array::filled(&[1030], 1.0))]);
        let state = || State { parameters: arrays(), moments: arrays(), average: arrays() };
        assert!(state().is_finite() && State::default().is_finite());
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (part, index) in [(0, 0), (1, 1023), (2, 1029)] {
                let mut state = state();
                let State { parameters, moments, average } = &mut state;
                [parameters, moments, average][part].get_mut("a").unwrap().values[index] = value;
                assert!(!state.is_finite(), "{value} in {part}");
            }
        }
    }

    #[test]
    fn all_mismatches_are_listed() {
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

        state
            .parameters
            .insert("fc.weight".into(), Array { shape: vec![2, 3], values: vec![0.0; 5] });
        state.parameters.remove("fc.bias");
        state.parameters.insert("conv.bias".into(), Array::filled(&[4], 0.0));
        state.moments.insert("fc.bias.exp_avg".into(), Array::filled(&[3], 0.0));
        state.moments.insert("other.exp_avg".into(), Array::filled(&[3], 0.0));
        let Err(Error::Parameters { table }) = state.check(&topology) else { panic!("it fits") };
        assert_eq!(
            table.lines().map(str::trim).collect::<Vec<_>>(),
            [
                "fc.bias: expected [2], found none",
                "conv.bias: expected none, found [4]",
                "fc.weight: expected [2, 3], found [2, 3] of 5 numbers",
                "fc.bias.exp_avg: expected [2], found [3]",
                "other.exp_avg: expected none, found [3]",
            ]
        );
    }
}
