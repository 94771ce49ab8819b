//! Models whose layers are divided among ranks ([`crate::division`]).
//!
//! The layers before the first divided layer process the images of their rank. From there on, all
//! ranks process the images of all ranks, in the order of the ranks: a rank computes some outputs of
//! each divided layer, for which it has the weights, and gets those that it needs from the other
//! ranks. After the last layer each rank keeps the logits of its own images.
//!
//! If only the linear layers are divided, their outputs are divided as the images of a step are
//! ([`alexnet_core::sum_order`]), and the gradients of the inputs, which are sums over the outputs, are
//! formed in that order: a number of ranks that is a power of two does not change a bit.

use alexnet_core::{
    Error, Images, Mode, Normalization, Result,
    collective::{gather, gather_values, sum_of_part},
    sum_order::MicroBatch,
};

use crate::{
    division::LayerRanks,
    layers::CpuLayer,
    tensor::{Pool, Tensor},
};

/// The state of a model whose layers are divided.
pub struct Divided {
    /// The ranks.
    pub ranks: LayerRanks,
    /// The index of the first divided layer.
    pub first: usize,
    /// The images of the last forward pass.
    images: AllImages,
    /// After a backward pass that has updated the divided layers: the sum of their squared gradients
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
    /// Their normalization.
    normalization: Option<Normalization>,
}

impl AllImages {
    fn new(ranks: &LayerRanks, own: Option<&Images>, mode: Mode) -> Result<Self> {
        let own_batch = own.map_or(0, Images::len);
        // In training: the index of the first image, and the number of images of the step.
        let place = match mode {
            Mode::Train { micro_batch, .. } => micro_batch
                .map(|MicroBatch { first, images_per_step, .. }| (first, images_per_step))
                .or(Some((0, own_batch))),
            _ => None,
        };
        let is_blank = place.is_some_and(|(first, images)| first >= images);
        let count = if is_blank { 0 } else { own_batch };
        let own = (count, place, own.map(|images| images.normalization));
        let all = gather(ranks.collective(), &own)?;
        let total: usize = all.iter().map(|(count, ..)| count).sum();
        let mut starts = vec![0];
        let mut normalization = None;
        for (count, place, of_rank) in all {
            normalization = normalization.or(of_rank);
            let start = starts[starts.len() - 1];
            if place.is_some_and(|(first, images)| images != total || count > 0 && first != start) {
                return Err(Error::Ranks(
                    "ranks that divide layers must process all images of a step at once".into(),
                ));
            }
            starts.push(start + count);
        }
        Ok(Self { starts, own_batch, normalization })
    }
}

impl Divided {
    /// Returns the state of a model with these layers, if any of them is divided.
    pub fn new(
        ranks: Option<LayerRanks>,
        layers: &[Box<dyn CpuLayer>],
        pool: &Pool,
    ) -> Option<Self> {
        let first = layers.iter().position(|layer| layer.is_divided())?;
        let (images, pool) = (AllImages::default(), pool.clone());
        ranks.map(|ranks| Self { ranks, first, images, square_sum: None, pool })
    }

    /// Begins a pass, to which this rank contributes its images, if it has any. Returns the mode of
    /// the layers that process the images of all ranks, or `None` if no rank has an image.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn begin(&mut self, own: Option<&Images>, mode: Mode) -> Result<Option<Mode>> {
        self.images = AllImages::new(&self.ranks, own, mode)?;
        let mode_of_all = match mode {
            Mode::Train { seed, step, micro_batch } => Mode::Train {
                seed,
                step,
                micro_batch: micro_batch.map(|place| MicroBatch { first: 0, ..place }),
            },
            mode => mode,
        };
        Ok((self.images.starts.last() != Some(&0)).then_some(mode_of_all))
    }

    /// Returns the images of all ranks in this pass, to which this rank contributes `own`.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn gather_images(
        &self,
        own: Option<&Images>,
        [_, height, width]: [usize; 3],
    ) -> Result<Images> {
        let starts = self.starts(3 * height * width);
        let rank = self.ranks.share().rank;
        let len = starts[rank + 1] - starts[rank];
        let pixels = own.map_or(&[][..], |own| &own.pixels[..len]);
        let pixels = self.ranks.collective().gather_bytes(pixels)?.concat();
        match self.images.normalization {
            Some(normalization) => Ok(Images { pixels, height, width, normalization }),
            None => Err(Error::Ranks("no rank has an image".into())),
        }
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
        gather_values(self.ranks.collective(), all.values_mut(), &starts)?;
        Ok(all)
    }

    /// Returns the gradients of the inputs of the first divided layer for the images of this rank.
    /// Each rank has the sums over its outputs.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn own_gradients(&self, partial: &Tensor) -> Result<Tensor> {
        let starts = self.starts(partial.item_len());
        let sum = sum_of_part(self.ranks.collective(), partial.values(), &starts)?;
        Ok(self.own(&sum, &partial.item))
    }

    /// Returns the items of this rank, out of those of all ranks.
    pub fn own_items(&self, all: &Tensor) -> Tensor {
        let starts = self.starts(all.item_len());
        let rank = self.ranks.share().rank;
        self.own(&all.values()[starts[rank]..starts[rank + 1]], &all.item)
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
    use crate::{Division, Kernels, lower::lower};

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
                let division = Division::Linear(rank);
                let lowered = lower(
                    &topology,
                    state.clone(),
                    &Options::default(),
                    Kernels::default(),
                    Some(&division),
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
