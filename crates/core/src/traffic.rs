//! What a rank holds, computes and sends in a training step, as arithmetic over a topology.
//!
//! All parameters are trainable. Messages of a few bytes, such as the losses of the ranks, are not
//! counted.

use std::{iter::Sum, mem, ops::Add};

use crate::{
    Op, Result, Topology,
    collective::{Sent, sent_by_balanced_sum, sent_by_gather_values, sent_by_sum_of_part},
    sum_order::Share,
    topology::SummaryRow,
    towers::{Part, tower},
};

/// The work of a rank for one node, or for all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// The number of parameters that the rank holds.
    pub parameters: usize,
    /// The number of multiply-adds of the forward pass. The backward pass has about twice as many.
    pub multiply_adds: u64,
    /// What the rank sends in the forward pass.
    pub forward: Sent,
    /// What the rank sends in the backward pass.
    pub backward: Sent,
}

impl Work {
    /// Returns what the rank sends in both passes.
    pub fn sent(self) -> Sent {
        self.forward + self.backward
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(works: I) -> Self {
        works.fold(Self::default(), |sum, work| Self {
            parameters: sum.parameters + work.parameters,
            multiply_adds: sum.multiply_adds + work.multiply_adds,
            forward: sum.forward + work.forward,
            backward: sum.backward + work.backward,
        })
    }
}

/// Returns the work for each node if ranks divide the images of a step: each of them has all
/// parameters, and gradients are added.
///
/// # Errors
/// [`crate::Error::Topology`] when the network is not valid.
pub fn data(topology: &Topology, rank: Share, images: usize) -> Result<Vec<Work>> {
    let work = |layer| divided_images(layer, rank, images);
    Ok(layers(topology)?.iter().map(work).collect())
}

/// Returns the work for each node if ranks divide the images of a step before the first linear layer,
/// and the outputs of the linear layers.
///
/// # Errors
/// [`crate::Error::Topology`] when the network is not valid.
pub fn hybrid(topology: &Topology, rank: Share, images: usize) -> Result<Vec<Work>> {
    let layers = layers(topology)?;
    let is_linear = |layer: &Layer| matches!(layer.op, Op::Linear { .. });
    let (first, last) = (layers.iter().position(is_linear), layers.iter().rposition(is_linear));
    let work = |(index, layer): (usize, &Layer)| {
        let Op::Linear { inputs, outputs } = *layer.op else {
            return divided_images(layer, rank, images);
        };
        let mut work = divided_outputs(inputs, outputs, rank, images);
        if first == Some(index) {
            let starts = rank.starts(images, inputs);
            work.forward += sent_by_gather_values(rank.rank, &starts);
            work.backward += sent_by_sum_of_part(rank.rank, &starts);
        } else {
            work.backward += sent_by_balanced_sum(rank, images * inputs);
        }
        if last == Some(index) {
            let starts = rank.starts(images, outputs);
            work.backward += sent_by_gather_values(rank.rank, &starts);
        }
        work
    };
    Ok(layers.iter().enumerate().map(work).collect())
}

/// Returns the work for each node if two ranks process all images of a step, and each of them has
/// half of the channels and some of the outputs of the linear layers (the paper's section 3.2).
///
/// Each rank reads some images and sends them to the other. Channels cross where [`tower`] says, and at
/// the border for local response normalization; outputs of linear layers as with [`hybrid`].
///
/// # Errors
/// [`crate::Error::Topology`] when the network is not valid; those of [`tower`].
pub fn towers(topology: &Topology, rank: Share, images: usize) -> Result<Vec<Work>> {
    let parts = tower(topology, rank.ranks)?;
    let layers = layers(topology)?;
    let last = layers.iter().rposition(|layer| matches!(layer.op, Op::Linear { .. }));
    let mut is_first_linear = true;
    let work = |(index, (layer, part)): (usize, (&Layer, &Part))| {
        let input: usize = layer.input.iter().product();
        let crossing = |numbers: [usize; 2]| {
            let [forward, backward] = numbers.map(|numbers| Sent::once(images * numbers));
            Work { forward, backward, ..Work::default() }
        };
        let mut work = if part.exchange { crossing([input / 2; 2]) } else { Work::default() };
        match *layer.op {
            Op::Conv2d { .. } => {
                work.parameters = layer.row.parameters / 2;
                work.multiply_adds = layer.row.multiply_adds / 2 * images as u64;
                if index == 0 {
                    work.forward = sent_images(rank, images, input);
                }
                work
            }
            Op::LocalResponseNorm { size, .. } if part.divided && size > 1 => {
                let border = size / 2 * input / layer.input[0];
                crossing([2 * border, border])
            }
            Op::Linear { inputs, outputs } => {
                let mut work = divided_outputs(inputs, outputs, rank, images);
                if !mem::take(&mut is_first_linear) {
                    work.backward = sent_by_balanced_sum(rank, images * inputs);
                }
                if last == Some(index) {
                    let starts = rank.starts(images, outputs);
                    work.backward += sent_by_gather_values(rank.rank, &starts);
                }
                work
            }
            _ => work,
        }
    };
    Ok(layers.iter().zip(&parts).enumerate().map(work).collect())
}

/// Returns what a rank sends if it sends its images, of `len` bytes, to the other of two ranks.
fn sent_images(rank: Share, images: usize, len: usize) -> Sent {
    Sent::once((rank.of(images).len() * len).div_ceil(4))
}

/// A node with its shapes and its row of the summary.
struct Layer<'a> {
    op: &'a Op,
    /// The shape of its input.
    input: Vec<usize>,
    row: SummaryRow,
}

