//! How the layers of a model are divided among ranks, and what the ranks exchange.

use std::sync::Arc;

use alexnet_core::{
    Collective, Result,
    collective::{gather, gather_values},
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
