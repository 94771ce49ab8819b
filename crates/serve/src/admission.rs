//! Limits the work that the server has accepted: places in the queue and memory of bodies. Both are
//! refused at once when they are used up, so that accepted requests are answered in time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// Places in the queue, one per image. They are free again when this is dropped.
#[derive(Debug)]
pub struct Places(OwnedSemaphorePermit);

impl Places {
    /// Takes one of these places out, for one image of a request.
    pub fn split_one(&mut self) -> Option<Self> {
        self.0.split(1).map(Self)
    }
}

/// The queue of accepted images.
#[derive(Debug)]
pub struct Queue {
    free: Arc<Semaphore>,
    size: usize,
}

impl Queue {
    /// Creates a queue for `size` images.
    pub fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        Self { free: Arc::new(Semaphore::new(size)), size }
    }

    /// Takes places for a number of images, at most the whole queue.
    ///
    /// # Errors
    /// If there are too few free places.
    pub fn admit(&self, images: usize) -> Result<Places, Problem> {
        let images = images.min(self.size) as u32;
        let places = Arc::clone(&self.free).try_acquire_many_owned(images);
        places.map(Places).map_err(|_| Problem::busy("the queue is full"))
    }

    /// Returns the number of accepted images that are not yet answered.
    pub fn used(&self) -> usize {
        self.size - self.free.available_permits()
    }
}

/// The memory of a body. It is free again when this is dropped.
#[derive(Debug, Default)]
pub struct Memory(Option<OwnedSemaphorePermit>);

/// The memory that all bodies share.
#[derive(Debug)]
pub struct Bodies(Arc<Semaphore>);

/// The unit of [`Bodies`] in bytes, so that its numbers fit into 32 bits.
const UNIT: usize = 1 << 10;

impl Bodies {
    /// Limits all bodies together to `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(u32::MAX as usize))))
    }

    /// Extends the memory of a body from `had` to `needs` bytes.
    ///
    /// # Errors
    /// If other bodies use the memory.
    pub fn extend(&self, memory: &mut Memory, had: usize, needs: usize) -> Result<(), Problem> {
        let units = (needs.div_ceil(UNIT) - had.div_ceil(UNIT)) as u32;
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(units)
            .map_err(|_| Problem::busy("too many requests are being received"))?;
        match &mut memory.0 {
            Some(memory) => memory.merge(more),
            none => *none = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_until_a_place_is_free() {
        let queue = Queue::new(3);
        let mut two = queue.admit(2).unwrap();
        assert_eq!((queue.used(), queue.admit(2).is_err()), (2, true));
        let one = two.split_one().unwrap();
        drop(two);
        assert_eq!((queue.used(), queue.admit(2).is_ok()), (1, true));
        drop(one);
        // More than the queue has takes all of it.
        let all = queue.admit(170).unwrap();
        assert_eq!((queue.used(), queue.admit(1).is_err()), (3, true));
        drop(all);
        assert_eq!(queue.used(), 0);
    }

    #[test]
    fn bodies_share_their_memory() {
        let bodies = Bodies::new(10 * UNIT);
        let (mut first, mut second) = (Memory::default(), Memory::default());
        bodies.extend(&mut first, 0, 1).unwrap();
        bodies.extend(&mut first, 1, UNIT).unwrap();
        bodies.extend(&mut second, 0, 9 * UNIT).unwrap();
        assert!(bodies.extend(&mut first, UNIT, UNIT + 1).is_err());
        drop(second);
        bodies.extend(&mut first, UNIT, 10 * UNIT).unwrap();
    }
}
