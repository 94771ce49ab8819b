//! Prepares batches ahead of their consumer, with one task per image. The tasks run on the rayon
//! pool of the engine: they use the threads while the engine leaves them idle. A batch waits only
//! for its own images.

use std::{
    cell::RefCell,
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rayon::Yield;

use crate::Result;

/// Number of batches that are prepared while the consumer uses one.
const AHEAD: usize = 1;

/// Fills the bytes of the image at a position. Returns `false` if the image cannot be used.
/// Must not panic, because rayon would abort the process.
pub(super) type Work = dyn Fn(usize, &mut [u8]) -> Result<bool> + Send + Sync;

/// The prepared images of one batch.
#[derive(Debug, PartialEq)]
pub(super) struct Filled {
    /// The positions of the images.
    pub positions: Vec<usize>,
    /// The bytes of the images, one after the other. Those of an unusable image are 0.
    pub pixels: Vec<u8>,
    /// Whether each image can be used.
    pub usable: Vec<bool>,
}

/// The positions of the images of each batch.
pub(super) type Positions = Box<dyn Iterator<Item = Vec<usize>> + Send>;

/// An iterator over batches, in order. It ends after the first error. Dropping it cancels queued
/// tasks.
pub(super) struct Prefetch {
    work: Arc<Work>,
    image_bytes: usize,
    batches: Positions,
    queue: VecDeque<Arc<Pending>>,
    cancelled: Arc<AtomicBool>,
}

/// A batch in preparation.
struct Pending {
    slots: Mutex<Slots>,
    complete: Condvar,
}

struct Slots {
    positions: Vec<usize>,
    pixels: Vec<u8>,
    /// The result for each image; `None` if it is not done yet.
    outcomes: Vec<Option<Result<bool>>>,
    missing: usize,
}

impl Prefetch {
    /// Creates the iterator. No image is prepared before the first call of `next`.
    pub fn new(batches: Positions, image_bytes: usize, work: Arc<Work>) -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        Self { work, image_bytes, batches, queue: VecDeque::new(), cancelled }
    }

    /// Queues the images of a batch.
    fn enqueue(&mut self, positions: Vec<usize>) {
        let size = positions.len();
        let pending = Arc::new(Pending {
            slots: Mutex::new(Slots {
                positions: positions.clone(),
                pixels: vec![0; size * self.image_bytes],
                outcomes: (0..size).map(|_| None).collect(),
                missing: size,
            }),
            complete: Condvar::new(),
        });
        for (slot, position) in positions.into_iter().enumerate() {
            let (pending, work) = (Arc::clone(&pending), Arc::clone(&self.work));
            let (cancelled, bytes) = (Arc::clone(&self.cancelled), self.image_bytes);
            rayon::spawn_fifo(move || {
                if !cancelled.load(Ordering::Relaxed) {
                    pending.fill(slot, position, bytes, &*work);
                }
            });
        }
        self.queue.push_back(pending);
    }
}

impl Iterator for Prefetch {
    type Item = Result<Filled>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.queue.len() <= AHEAD
            && let Some(positions) = self.batches.next()
        {
            self.enqueue(positions);
        }
        let filled = self.queue.pop_front()?.wait();
        if filled.is_err() {
            self.cancelled.store(true, Ordering::Relaxed);
            self.queue.clear();
            self.batches = Box::new(std::iter::empty());
        }
        Some(filled)
    }
}

