//! Batches of photos for training and evaluation. What a batch holds is a function of the data set, the seed, the epoch and
//! the batch's index; threads, prefetching and the cache only change when it is ready.

mod prefetch;

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alexnet_core::{
    Batch, Images, Normalization,
    rng::{Purpose, permutation},
    train::Batches,
};
use image::RgbImage;

use self::prefetch::{Filled, Prefetch};
use crate::{
    Error, Result,
    augment::augmentation,
    decode::decode,
    resize::{Crop, resize, resize_into},
    split::{Dataset, Item},
};

/// Decoded photos kept in memory when nothing else is said: 1 GiB. The 3,670 flower photos take 0.8 GB.
pub const DEFAULT_CACHE_BYTES: usize = 1 << 30;

/// What happens when a photo cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadImage {
    /// The iterator yields an error that names it, and ends.
    #[default]
    Error,
    /// It is left out of its batch, which is smaller then, and listed by [`Loader::skipped`].
    Skip,
}

/// How photos become batches.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Photos a batch; the last of an epoch may have fewer.
    pub batch_size: usize,
    /// Of the order and the augmentation.
    pub seed: u64,
    /// Height and width of the network's input.
    pub size: usize,
    /// Handed to the engine with each batch.
    pub normalization: Normalization,
    /// Decoded photos are kept as bytes until they take this much memory; first come, first kept. 0 keeps none.
    pub cache_bytes: usize,
    /// What happens when a photo cannot be read.
    pub on_bad_image: OnBadImage,
}

/// Batches of a data set. Pictures are prepared on the rayon pool of the thread that asks for them.
pub struct Loader {
    photos: Arc<Photos>,
}

