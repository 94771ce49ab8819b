//! The layers of a network.

use alexnet::core::{Op, Topology, alexnet::Variant, topology::SummaryRow};
use anyhow::{Result, bail};
use serde::Serialize;

use crate::columns::{TERMINAL, grouped, print_table, width};

/// The layers of a network, as in the JSON output.
#[derive(Serialize)]
pub struct Layers {
    variant: Variant,
    classes: usize,
    /// The shape of an image, `[C, H, W]`.
    input: [usize; 3],
    layers: Vec<Layer>,
    parameters: u64,
    multiply_adds: u64,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    operation: String,
    /// `[C, H, W]` or `[features]`.
    output: Vec<usize>,
    parameters: u64,
    multiply_adds: u64,
    /// Whether it is shown in the line below the table.
    #[serde(skip)]
    is_stage: bool,
}

impl Layers {
    /// Returns the layers for images of a size; `None` is the usual one.
    ///
    /// # Errors
    /// If the network cannot have images of this size.
    pub fn new(variant: Variant, classes: usize, size: Option<usize>) -> Result<Self> {
        let usual = variant.topology(classes);
        let topology = match size {
            Some(size) => sized(variant, &usual, size)?,
            None => usual,
        };
        let rows = topology.summary()?;
        let layer = |(row, node): (SummaryRow, &alexnet::core::Node)| Layer {
            name: row.name,
            operation: row.op,
            output: row.output,
            parameters: row.parameters as u64,
            multiply_adds: row.multiply_adds,
            is_stage: matches!(
                node.op,
                Op::Conv2d { .. } | Op::MaxPool2d { .. } | Op::Linear { .. }
            ),
        };
        let layers: Vec<Layer> = rows.into_iter().zip(&topology.nodes).map(layer).collect();
        Ok(Self {
            variant,
            classes,
            input: topology.input,
            parameters: layers.iter().map(|layer| layer.parameters).sum(),
            multiply_adds: layers.iter().map(|layer| layer.multiply_adds).sum(),
            layers,
        })
    }

    /// Prints a table, and the shapes in a line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(&self) -> Result<()> {
        let shape = |shape: &[usize]| match *shape {
            [c, h, w] => format!("{h}×{w}×{c}"),
            _ => shape.iter().map(ToString::to_string).collect(),
        };
        let count = |n: u64| if n == 0 { "–".to_owned() } else { grouped(n) };
        let mut table = vec![
            ["layer", "operation", "output", "parameters", "mult-adds"].map(String::from),
            [
                "images".into(),
                "height × width × channels".into(),
                shape(&self.input),
                String::new(),
                String::new(),
            ],
        ];
        table.extend(self.layers.iter().map(|layer| {
            let Layer { name, operation, output, parameters, multiply_adds, .. } = layer;
            let (parameters, multiply_adds) = (count(*parameters), count(*multiply_adds));
            [name.clone(), operation.clone(), shape(output), parameters, multiply_adds]
        }));
        table.push([
            "total".into(),
            String::new(),
            String::new(),
            grouped(self.parameters),
            grouped(self.multiply_adds),
        ]);

        say!("{} with {} classes", self.variant, self.classes)?;
        print_table(&table)?;
        let stages = self.layers.iter().filter(|layer| layer.is_stage);
        let flow = [shape(&self.input)].into_iter().chain(stages.map(|layer| shape(&layer.output)));
        let mut line = String::new();
        for (place, shape) in flow.enumerate() {
            let step = if place == 0 { shape } else { format!(" → {shape}") };
            if width(&line) + width(&step) > TERMINAL {
                say!("{line}")?;
                line = String::from(" ");
            }
            line += &step;
        }
        say!("{line}")
    }
}

/// Returns the network for images of another size. It has no adaptive pooling, so only sizes fit
/// whose features have the shape that the first linear layer needs.
fn sized(variant: Variant, usual: &Topology, size: usize) -> Result<Topology> {
    let [channels, height, _] = usual.input;
    let of = |size| Topology { input: [channels, size, size], nodes: usual.nodes.clone() };
    let fits = |size: &usize| of(*size).shapes().is_ok();
    if fits(&size) {
        return Ok(of(size));
    }
    let least = (1..=height).rev().take_while(fits).last().unwrap_or(height);
    let most = (height..).take_while(fits).last().unwrap_or(height);
    bail!(
        "`--input-size` cannot be {size}: the first linear layer of {variant} needs the features of \
         images of {least} to {most} pixels"
    )
}