fn layers(topology: &Topology) -> Result<Vec<Layer<'_>>> {
    let mut input = topology.input.to_vec();
    let mut layers = Vec::new();
    for (node, row) in topology.nodes.iter().zip(topology.summary()?) {
        let output = row.output.clone();
        layers.push(Layer { op: &node.op, input: mem::replace(&mut input, output), row });
    }
    Ok(layers)
}

/// Returns the work for a node of which each rank has all parameters and its share of the images.
fn divided_images(layer: &Layer, rank: Share, images: usize) -> Work {
    let own_images = rank.of(images).len() as u64;
    let lens = layer.op.parameter_shapes().into_iter().flatten();
    let sums = lens.map(|shape| sent_by_balanced_sum(rank, shape.iter().product()));
    Work {
        parameters: layer.row.parameters,
        multiply_adds: layer.row.multiply_adds * own_images,
        forward: Sent::default(),
        backward: sums.fold(Sent::default(), Add::add),
    }
}

/// Returns the work for a linear layer of which each rank has its share of the rows and all biases,
/// and processes all images. The gradient of the input is not sent.
fn divided_outputs(inputs: usize, outputs: usize, rank: Share, images: usize) -> Work {
    let weights = rank.of(outputs).len() * inputs;
    let starts = rank.starts(outputs, images);
    Work {
        parameters: weights + outputs,
        multiply_adds: (weights * images) as u64,
        forward: sent_by_gather_values(rank.rank, &starts),
        backward: Sent::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alexnet::Variant;

    type Division = fn(&Topology, Share, usize) -> Result<Vec<Work>>;

    fn of_ranks(division: Division, topology: &Topology, ranks: usize) -> Vec<Work> {
        let rank = |rank| Share { rank, ranks };
        let works = (0..ranks).map(|r| division(topology, rank(r), 32).unwrap());
        works.map(|works| works.into_iter().sum()).collect()
    }

    /// The numbers of bytes were counted in training steps with 32 images.
    #[test]
    fn ranks_send_what_was_counted() {
        let topology = Variant::Tutorial.topology(5);
        for (ranks, of_data, of_hybrid) in
            [(1, 0.0, 0.0), (2, 58.37, 5.16), (4, 87.55, 7.74), (8, 102.14, 9.03)]
        {
            for (division, expected) in [(data as Division, of_data), (hybrid, of_hybrid)] {
                for work in of_ranks(division, &topology, ranks) {
                    let megabytes = work.sent().bytes() as f64 / 1e6;
                    assert!((megabytes - expected).abs() < 0.01, "{megabytes}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn all_parameters_are_held_and_all_products_computed() {
        let total = |works: &[Work]| -> Work { works.iter().copied().sum() };
        for (variant, classes) in [(Variant::Tutorial, 5), (Variant::Original, 1000)] {
            let topology = variant.topology(classes);
            let rows = topology.summary().unwrap();
            let parameters: usize = rows.iter().map(|row| row.parameters).sum();
            let multiply_adds: u64 = rows.iter().map(|row| row.multiply_adds * 32).sum();
            let is_linear = |row: &&SummaryRow| row.op == "linear";
            let linear: usize = rows.iter().filter(is_linear).map(|row| row.parameters).sum();
            let biases: usize = rows.iter().filter(is_linear).map(|row| row.output[0]).sum();
            for ranks in [1, 2, 4] {
                let found = total(&of_ranks(data, &topology, ranks));
                assert_eq!(found.parameters, parameters * ranks);
                assert_eq!(found.multiply_adds, multiply_adds);
                let found = total(&of_ranks(hybrid, &topology, ranks));
                let whole = parameters - linear + biases;
                assert_eq!(found.parameters, parameters + (ranks - 1) * whole);
                assert_eq!(found.multiply_adds, multiply_adds);
            }
            if variant == Variant::Original {
                let found = total(&of_ranks(towers, &topology, 2));
                assert_eq!(found.parameters, parameters + biases);
                assert_eq!(found.multiply_adds, multiply_adds);
            }
        }
    }

    /// Per image: border channels after pool1 and pool2 (27×27 and 13×13), four forward and two
    /// backward; half of 256 channels before conv3 (13×13), half of 9216 numbers before the linear
    /// layers, the outputs of these, and the sums of two input gradients. Each rank also sends half
    /// of the images, as bytes, and half of the gradients of the logits.
    #[test]
    fn towers_send_images_channels_and_outputs() {
        let topology = Variant::Original.topology(1000);
        let (border, half) = (27 * 27 + 13 * 13, 128 * 13 * 13 + 4608);
        for (rank, rows) in [512, 488].into_iter().enumerate() {
            let works = towers(&topology, Share { rank, ranks: 2 }, 32).unwrap();
            let work: Work = works.into_iter().sum();
            let outputs = 2048 + 2048 + rows;
            assert_eq!(
                work.forward.numbers,
                16 * 227 * 227 * 3 / 4 + 32 * (4 * border + half + outputs)
            );
            assert_eq!(work.backward.numbers, 32 * (2 * border + half + 4096 + 4096) + 16 * 1000);
            // In the sums over two ranks, there are two exchanges.
            assert_eq!((work.forward.exchanges, work.backward.exchanges), (8, 9));
        }
        let before_pooling = Variant::OriginalNormFirst.topology(1000);
        let works = towers(&before_pooling, Share { rank: 0, ranks: 2 }, 32).unwrap();
        let work: Work = works.into_iter().sum();
        let border = 55 * 55 + 27 * 27;
        assert_eq!(
            work.forward.numbers,
            16 * 227 * 227 * 3 / 4 + 32 * (4 * border + half + 2048 + 2048 + 512)
        );
    }
}
