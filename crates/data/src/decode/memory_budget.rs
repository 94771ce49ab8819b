//! Limits the memory that all threads together use for decoding. A thread reserves memory when the
//! size of its image is known, and releases it when the image is dropped. If too little memory is
//! left, the thread waits for others. One image at a time may exceed the budget and does not wait,
//! which prevents deadlocks.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::limits::{MAX_PIXELS, check_size_within};

/// 1 GiB, enough for 25 JPEG images of 12 megapixels.
static BUDGET: Budget = Budget::new(1 << 30);

#[derive(Debug)]
struct Budget {
    bytes: usize,
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Debug)]
struct State {
    /// Bytes reserved by all threads.
    taken: usize,
    /// Whether a reservation currently exceeds the budget.
    exceeded: bool,
}

impl Budget {
    const fn new(bytes: usize) -> Self {
        let state = Mutex::new(State { taken: 0, exceeded: false });
        Self { bytes, state, released: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory reserved for an image. To avoid a deadlock, a thread that holds one must neither wait
/// for another thread nor create a second one.
#[derive(Debug)]
pub struct Reservation {
    budget: &'static Budget,
    bytes: usize,
    exceeds: bool,
    /// Largest number of pixels of the image.
    pub max_pixels: u64,
}

impl Default for Reservation {
    fn default() -> Self {
        Self::of(&BUDGET)
    }
}

impl Reservation {
    fn of(budget: &'static Budget) -> Self {
        Self { budget, bytes: 0, exceeds: false, max_pixels: MAX_PIXELS }
    }

    /// Checks the size in a header and reserves the memory that decoding needs. `bytes_per_pixel`
    /// includes the RGB image.
    ///
    /// # Errors
    /// A message, if the image is too large or has no pixels.
    pub fn for_image(
        &mut self,
        width: u64,
        height: u64,
        bytes_per_pixel: usize,
    ) -> Result<(), String> {
        check_size_within(self.max_pixels, width, height)?;
        self.take((width * height) as usize * bytes_per_pixel);
        Ok(())
    }

    /// Reserves more bytes. Waits while the reservations of others leave too little.
    pub fn take(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        while !self.exceeds && state.taken + bytes > self.budget.bytes {
            if state.exceeded {
                state = self.budget.released.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state.exceeded = true;
                self.exceeds = true;
            }
        }
        state.taken += bytes;
        self.bytes += bytes;
    }

    /// Releases all but `bytes` bytes.
    pub fn keep(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        let excess = self.bytes.saturating_sub(bytes);
        state.taken -= excess;
        self.bytes -= excess;
        if self.exceeds && state.taken <= self.budget.bytes {
            state.exceeded = false;
            self.exceeds = false;
        }
        drop(state);
        self.budget.released.notify_all();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.keep(0);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Returns the largest sum of the reservations of all threads, for images of `each` bytes that
    /// are reserved in two steps.
    fn peak(budget: &'static Budget, threads: usize, each: usize) -> usize {
        let peak = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mut memory = Reservation::of(budget);
                        memory.take(each / 5);
                        thread::yield_now();
                        memory.take(each - each / 5);
                        let taken = budget.lock().taken;
                        let mut peak = peak.lock().unwrap();
                        *peak = taken.max(*peak);
                    }
                });
            }
        });
        peak.into_inner().unwrap()
    }

    #[test]
    fn threads_share_a_budget_that_one_image_may_exceed() {
        static SMALL: Budget = Budget::new(100);
        // One image fits at a time, several fit at a time, and one image exceeds the budget.
        for each in [80, 30, 250] {
            let peak = peak(&SMALL, 8, each);
            assert!((each..=100 + each).contains(&peak), "{each}: {peak}");
            let state = SMALL.lock();
            assert_eq!((state.taken, state.exceeded), (0, false));
        }
    }
}
