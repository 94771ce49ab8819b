//! Steps of a model whose layers are divided among ranks.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use alexnet_core::{
    Batch, Collective, Model, Result, Step,
    collective::threads::ThreadRank,
    sum_order::Share,
    train::{StepBatch, train_step},
};

/// Returns the images of a rank in a step with these images.
pub fn share(batch: &Batch, ranks: &dyn Collective) -> StepBatch {
    let own = Share { rank: ranks.rank(), ranks: ranks.size() }.of(batch.len());
    let images_per_step = batch.len();
    if !own.is_empty() {
        return StepBatch {
            batch: batch.slice(own.clone()),
            first: own.start,
            images_per_step,
            weights: None,
        };
    }
    let mut blank = batch.slice(0..1);
    blank.images.pixels.fill(0);
    blank.targets.fill(0.0);
    StepBatch { batch: blank, first: images_per_step, images_per_step, weights: None }
}

/// Does a step on these ranks.
pub fn step(
    model: &mut dyn Model,
    batch: &Batch,
    (number, clip_grad_norm): (u64, Option<f32>),
    ranks: &dyn Collective,
) -> Result<(f64, f64)> {
    let own = share(batch, ranks);
    let micro_batch = Some(own.micro_batch(batch.labeled() as f64));
    let step = Step { number, seed: 1, micro_batch, lr: 1e-3, clip_grad_norm };
    let report = train_step(model, &own.batch, 100, &step, ranks)?;
    Ok((report.loss, report.gradient_norm))
}

/// A rank that counts the bytes that it sends: numbers, and bytes to one other rank.
pub struct Counting {
    rank: Arc<ThreadRank>,
    pub numbers: AtomicUsize,
    pub messages: AtomicUsize,
}

impl Counting {
    pub fn new(rank: Arc<ThreadRank>) -> Self {
        let zero = || AtomicUsize::new(0);
        Self { rank, numbers: zero(), messages: zero() }
    }
}

impl Collective for Counting {
    fn rank(&self) -> usize {
        self.rank.rank()
    }

    fn size(&self) -> usize {
        self.rank.size()
    }

    fn name(&self) -> String {
        self.rank.name()
    }

    fn exchange(&self, with: usize, send: &[f32], receive: &mut [f32]) -> Result<()> {
        self.numbers.fetch_add(4 * send.len(), Ordering::Relaxed);
        self.rank.exchange(with, send, receive)
    }

    fn gather_bytes(&self, message: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.messages.fetch_add(message.len(), Ordering::Relaxed);
        self.rank.gather_bytes(message)
    }
}