impl Loader {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Option`] when the batch size or the picture size is 0, [`Error::Dataset`] when an item's class
    /// does not exist.
    pub fn new(dataset: Dataset, options: LoaderOptions) -> alexnet_core::Result<Self> {
        for (option, value) in [("--batch-size", options.batch_size), ("the picture size", options.size)] {
            if value == 0 {
                let (value, reason) = (value.to_string(), "it must be at least 1");
                return Err(alexnet_core::Error::Option { option, value, reason });
            }
        }
        let mut items = dataset.train.iter().chain(&dataset.val);
        if let Some(item) = items.find(|item| item.class >= dataset.classes.len()) {
            let reason = format!(
                "{} has class {}, and there are {} classes",
                item.path,
                item.class,
                dataset.classes.len()
            );
            return Err(Error::Dataset { path: dataset.root, reason }.into());
        }
        let photos = Photos { dataset, options, cache: Mutex::default(), skipped: Mutex::default() };
        Ok(Self { photos: Arc::new(photos) })
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.photos.dataset
    }

    /// The photos that were left out so far, each once, with the reason, sorted by path.
    pub fn skipped(&self) -> Vec<(PathBuf, String)> {
        lock(&self.photos.skipped).iter().map(|(path, reason)| (path.clone(), reason.clone())).collect()
    }

    /// Batches of `items` as they are evaluated: in order, whole pictures. With each batch come the indices in `items` of its
    /// rows, since photos can be left out.
    pub fn evaluation(
        &self,
        items: &[Item],
    ) -> impl Iterator<Item = alexnet_core::Result<(Vec<usize>, Batch)>> + use<'_> {
        let items: Arc<[Item]> = items.into();
        let (photos, listed) = (Arc::clone(&self.photos), Arc::clone(&items));
        let work = move |position: usize, pixels: &mut [u8]| {
            let size = photos.options.size as u32;
            photos.prepare(&listed[position], pixels, |picture, pixels| {
                resize_into(picture, Crop::whole(picture), size, size, pixels);
            })
        };
        self.prefetch(0..items.len(), work).map(move |filled| {
            let filled = filled.map_err(|e| self.photos.explain(e))?;
            let positions = filled.positions.clone();
            Ok((positions, self.photos.batch(filled, |position| &items[position])))
        })
    }

    fn prefetch(
        &self,
        positions: std::ops::Range<usize>,
        work: impl Fn(usize, &mut [u8]) -> Result<bool> + Send + Sync + 'static,
    ) -> Prefetch {
        let LoaderOptions { batch_size, size, .. } = self.photos.options;
        Prefetch::new(positions, batch_size, size * size * 3, Arc::new(work))
    }
}

impl Batches for Loader {
    fn steps_per_epoch(&self) -> usize {
        self.photos.dataset.train.len().div_ceil(self.photos.options.batch_size)
    }

    fn train(&self, epoch: u64, first: usize) -> Box<dyn Iterator<Item = alexnet_core::Result<Batch>> + '_> {
        let LoaderOptions { batch_size, seed, size, .. } = self.photos.options;
        let n = self.photos.dataset.train.len();
        let order: Arc<[usize]> = permutation(seed, Purpose::Shuffle, epoch, 0, n).into();
        let (photos, shuffled) = (Arc::clone(&self.photos), Arc::clone(&order));
        let work = move |position: usize, pixels: &mut [u8]| {
            let (index, size) = (shuffled[position], size as u32);
            photos.prepare(&photos.dataset.train[index], pixels, |picture, pixels| {
                let vary = augmentation(seed, epoch, index, picture.width(), picture.height());
                resize_into(picture, vary.crop, size, size, pixels);
                if vary.flip {
                    flip(pixels, size as usize);
                }
            })
        };
        let start = first.saturating_mul(batch_size).min(n);
        Box::new(self.prefetch(start..n, work).map(move |filled| {
            let filled = filled.map_err(|e| self.photos.explain(e))?;
            Ok(self.photos.batch(filled, |position| &self.photos.dataset.train[order[position]]))
        }))
    }

    fn validation(&self) -> Box<dyn Iterator<Item = alexnet_core::Result<Batch>> + '_> {
        Box::new(self.evaluation(&self.photos.dataset.val).map(|batch| Ok(batch?.1)))
    }
}

/// A picture as the network sees it in evaluation, `size`×`size` pixels of three bytes: all of it, resized
/// (torchvision's `Resize((size, size))`).
pub fn evaluation_picture(picture: &RgbImage, size: usize) -> Vec<u8> {
    resize(picture, Crop::whole(picture), size as u32, size as u32)
}

/// What the tasks of the pool share.
struct Photos {
    dataset: Dataset,
    options: LoaderOptions,
    cache: Mutex<Cache>,
    skipped: Mutex<BTreeMap<PathBuf, String>>,
}

#[derive(Default)]
struct Cache {
    pictures: HashMap<PathBuf, Arc<RgbImage>>,
    bytes: usize,
}

impl Photos {
    /// Decodes an item's photo and lets `view` make the network's input of it. `false` when it was left out.
    fn prepare(
        &self,
        item: &Item,
        pixels: &mut [u8],
        view: impl FnOnce(&RgbImage, &mut [u8]),
    ) -> Result<bool> {
        let path = self.dataset.root.join(&item.path);
        let prepared = without_panic(&path, || {
            view(&*self.picture(&path)?, pixels);
            Ok(())
        });
        match prepared {
            Ok(()) => Ok(true),
            Err(error) if self.options.on_bad_image == OnBadImage::Skip => {
                lock(&self.skipped).entry(path).or_insert_with(|| error.to_string());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn picture(&self, path: &Path) -> Result<Arc<RgbImage>> {
        if let Some(picture) = lock(&self.cache).pictures.get(path) {
            return Ok(Arc::clone(picture));
        }
        let picture = Arc::new(decode(path)?);
        let mut cache = lock(&self.cache);
        let bytes = cache.bytes + picture.as_raw().len();
        if bytes <= self.options.cache_bytes
            && cache.pictures.insert(path.to_owned(), Arc::clone(&picture)).is_none()
        {
            cache.bytes = bytes;
        }
        Ok(picture)
    }

    fn batch<'a>(&'a self, filled: Filled, item: impl Fn(usize) -> &'a Item) -> Batch {
        let LoaderOptions { size, normalization, .. } = self.options;
        let classes = self.dataset.classes.len();
        let mut targets = vec![0.0; filled.positions.len() * classes];
        for (row, position) in targets.chunks_exact_mut(classes).zip(filled.positions) {
            row[item(position).class] = 1.0;
        }
        Batch { images: Images { pixels: filled.pixels, height: size, width: size, normalization }, targets }
    }

    fn explain(&self, error: Error) -> alexnet_core::Error {
        alexnet_core::Error::Data(format!("{error}; with `--on-bad-image skip` it would be left out"))
    }
}

/// Exchanges left and right.
fn flip(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(width * 3) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}

/// A panic inside rayon's `spawn` ends the process, so one in a decoder becomes an error that names the photo.
fn without_panic<T>(path: &Path, prepare: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(prepare)).unwrap_or_else(|panic| {
        let reason = format!("preparing it failed inside: {}", panic_message(&*panic));
        Err(Error::Picture { path: path.to_owned(), reason })
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
