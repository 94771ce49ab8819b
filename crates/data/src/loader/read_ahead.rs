//! Reads shards ahead of the loader, in the order of the positions in them: a disk reads a few large
//! runs, and the loader finds the images in the cache of the system. What is read is not kept, so it
//! changes nothing but the time.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
};

use super::order::AHEAD;
use crate::dataset::{Images, Item};

/// A thread that reads ahead. It ends when this is dropped.
pub(super) struct ReadAhead {
    /// The parts that are to be read: ranges of positions in the epoch.
    parts: Sender<Range<usize>>,
    /// The first position that was not requested yet.
    next: usize,
    is_dropped: Arc<AtomicBool>,
}

impl ReadAhead {
    /// Starts the thread. `item` returns the image at a position of the epoch, or `None` if it is
    /// not needed.
    pub fn start(
        images: Arc<Images>,
        first: usize,
        item: impl Fn(usize) -> Option<Item> + Send + 'static,
    ) -> Self {
        let (parts, requested) = channel::<Range<usize>>();
        let is_dropped = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&is_dropped);
        let read = move || {
            let mut buffer = vec![];
            for part in requested {
                let mut items: Vec<Item> = part.filter_map(&item).collect();
                items.sort_unstable_by_key(|item| images.position(*item));
                for item in items {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    images.read_into_cache(item, &mut buffer);
                }
            }
        };
        // Without the thread, images are read when they are needed.
        let _ = thread::Builder::new().name("read-ahead".into()).spawn(read);
        Self { parts, next: first, is_dropped }
    }

    /// Requests the images from `position`, which is needed now, up to the end of the next part.
    pub fn reach(&mut self, position: usize, end: usize) {
        while self.next < end && self.next < position + AHEAD {
            let part = self.next..end.min(self.next + AHEAD);
            self.next = part.end;
            // Fails if there is no thread.
            let _ = self.parts.send(part);
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.is_dropped.store(true, Ordering::Relaxed);
    }
}
