//! Keeps decoded images in memory, up to a number of bytes. The first that fit are kept; none is ever evicted.

use std::{
    collections::{HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::decode::Decoded;

pub(super) struct Cache {
    capacity: usize,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    images: HashMap<PathBuf, Known>,
    bytes: usize,
}

/// An image that was decoded before.
#[derive(Clone)]
pub(super) enum Known {
    /// Its pixels are here.
    Kept(Arc<Decoded>),
    /// There was no space for its pixels.
    Dropped,
}

impl Cache {
    /// An empty cache of at most so many bytes of pixels.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, content: Mutex::default() }
    }

    /// What is known of the image of a path; nothing before it was [added](Self::add).
    pub fn get(&self, path: &Path) -> Option<Known> {
        self.lock().images.get(path).cloned()
    }

    /// Keeps an image, if there is space for it and no other thread was first.
    pub fn add(&self, path: &Path, mut decoded: Decoded) -> Arc<Decoded> {
        let Content { images, bytes } = &mut *self.lock();
        let more = *bytes + decoded.image.as_raw().len();
        let fits = more <= self.capacity;
        if fits {
            decoded.leave_budget();
        }
        let decoded = Arc::new(decoded);
        if let Entry::Vacant(place) = images.entry(path.to_owned()) {
            if fits {
                place.insert(Known::Kept(Arc::clone(&decoded)));
                *bytes = more;
            } else {
                place.insert(Known::Dropped);
            }
        }
        decoded
    }

    /// What the pixels that are kept take.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
