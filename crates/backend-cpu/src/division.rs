//! How the layers of a model are divided among ranks, and what the ranks exchange.

use std::sync::Arc;

use alexnet_core::{
    Array, Collective, Result,
    collective::{gather, gather_values, gather_values_on_first},
    sum_order::Share,
};

/// The ranks that divide the layers of a model among them, and how.
#[derive(Clone, Debug)]
pub enum Division {
    /// Each rank has a share of the outputs of each linear layer (hybrid parallelism; Krizhevsky
    /// 2014, arXiv 1404.5997).
    Linear(Arc<dyn Collective>),
    /// Each of two ranks has one half of the channels and a share of the outputs of each linear layer,
    /// as the two GPUs of the paper of 2012 ([`alexnet_core::towers`]).
    Towers(Arc<dyn Collective>),
}

impl Division {
    /// Returns the ranks if there is more than one.
    pub(crate) fn ranks(&self) -> Option<LayerRanks> {
        let (Self::Linear(ranks) | Self::Towers(ranks)) = self;
        (ranks.size() > 1).then(|| LayerRanks(Arc::clone(ranks)))
    }

    /// Whether convolutions are divided.
    pub(crate) fn has_towers(&self) -> bool {
        matches!(self, Self::Towers(_))
    }
}

/// The ranks that divide the layers of a model among them, at least two.
#[derive(Clone, Debug)]
pub struct LayerRanks(Arc<dyn Collective>);

impl LayerRanks {
    /// Returns the group of ranks.
    pub fn collective(&self) -> &dyn Collective {
        self.0.as_ref()
    }

    /// Returns the share of this rank in the outputs of a layer.
    pub fn share(&self) -> Share {
        Share { rank: self.0.rank(), ranks: self.0.size() }
    }

    /// Fills `values`, which has `outputs` rows, of which each rank has its share.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Ranks`].
    pub fn gather_rows(&self, values: &mut [f32], outputs: usize) -> Result<()> {
        let starts = self.share().starts(outputs, values.len() / outputs);
        gather_values(self.0.as_ref(), values, &starts)
    }

    /// Returns an array with `outputs` rows, of which this rank has `own`, on all ranks.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Ranks`].
    pub fn whole_array(&self, own: &Array, outputs: usize) -> Result<Array> {
        let shape = [&[outputs], &own.shape[1..]].concat();
        let mut whole = Array::filled(&shape, 0.0);
        let start = self.share().of(outputs).start * own.shape[1..].iter().product::<usize>();
        whole.values[start..start + own.values.len()].copy_from_slice(&own.values);
        self.gather_rows(&mut whole.values, outputs)?;
        Ok(whole)
    }

    /// Returns an array with `outputs` rows, of which this rank has `own`, on rank 0, and `own` on
    /// the others.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Ranks`].
    pub fn whole_array_on_first(&self, own: Array, outputs: usize) -> Result<Array> {
        let Array { mut shape, values } = own;
        let starts = self.share().starts(outputs, shape[1..].iter().product());
        let values = gather_values_on_first(self.0.as_ref(), values, &starts)?;
        if self.0.rank() == 0 {
            shape[0] = outputs;
        }
        Ok(Array { shape, values })
    }

    /// Returns the numbers of all ranks, in their order.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Ranks`].
    pub fn gather_numbers(&self, own: &[f64]) -> Result<Vec<f64>> {
        let bits: Vec<u64> = own.iter().map(|number| number.to_bits()).collect();
        let all = gather(self.0.as_ref(), &bits)?;
        Ok(all.into_iter().flatten().map(f64::from_bits).collect())
    }

    /// Sends numbers to the other of two ranks, and receives numbers from it.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Ranks`].
    pub fn exchange(&self, send: &[f32], receive: &mut [f32]) -> Result<()> {
        self.0.exchange(1 - self.0.rank(), send, receive)
    }
}
