//! The memory that all threads share for decoding. Each image takes its part when its size is known and gives it back when it is
//! dropped; when the rest is too little it waits for others. One image at a time may take more than there is: it waits for nobody,
//! so those who wait for it do not wait for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{MAX_PIXELS, MAX_SIDE};

/// What images share: 1 GiB. Twenty-five JPEGs of twelve megapixels fit in.
const SHARED_BYTES: usize = 1 << 30;

static SHARED: Shared =
    Shared { state: Mutex::new(State { taken: 0, overdrawn: false }), given_back: Condvar::new() };

struct Shared {
    state: Mutex<State>,
    given_back: Condvar,
}

struct State {
    taken: usize,
    overdrawn: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image's part of the shared memory. Who holds one must not wait for another thread, nor ask for a second.
#[derive(Debug, Default)]
pub struct Room {
    bytes: usize,
    overdraft: bool,
}

impl Room {
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
        let mut state = SHARED.lock();
        while !self.overdraft && state.taken + bytes > SHARED_BYTES {
            if state.overdrawn {
                state = SHARED.given_back.wait(state).unwrap_or_else(PoisonError::into_inner);
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
        let mut state = SHARED.lock();
        let too_much = self.bytes.saturating_sub(bytes);
        state.taken -= too_much;
        self.bytes -= too_much;
        if self.overdraft && state.taken <= SHARED_BYTES {
            state.overdrawn = false;
            self.overdraft = false;
        }
        SHARED.given_back.notify_all();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.keep(0);
    }
}

/// Checks an image's size without taking memory.
///
/// # Errors
/// In words, when it is too large or has no pixels.
pub fn check_size(width: u64, height: u64) -> Result<(), String> {
    if width.max(height) > MAX_SIDE {
        return Err(format!("it has {width}×{height} pixels, and the limit is {MAX_SIDE} a side"));
    }
    match width * height {
        0 => Err("it has no pixels".into()),
        1..=MAX_PIXELS => Ok(()),
        _ => Err(format!("it has {width}×{height} pixels, and the limit is {MAX_PIXELS} in all")),
    }
}
