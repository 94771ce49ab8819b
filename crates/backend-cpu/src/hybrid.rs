//! Linear layers that are divided among ranks (Krizhevsky 2014, arXiv 1404.5997).
//!
//! The layers before the first linear layer process the images of their rank. From there on, all
//! ranks process the images of all ranks, in the order of the ranks: a rank computes some outputs of
//! each linear layer, for which it has the weights, and gets the others from the other ranks. After
//! the last layer each rank keeps the logits of its own images.
//!
//! The outputs are divided as the images of a step are ([`alexnet_core::sum_order`]), and the
//! gradients of the inputs, which are sums over the outputs, are formed in that order: a number of
//! ranks that is a power of two does not change a bit.

use std::sync::Arc;

use alexnet_core::{
    Collective, Error, Mode, Result,
    collective::{gather, gather_values, sum_of_part},
    sum_order::{MicroBatch, Share},
};

use crate::{
    layers::CpuLayer,
    tensor::{Pool, Tensor},
};

/// The ranks that divide the linear layers among them, at least two.
#[derive(Clone, Debug)]
pub struct LinearRanks(Arc<dyn Collective>);

impl LinearRanks {
    /// Returns the ranks if there is more than one.
    pub fn new(ranks: Option<Arc<dyn Collective>>) -> Option<Self> {
        ranks.filter(|ranks| ranks.size() > 1).map(Self)
    }

    /// Returns the share of this rank in the rows of a weight.
    pub fn share(&self) -> Share {
        Share { rank: self.0.rank(), ranks: self.0.size() }
    }

    /// Fills `values`, `outputs` rows, of which each rank has its share.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn gather_rows(&self, values: &mut [f32], outputs: usize) -> Result<()> {
        let row = values.len() / outputs;
        let ranks = self.0.size();
        let end = |rank| Share { rank, ranks }.of(outputs).end * row;
        let starts: Vec<usize> = [0].into_iter().chain((0..ranks).map(end)).collect();
        gather_values(self.0.as_ref(), values, &starts)
    }

    /// Returns the numbers of all ranks, in their order.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn gather_numbers(&self, own: &[f64]) -> Result<Vec<f64>> {
        let bits: Vec<u64> = own.iter().map(|number| number.to_bits()).collect();
        let all = gather(self.0.as_ref(), &bits)?;
        Ok(all.into_iter().flatten().map(f64::from_bits).collect())
    }
}

/// The state of a model whose linear layers are divided.
pub struct Hybrid {
    /// The ranks.
    pub ranks: LinearRanks,
    /// The index of the first linear layer.
    pub first: usize,
    /// The images of the last forward pass.
    images: AllImages,
    /// After a backward pass that has updated the linear layers: the sum of their squared gradients
    /// on this rank.
    pub square_sum: Option<f64>,
    pool: Pool,
}

/// The images of all ranks in a pass.
#[derive(Default)]
struct AllImages {
    /// The index of the first image of each rank, and the number of all images.
    starts: Vec<usize>,
    /// The size of the batch of this rank. It is 1, for a blank image, if the rank has no image of a
    /// step.
    own_batch: usize,
}

impl AllImages {
    fn new(ranks: &LinearRanks, own_batch: usize, mode: Mode) -> Result<Self> {
        // In training: the index of the first image, and the number of images of the step.
        let place = match mode {
            Mode::Train { micro_batch, .. } => micro_batch
                .map(|MicroBatch { first, images_per_step, .. }| (first, images_per_step))
                .or(Some((0, own_batch))),
            _ => None,
        };
        let is_blank = place.is_some_and(|(first, images)| first >= images);
        let count = if is_blank { 0 } else { own_batch };
        let all = gather(ranks.0.as_ref(), &(count, place))?;
        let total: usize = all.iter().map(|(count, _)| count).sum();
        let mut starts = vec![0];
        for (count, place) in all {
            let start = starts[starts.len() - 1];
            if place.is_some_and(|(first, images)| images != total || count > 0 && first != start) {
                return Err(Error::Ranks(
                    "ranks that divide linear layers must process all images of a step at once"
                        .into(),
                ));
            }
            starts.push(start + count);
        }
        Ok(Self { starts, own_batch })
    }
}

impl Hybrid {
    /// Returns the state of a model with these layers, if any of them is divided.
    pub fn new(
        ranks: Option<LinearRanks>,
        layers: &[Box<dyn CpuLayer>],
        pool: &Pool,
    ) -> Option<Self> {
        let first = layers.iter().position(|layer| layer.is_divided())?;
        let (images, pool) = (AllImages::default(), pool.clone());
        ranks.map(|ranks| Self { ranks, first, images, square_sum: None, pool })
    }

