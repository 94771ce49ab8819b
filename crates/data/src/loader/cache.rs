//! Caches decoded images in memory, up to a number of bytes. The first images that fit are cached;
//! none is evicted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{dataset::Item, decode::Decoded};

pub(super) struct Cache {
    capacity: usize,
    content: Mutex<Content>,
}

struct Content {
    images: HashMap<Item, Arc<Decoded>>,
    bytes: usize,
    /// Whether each image of the data set was added. This is also stored for images that there is
    /// no space for, so it takes one byte for each.
    was_added: Vec<bool>,
}

/// The state of an image that was decoded before.
pub(super) enum Lookup {
    /// Its pixels are in the cache.
    Cached(Arc<Decoded>),
    /// There was no space for its pixels.
    NotCached,
}

impl Cache {
    /// Creates an empty cache of at most `capacity` bytes of pixels, for a list of `images` images.
    pub fn new(capacity: usize, images: usize) -> Self {
        let content = Content { images: HashMap::new(), bytes: 0, was_added: vec![false; images] };
        Self { capacity, content: Mutex::new(content) }
    }

    /// Returns the state of an image; `None` before it was [added](Self::add).
    pub fn get(&self, item: Item) -> Option<Lookup> {
        let content = self.lock();
        let cached = || content.images.get(&item).cloned();
        content.was_added[item.index()].then(|| cached().map_or(Lookup::NotCached, Lookup::Cached))
    }

    /// Adds an image, if there is space for it and no other thread has added it.
    pub fn add(&self, item: Item, mut decoded: Decoded) -> Arc<Decoded> {
        let Content { images, bytes, was_added } = &mut *self.lock();
        let new_bytes = *bytes + decoded.image.as_raw().len();
        let fits = new_bytes <= self.capacity;
        if fits {
            decoded.leave_budget();
        }
        let decoded = Arc::new(decoded);
        if !std::mem::replace(&mut was_added[item.index()], true) && fits {
            images.insert(item, Arc::clone(&decoded));
            *bytes = new_bytes;
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
