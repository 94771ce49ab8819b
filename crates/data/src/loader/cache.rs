//! Caches decoded images in memory, up to a number of bytes. The first images that fit are cached;
//! none is evicted.

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
    images: HashMap<PathBuf, Lookup>,
    bytes: usize,
}

/// The state of an image that was decoded before.
#[derive(Clone)]
pub(super) enum Lookup {
    /// Its pixels are in the cache.
    Cached(Arc<Decoded>),
    /// There was no space for its pixels.
    NotCached,
}

impl Cache {
    /// Creates an empty cache of at most `capacity` bytes of pixels.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, content: Mutex::default() }
    }

    /// Returns the state of an image; `None` before it was [added](Self::add).
    pub fn get(&self, path: &Path) -> Option<Lookup> {
        self.lock().images.get(path).cloned()
    }

    /// Adds an image, if there is space for it and no other thread has added it.
    pub fn add(&self, path: &Path, mut decoded: Decoded) -> Arc<Decoded> {
        let Content { images, bytes } = &mut *self.lock();
        let new_bytes = *bytes + decoded.image.as_raw().len();
        let fits = new_bytes <= self.capacity;
        if fits {
            decoded.leave_budget();
        }
        let decoded = Arc::new(decoded);
        if let Entry::Vacant(entry) = images.entry(path.to_owned()) {
            if fits {
                entry.insert(Lookup::Cached(Arc::clone(&decoded)));
                *bytes = new_bytes;
            } else {
                entry.insert(Lookup::NotCached);
            }
        }
        decoded
    }

    /// Returns the size of the cached pixels.
    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