impl Drop for Prefetch {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

impl Pending {
    fn fill(&self, slot: usize, position: usize, bytes: usize, work: &Work) {
        thread_local! {
            static IMAGE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        // The image is prepared in a buffer of the thread and copied under the lock, which takes a
        // few microseconds. Tasks of a pool may outlive the borrows of the caller, so without
        // `unsafe` they cannot write to the buffer of the batch directly.
        IMAGE.with_borrow_mut(|image| {
            image.resize(bytes, 0);
            let outcome = work(position, image);
            let mut slots = self.lock();
            if matches!(outcome, Ok(true)) {
                slots.pixels[slot * bytes..][..bytes].copy_from_slice(image);
            }
            slots.outcomes[slot] = Some(outcome);
            slots.missing -= 1;
            if slots.missing == 0 {
                self.complete.notify_all();
            }
        });
    }

    /// Waits for all images and returns the batch.
    fn wait(&self) -> Result<Filled> {
        // A thread of the pool must run tasks while it waits: with a single thread, the tasks would
        // never run otherwise.
        let in_pool = rayon::current_thread_index().is_some();
        let mut slots = self.lock();
        while slots.missing > 0 {
            if !in_pool {
                slots = self.complete.wait(slots).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(slots);
            let idle = rayon::yield_now() != Some(Yield::Executed);
            slots = self.lock();
            if idle && slots.missing > 0 {
                let pause = Duration::from_micros(200);
                slots = self
                    .complete
                    .wait_timeout(slots, pause)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        slots.take()
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slots {
    /// Returns the batch. If there are errors, returns the first one.
    fn take(&mut self) -> Result<Filled> {
        let outcome = |outcome: Option<Result<bool>>| Ok(outcome.transpose()? == Some(true));
        let usable = self.outcomes.drain(..).map(outcome).collect::<Result<_>>()?;
        let (positions, pixels) =
            (std::mem::take(&mut self.positions), std::mem::take(&mut self.pixels));
        Ok(Filled { positions, pixels, usable })
    }
}

impl Filled {
    /// Removes the unusable images.
    pub fn without_unusable(mut self) -> Self {
        let bytes = self.pixels.len() / self.positions.len().max(1);
        let mut kept = 0;
        for slot in (0..self.positions.len()).filter(|slot| self.usable[*slot]) {
            self.pixels.copy_within(slot * bytes..(slot + 1) * bytes, kept * bytes);
            self.positions[kept] = self.positions[slot];
            kept += 1;
        }
        self.pixels.truncate(kept * bytes);
        self.positions.truncate(kept);
        Self { usable: vec![true; kept], ..self }
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, sync::atomic::AtomicUsize};

    use super::*;
    use crate::Error;

    fn pool(threads: usize) -> rayon::ThreadPool {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    /// Returns images of two bytes that hold their position. Positions divisible by 5 cannot be used.
    fn numbers(positions: Range<usize>) -> Prefetch {
        let work = |position: usize, bytes: &mut [u8]| {
            bytes.fill(position as u8);
            Ok(!position.is_multiple_of(5))
        };
        Prefetch::new(batches(positions, 4), 2, Arc::new(work))
    }

    fn batches(positions: Range<usize>, size: usize) -> Positions {
        let end = positions.end;
        Box::new(positions.step_by(size).map(move |first| (first..end.min(first + size)).collect()))
    }

    #[test]
    fn batches_are_in_order_and_have_no_gaps() {
        let found: Vec<Filled> =
            numbers(3..13).map(|filled| filled.unwrap().without_unusable()).collect();
        let filled = |positions: &[usize]| Filled {
            positions: positions.to_vec(),
            pixels: positions.iter().flat_map(|p| [*p as u8; 2]).collect(),
            usable: vec![true; positions.len()],
        };
        assert_eq!(found, [filled(&[3, 4, 6]), filled(&[7, 8, 9]), filled(&[11, 12])]);
    }

    #[test]
    fn unusable_images_are_blank_and_keep_their_place() {
        let found = numbers(3..7).next().unwrap().unwrap();
        let usable = vec![true, true, false, true];
        let pixels = vec![3, 3, 4, 4, 0, 0, 6, 6];
        assert_eq!(found, Filled { positions: vec![3, 4, 5, 6], pixels, usable });
    }

    #[test]
    fn a_consumer_on_the_only_thread_of_the_pool_runs_tasks() {
        let expected: Vec<Filled> = numbers(0..50).map(Result::unwrap).collect();
        for threads in [1, 3] {
            let found =
                pool(threads).install(|| numbers(0..50).map(Result::unwrap).collect::<Vec<_>>());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_first_error_ends_the_sequence() {
        let work = |position: usize, _: &mut [u8]| match position {
            6 | 7 => Err(Error::Image { path: position.to_string().into(), reason: String::new() }),
            _ => Ok(true),
        };
        let mut batches = Prefetch::new(batches(0..100, 4), 1, Arc::new(work));
        assert_eq!(batches.next().unwrap().unwrap().positions, [0, 1, 2, 3]);
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("6 "), "{error}");
        assert!(batches.next().is_none());
    }

    #[test]
    fn dropping_cancels_queued_tasks() {
        let done = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&done);
        let work = move |_: usize, _: &mut [u8]| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(true)
        };
        let one = pool(1);
        one.install(|| {
            let mut batches = Prefetch::new(batches(0..1000, 10), 1, Arc::new(work));
            batches.next().unwrap().unwrap();
        });
        // Queued tasks hold references to `done`; wait until all of them are dropped.
        drop(one);
        while Arc::strong_count(&done) > 1 {
            std::thread::yield_now();
        }
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }
}
