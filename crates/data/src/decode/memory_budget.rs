//! Limits the memory that all threads together use for decoding. A thread reserves memory when the size of its image is known,
//! and gives it back when the image is dropped; when too little is left it waits for others. One image at a time may exceed the
//! budget: it waits for nobody, so those that wait for it do not wait for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::limits::check_size;

/// The budget: 1 GiB, enough for 25 JPEGs of twelve megapixels.
static BUDGET: Budget = Budget::new(1 << 30);

#[derive(Debug)]
struct Budget {
    bytes: usize,
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State {
    taken: usize,
    exceeded: bool,
}

impl Budget {
    const fn new(bytes: usize) -> Self {
        let state = Mutex::new(State { taken: 0, exceeded: false });
        Self { bytes, state, given_back: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The memory that is reserved for an image. A thread that holds one must neither wait for another thread nor make a second.
#[derive(Debug)]
pub struct Reservation {
    budget: &'static Budget,
    bytes: usize,
    exceeds: bool,
}

impl Default for Reservation {
    fn default() -> Self {
        Self::of(&BUDGET)
    }
}

impl Reservation {
    fn of(budget: &'static Budget) -> Self {
        Self { budget, bytes: 0, exceeds: false }
    }

    /// Checks the size that a header tells and reserves the memory that decoding needs: `bytes_per_pixel` includes those of the RGB
    /// image.
    ///
    /// # Errors
    /// A message, when the image is too large or has no pixels.
    pub fn for_image(&mut self, width: u64, height: u64, bytes_per_pixel: usize) -> Result<(), String> {
        check_size(width, height)?;
        self.take((width * height) as usize * bytes_per_pixel);
        Ok(())
    }

    /// Reserves more bytes; waits while others hold too much.
    pub fn take(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        while !self.exceeds && state.taken + bytes > self.budget.bytes {
            if state.exceeded {
                state = self.budget.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state.exceeded = true;
                self.exceeds = true;
            }
        }
        state.taken += bytes;
        self.bytes += bytes;
    }

    /// Gives back all but so many bytes.
    pub fn keep(&mut self, bytes: usize) {
        let mut state = self.budget.lock();
        let too_much = self.bytes.saturating_sub(bytes);
        state.taken -= too_much;
        self.bytes -= too_much;
        if self.exceeds && state.taken <= self.budget.bytes {
            state.exceeded = false;
            self.exceeds = false;
        }
        drop(state);
        self.budget.given_back.notify_all();
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

    /// The largest sum of what all threads hold, of images of `each` bytes that are taken in two steps.
    fn most_taken(budget: &'static Budget, threads: usize, each: usize) -> usize {
        let most = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mut memory = Reservation::of(budget);
                        memory.take(each / 5);
                        thread::yield_now();
                        memory.take(each - each / 5);
                        let taken = budget.lock().taken;
                        let mut most = most.lock().unwrap();
                        *most = taken.max(*most);
                    }
                });
            }
        });
        most.into_inner().unwrap()
    }

    #[test]
    fn threads_share_a_budget_that_one_image_may_exceed() {
        static SMALL: Budget = Budget::new(100);
        // So large that each is alone, so small that some fit at once, and more than there is.
        for each in [80, 30, 250] {
            let most = most_taken(&SMALL, 8, each);
            assert!((each..=100 + each).contains(&most), "{each}: {most}");
            let state = SMALL.lock();
            assert_eq!((state.taken, state.exceeded), (0, false));
        }
    }
}
