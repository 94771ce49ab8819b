//! The memory that all threads share for decoding. Each image takes its part when its size is known and gives it back when it is
//! dropped; when the rest is too little it waits for others. One image at a time may take more than there is: it waits for nobody,
//! so those who wait for it do not wait for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::limits::check_size;

/// What images share: 1 GiB. Twenty-five JPEGs of twelve megapixels fit in.
static SHARED: Shared = Shared::new(1 << 30);

#[derive(Debug)]
struct Shared {
    bytes: usize,
    state: Mutex<State>,
    given_back: Condvar,
}

#[derive(Debug)]
struct State {
    taken: usize,
    overdrawn: bool,
}

impl Shared {
    const fn new(bytes: usize) -> Self {
        let state = Mutex::new(State { taken: 0, overdrawn: false });
        Self { bytes, state, given_back: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image's part of the shared memory. Who holds one must not wait for another thread, nor ask for a second.
#[derive(Debug)]
pub struct Reservation {
    shared: &'static Shared,
    bytes: usize,
    overdraft: bool,
}

impl Default for Reservation {
    fn default() -> Self {
        Self::of(&SHARED)
    }
}

impl Reservation {
    fn of(shared: &'static Shared) -> Self {
        Self { shared, bytes: 0, overdraft: false }
    }

    /// Checks the size that a header tells and takes the memory that decoding needs: so many bytes a pixel, those of the RGB image
    /// included.
    ///
    /// # Errors
    /// In words, when the image is too large or has no pixels.
    pub fn for_image(&mut self, width: u64, height: u64, bytes_per_pixel: usize) -> Result<(), String> {
        check_size(width, height)?;
        self.take((width * height) as usize * bytes_per_pixel);
        Ok(())
    }

    /// Takes more.
    pub fn take(&mut self, bytes: usize) {
        let mut state = self.shared.lock();
        while !self.overdraft && state.taken + bytes > self.shared.bytes {
            if state.overdrawn {
                state = self.shared.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else {
                state.overdrawn = true;
                self.overdraft = true;
            }
        }
        state.taken += bytes;
        self.bytes += bytes;
    }

    /// Gives back all but so many bytes.
    pub fn keep(&mut self, bytes: usize) {
        let mut state = self.shared.lock();
        let too_much = self.bytes.saturating_sub(bytes);
        state.taken -= too_much;
        self.bytes -= too_much;
        if self.overdraft && state.taken <= self.shared.bytes {
            state.overdrawn = false;
            self.overdraft = false;
        }
        drop(state);
        self.shared.given_back.notify_all();
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
    fn most_taken(shared: &'static Shared, threads: usize, each: usize) -> usize {
        let most = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let mut memory = Reservation::of(shared);
                        memory.take(each / 5);
                        thread::yield_now();
                        memory.take(each - each / 5);
                        let taken = shared.lock().taken;
                        let mut most = most.lock().unwrap();
                        *most = taken.max(*most);
                    }
                });
            }
        });
        most.into_inner().unwrap()
    }

    #[test]
    fn threads_share_a_bound_and_one_image_more() {
        static SMALL: Shared = Shared::new(100);
        // So large that each is alone, so small that some fit at once, and more than there is.
        for each in [80, 30, 250] {
            let most = most_taken(&SMALL, 8, each);
            assert!((each..=100 + each).contains(&most), "{each}: {most}");
            let state = SMALL.lock();
            assert_eq!((state.taken, state.overdrawn), (0, false));
        }
    }
}
