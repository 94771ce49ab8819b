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
                Some(found) if found.shape == *shape => {}
                Some(found) => table.push(format!("  {name}: expected {shape:?}, found {:?}", found.shape)),
                None => table.push(format!("  {name}: expected {shape:?}, found none")),
            }
        }
        for (name, found) in &self.parameters {
            if !expected.contains_key(name) {
                table.push(format!("  {name}: expected none, found {:?}", found.shape));
            }
        }
        for (name, found) in &self.moments {
            let shape = name.rsplit_once('.').and_then(|(parameter, _)| expected.get(parameter));
            if shape != Some(&found.shape) {
                table.push(format!("  {name}: expected {shape:?}, found {:?}", found.shape));
            }
        }
        if table.is_empty() { Ok(()) } else { Err(Error::Parameters { table: table.join("\n") }) }
    }
}