    /// Runs the forward pass of `layers`, which start with the first linear layer, on the images of
    /// all ranks. Takes the input and returns the output for the images of this rank.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn forward(
        &mut self,
        own: Tensor,
        mode: Mode,
        layers: &mut [Box<dyn CpuLayer>],
    ) -> Result<Tensor> {
        self.images = AllImages::new(&self.ranks, own.batch, mode)?;
        if self.images.starts.last() == Some(&0) {
            return Ok(own);
        }
        let mode = match mode {
            Mode::Train { seed, step, micro_batch } => Mode::Train {
                seed,
                step,
                micro_batch: micro_batch.map(|place| MicroBatch { first: 0, ..place }),
            },
            mode => mode,
        };
        let mut all = self.gather(&own)?;
        for layer in layers {
            all = layer.forward(all, mode)?;
        }
        let starts = self.starts(all.item_len());
        let rank = self.ranks.share().rank;
        Ok(self.own(&all.values()[starts[rank]..starts[rank + 1]], &all.item))
    }

    /// Returns the items of all ranks.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn gather(&self, own: &Tensor) -> Result<Tensor> {
        let starts = self.starts(own.item_len());
        let mut all = self.pool.tensor(self.images.starts[starts.len() - 1], &own.item);
        let rank = self.ranks.share().rank;
        let part = starts[rank]..starts[rank + 1];
        let len = part.len();
        all.values_mut()[part].copy_from_slice(&own.values()[..len]);
        gather_values(self.ranks.0.as_ref(), all.values_mut(), &starts)?;
        Ok(all)
    }

    /// Adds the gradients of the input of the layer at `index` over the ranks, each of which has
    /// computed the sum over its outputs. Returns them for all images, or for those of this rank if
    /// it is the first linear layer.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn add_input_gradients(&self, mut partial: Tensor, index: usize) -> Result<Tensor> {
        if index > self.first {
            self.ranks.0.sum(partial.values_mut())?;
            return Ok(partial);
        }
        let starts = self.starts(partial.item_len());
        let sum = sum_of_part(self.ranks.0.as_ref(), partial.values(), &starts)?;
        Ok(self.own(&sum, &partial.item))
    }

    /// Returns where the items of each rank start, for items of this length.
    fn starts(&self, item_len: usize) -> Vec<usize> {
        self.images.starts.iter().map(|start| start * item_len).collect()
    }

    /// Returns a batch of this rank with these numbers; zeros for a blank image.
    fn own(&self, values: &[f32], item: &[usize]) -> Tensor {
        let mut own = self.pool.tensor(self.images.own_batch, item);
        let (numbers, blank) = own.values_mut().split_at_mut(values.len());
        numbers.copy_from_slice(values);
        blank.fill(0.0);
        own
    }
}

#[cfg(test)]
mod tests {
    use alexnet_core::{
        Node, Op, Options, Topology,
        collective::threads,
        init::{Init, initialize},
    };

    use super::*;
    use crate::{Kernels, lower::lower};

    #[test]
    fn a_rank_has_only_its_rows_of_weights_and_moments() {
        let ops = [
            Op::Flatten,
            Op::Linear { inputs: 48, outputs: 40 },
            Op::Relu,
            Op::Linear { inputs: 40, outputs: 3 },
        ];
        let nodes =
            ops.into_iter().enumerate().map(|(i, op)| Node { name: format!("layer.{i}"), op });
        let topology = Topology { input: [3, 4, 4], nodes: nodes.collect() };
        let state = initialize(&topology, Init::Pytorch, 5).unwrap();
        for (size, rows) in [(2, [20, 3]), (4, [10, 2]), (8, [5, 1])] {
            let lens = threads::run(size, |rank| {
                let ranks = LinearRanks::new(Some(rank));
                let lowered = lower(
                    &topology,
                    &state,
                    &Options::default(),
                    Kernels::default(),
                    ranks.as_ref(),
                    &Pool::default(),
                );
                let layers = lowered.unwrap().layers;
                let parameters = layers.iter().flat_map(|layer| layer.parameters());
                let len = |p: &crate::parameter::ParameterState| {
                    assert!(p.moments.iter().all(|moment| moment.len() == p.values.len()));
                    assert!(p.gradient.len() <= p.values.len());
                    p.values.len()
                };
                parameters.map(len).collect::<Vec<_>>()
            });
            // The biases are not divided.
            assert_eq!(lens[0], [rows[0] * 48, 40, rows[1] * 40, 3]);
            for (parameter, whole) in [(0, 40 * 48), (2, 3 * 40)] {
                assert_eq!(lens.iter().map(|lens| lens[parameter]).sum::<usize>(), whole);
            }
        }
    }
}
