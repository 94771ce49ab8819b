//! Compares runs.

use std::{collections::BTreeMap, fs, path::Path};

use alexnet::core::checkpoint;
use serde_json::Value;

/// The weights, the tensors of the checkpoint and the results of a run, without times.
#[derive(Debug, PartialEq)]
pub struct Results {
    weights: Vec<u8>,
    checkpoint: BTreeMap<String, Vec<u32>>,
    losses: Vec<String>,
}

/// Reads the results of a run.
pub fn results(run: &Path) -> Results {
    let (state, _) =
        checkpoint::load::<Value>(run.join("checkpoint/checkpoint.safetensors")).unwrap();
    let arrays =
        [("parameter", state.parameters), ("moment", state.moments), ("average", state.average)];
    let arrays = arrays.into_iter().flat_map(|(kind, arrays)| {
        arrays.into_iter().map(move |(name, array)| {
            (format!("{kind} {name}"), array.values.iter().map(|x| x.to_bits()).collect())
        })
    });
    let csv = fs::read_to_string(run.join("results.csv")).unwrap();
    let without_time = |line: &str| -> String {
        line.split(',').enumerate().filter(|(i, _)| *i != 1).map(|(_, text)| text).collect()
    };
    Results {
        weights: fs::read(run.join("weights/last.safetensors")).unwrap(),
        checkpoint: arrays.collect(),
        losses: csv.lines().map(without_time).collect(),
    }
}
