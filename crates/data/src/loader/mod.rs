//! Loads batches of images for training and evaluation. The content of a batch depends only on the
//! data set, the seed, the epoch and the index of the batch. Threads, prefetching and the cache do
//! not change it.

mod cache;
mod class_weights;
mod order;
mod prefetch;
mod read_ahead;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use alexnet_core::{
    Batch, Images, Normalization,
    rng::{Purpose, generator, permutation},
    sum_order::Share,
    train::{Batches, StepBatch},
    weights::Metadata,
};
use serde::{Deserialize, Serialize};

use self::{
    cache::{Cache, Lookup},
    order::{Blocks, balanced},
    prefetch::{Filled, Positions, Prefetch},
    read_ahead::ReadAhead,
};
pub use self::{
    class_weights::ClassWeights,
    order::{Sampler, Shuffle},
};
use crate::{
    Error, Result,
    augment::{
        Augmentation, Variation,
        crop_flip::CropMode,
        mix::{Mix, smooth_labels},
        variation,
        views::Views,
    },
    corruption::Corruption,
    dataset::{Dataset, Images as ImageList, Item},
    decode::{self, Decoded, ExifOrientation},
    framing::Framing,
    guard::guard,
    preprocess::evaluation_views,
    resize::Crop,
};

/// Default size of the cache of decoded images: no cache. The 3,670 flower photos would take 0.8
/// GB, more than training itself, and save about 5 % of the CPU time of an epoch.
pub const DEFAULT_CACHE_BYTES: usize = 0;

/// What the loader does with an image that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBadImage {
    /// The iterator returns an error that names the image, and ends.
    #[default]
    Error,
    /// The image is left out, and listed by [`Loader::skipped`]. In training, a blank image without
    /// a target takes its place, which changes neither losses nor gradients.
    Skip,
}

/// Options of a [`Loader`].
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Number of images in a batch. The last batch of an epoch may have fewer.
    pub batch_size: usize,
    /// Number of batches of a training step (gradient accumulation), which are loaded as one batch.
    pub accumulate: usize,
    /// Seed of the order of the images and of the augmentation.
    pub seed: u64,
    /// How the training images are shuffled in each epoch.
    pub shuffle: Shuffle,
    /// Which training images are used in each epoch.
    pub sampler: Sampler,
    /// Height and width of the network's input, in pixels.
    pub size: usize,
    /// See [`Framing::resize_crop`], for evaluation.
    pub resize_crop: Option<u32>,
    /// Mean and standard deviation, which the engine gets with each batch.
    pub normalization: Normalization,
    /// The augmentation of training images.
    pub augmentation: Augmentation,
    /// Size of the cache of decoded images in bytes. The first images that fit are cached; 0
    /// disables the cache.
    pub cache_bytes: usize,
    /// What the loader does with an image that cannot be read.
    pub on_bad_image: OnBadImage,
    /// Whether the orientation in the metadata of a file is applied.
    pub exif_orientation: ExifOrientation,
}

impl Default for LoaderOptions {
    /// The settings of the tutorial: batches of 32, images of 224×224 pixels with mean and standard
    /// deviation 0.5, seed 0.
    fn default() -> Self {
        Self {
            batch_size: 32,
            accumulate: 1,
            seed: 0,
            shuffle: Shuffle::Full,
            sampler: Sampler::Uniform,
            size: 224,
            resize_crop: None,
            normalization: Normalization::HALF,
            augmentation: Augmentation::TUTORIAL,
            cache_bytes: DEFAULT_CACHE_BYTES,
            on_bad_image: OnBadImage::default(),
            exif_orientation: ExifOrientation::default(),
        }
    }
}

impl LoaderOptions {
    /// Returns the default options with the input size, preprocessing and EXIF orientation of these
    /// weights.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.input_size,
            resize_crop: metadata.resize_crop,
            normalization: metadata.normalization,
            exif_orientation: metadata.exif_orientation,
            ..Self::default()
        }
    }

    fn framing(&self) -> Framing {
        Framing { size: self.size, resize_crop: self.resize_crop }
    }

    fn decoding(&self) -> decode::Options {
        decode::Options { orientation: self.exif_orientation, ..decode::Options::default() }
    }
}

/// Loads the batches of a data set. Images are prepared on the rayon pool of the thread that
/// requests a batch.
pub struct Loader {
    source: Arc<Source>,
    class_weights: Option<ClassWeights>,
}

impl Loader {
    /// Creates a loader of a data set. No file is read yet.
    ///
    /// # Errors
    /// [`alexnet_core::Error::Invalid`] if the batch size, the number of accumulated batches or the
    /// image size is 0, if images are resized to less than the image size, and for
    /// [`Shuffle::Blocks`] if the images are not in shards or not each image is used once;
    /// [`Error::Dataset`] if the class of an item does not exist.
    pub fn new(dataset: Dataset, options: LoaderOptions) -> alexnet_core::Result<Self> {
        let LoaderOptions { batch_size, accumulate, size, .. } = options;
        for (field, value) in
            [("batch_size", batch_size), ("accumulate", accumulate), ("size", size)]
        {
            if value == 0 {
                let (value, reason) = (value.to_string(), "it must be at least 1");
                return Err(alexnet_core::Error::Invalid { field, value, reason: reason.into() });
            }
        }
        let Augmentation { crop, resize_short, .. } = options.augmentation;
        let resized = [
            ("resize_short", (crop != CropMode::RandomResized).then_some(resize_short)),
            ("val_resize_crop", options.resize_crop),
        ];
        for (field, side) in resized {
            if let Some(side) = side.filter(|side| (*side as usize) < size) {
                let reason = format!("it must be at least the size of the network's input, {size}");
                return Err(alexnet_core::Error::Invalid {
                    field,
                    value: side.to_string(),
                    reason,
                });
            }
        }
        let classes = dataset.classes.len();
        let images = &dataset.images;
        if let Some(item) = dataset.all().find(|item| images.class(*item) >= classes) {
            let (path, class) = (images.path(item), images.class(item));
            let reason = format!("{path} has class {class}, but there are only {classes} classes");
            return Err(Error::Dataset { path: dataset.root().to_owned(), reason }.into());
        }
        let blocks = match options.shuffle {
            Shuffle::Full => None,
            Shuffle::Blocks if options.sampler == Sampler::Balanced => {
                let reason = "images are drawn from all shards, so they cannot be read in blocks";
                return Err(alexnet_core::Error::Invalid {
                    field: "sampler",
                    value: "balanced".into(),
                    reason: reason.into(),
                });
            }
            Shuffle::Blocks => {
                let blocks = Blocks::of(&dataset);
                let reason = "the images are not in shards";
                Some(blocks.ok_or_else(|| alexnet_core::Error::Invalid {
                    field: "shuffle",
                    value: "blocks".into(),
                    reason: reason.into(),
                })?)
            }
        };
        let source = Source {
            blocks,
            cache: Cache::new(options.cache_bytes, images.len()),
            dataset,
            options,
            skipped: Mutex::default(),
            notes: Mutex::default(),
        };
        Ok(Self { source: Arc::new(source), class_weights: None })
    }

    /// Weights the classes in the loss of training.
    pub fn with_class_weights(self, weights: ClassWeights) -> Self {
        Self { class_weights: Some(weights), ..self }
    }

    /// Returns a loader of the same images without weights of the classes, for figures.
    pub fn unweighted(&self) -> Self {
        Self { source: Arc::clone(&self.source), class_weights: None }
    }

    /// Returns the data set.
    pub fn dataset(&self) -> &Dataset {
        &self.source.dataset
    }

    /// Returns the CRC-32 of the order of the training images in the shards, which the order of
    /// each epoch depends on with [`Shuffle::Blocks`]; `None` with [`Shuffle::Full`].
    pub fn storage_order(&self) -> Option<String> {
        self.source.blocks.as_ref().map(|blocks| format!("{:08x}", blocks.checksum()))
    }

    /// Returns the options that images are decoded with.
    pub fn decoding(&self) -> decode::Options {
        self.source.options.decoding()
    }

    /// Returns the images that were left out so far, with the reason, sorted by path. Each image is
    /// listed once.
    pub fn skipped(&self) -> Vec<(PathBuf, String)> {
        listed(&self.source.skipped)
    }

    /// Returns the images that were decoded although their files are damaged, with the damage,
    /// sorted by path. Each image is listed once.
    pub fn notes(&self) -> Vec<(PathBuf, String)> {
        listed(&self.source.notes)
    }

    /// Iterates over batches of `items` for evaluation: whole images, in order. Each batch comes
    /// with the indices of its images in `items`, because some images can be left out.
    pub fn evaluation(
        &self,
        items: &[Item],
    ) -> impl Iterator<Item = alexnet_core::Result<(Vec<usize>, Batch)>> + use<'_> {
        self.evaluation_views(items, Views::Whole)
    }

    /// Does the same as [`Loader::evaluation`] with several views of each image. The views of an
    /// image are next to each other in one batch, each with the target of the image. The batch size
    /// counts views; a batch has the views of at least one image.
    pub fn evaluation_views(
        &self,
        items: &[Item],
        views: Views,
    ) -> impl Iterator<Item = alexnet_core::Result<(Vec<usize>, Batch)>> + use<'_> {
        self.share_of_evaluation(items, views, Share::WHOLE)
    }

    /// Does the same as [`Loader::evaluation`] with corrupted images.
    pub fn corrupted_evaluation(
        &self,
        items: &[Item],
        corruption: Corruption,
    ) -> impl Iterator<Item = alexnet_core::Result<(Vec<usize>, Batch)>> + use<'_> {
        let (source, size) = (Arc::clone(&self.source), self.source.options.size);
        self.prepared_evaluation(items, 1, Share::WHOLE, move |item, pixels| {
            let mut image = vec![0; pixels.len()];
            let is_usable = source.prepare_views(item, &mut image, Views::Whole)?;
            corruption.apply(&mut image, size, item.index())?;
            pixels.copy_from_slice(&image);
            Ok(is_usable)
        })
    }

    /// Does the same as [`Loader::evaluation_views`] for every `share.ranks`-th batch.
    fn share_of_evaluation(
        &self,
        items: &[Item],
        views: Views,
        share: Share,
    ) -> impl Iterator<Item = alexnet_core::Result<(Vec<usize>, Batch)>> + use<'_> {
        let source = Arc::clone(&self.source);
        self.prepared_evaluation(items, views.count(), share, move |item, pixels| {
            source.prepare_views(item, pixels, views)
        })
    }

    /// Iterates over batches of images that `prepare` writes, `count` views of each.
    fn prepared_evaluation<P: Fn(Item, &mut [u8]) -> Result<bool> + Send + Sync + 'static>(
        &self,
        items: &[Item],
        count: usize,
        share: Share,
        prepare: P,
    ) -> impl Iterator<Item = alexnet_core::Result<(Vec<usize>, Batch)>> + use<'_, P> {
        let items: Arc<[Item]> = items.into();
        let listed = Arc::clone(&items);
        let work = move |position: usize, pixels: &mut [u8]| prepare(listed[position], pixels);
        let batch_size = (self.source.options.batch_size / count).max(1);
        let batches = consecutive(0..items.len(), batch_size).skip(share.rank).step_by(share.ranks);
        let batches = batches.map(Iterator::collect);
        self.prefetch(Box::new(batches), count, work).map(move |filled| {
            let filled = filled.map_err(|error| alexnet_core::Error::Image(error.to_string()))?;
            let filled = filled.without_unusable();
            let positions = filled.positions.clone();
            Ok((positions, self.source.batch(filled, count, |position| items[position])))
        })
    }

    fn prefetch(
        &self,
        batches: Positions,
        views: usize,
        work: impl Fn(usize, &mut [u8]) -> Result<bool> + Send + Sync + 'static,
    ) -> Prefetch {
        let size = self.source.options.size;
        Prefetch::new(batches, views * size * size * 3, Arc::new(work))
    }
}

/// Divides positions into batches.
fn consecutive(positions: Range<usize>, batch_size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = positions.end;
    positions.step_by(batch_size).map(move |first| first..end.min(first.saturating_add(batch_size)))
}

impl Batches for Loader {
    fn batches_per_epoch(&self) -> usize {
        self.source.dataset.train.len().div_ceil(self.source.options.batch_size)
    }

    fn batches_per_step(&self) -> usize {
        self.source.options.accumulate
    }

    fn train(
        &self,
        epoch: u64,
        first: usize,
        share: Share,
    ) -> Box<dyn Iterator<Item = alexnet_core::Result<StepBatch>> + '_> {
        let LoaderOptions { batch_size, accumulate, seed, sampler, size, augmentation, .. } =
            self.source.options;
        let n = self.source.dataset.train.len();
        let order: Arc<[usize]> = match (&self.source.blocks, sampler) {
            (None, Sampler::Uniform) => permutation(seed, Purpose::Shuffle, epoch, 0, n).into(),
            (None, Sampler::Balanced) => balanced(&self.source.dataset, seed, epoch).into(),
            (Some(blocks), _) => blocks.order(seed, epoch).into(),
        };
        let (source, shuffled) = (Arc::clone(&self.source), Arc::clone(&order));
        let work = move |position: usize, pixels: &mut [u8]| {
            let index = shuffled[position];
            // An image that is drawn several times has other variations each time.
            let key = match sampler {
                Sampler::Uniform => index,
                Sampler::Balanced => position,
            };
            source.prepare(source.dataset.train[index], pixels, |width, height| {
                variation(&augmentation, (seed, epoch, key), (width, height), size as u32)
            })
        };
        let start = first.saturating_mul(batch_size).min(n);
        let steps = move || consecutive(start..n, batch_size.saturating_mul(accumulate));
        let is_mixed = augmentation.mixup > 0.0 || augmentation.cutmix > 0.0;
        let mut read_ahead = self.source.blocks.is_some().then(|| {
            let (source, order) = (Arc::clone(&self.source), Arc::clone(&order));
            let step = batch_size.saturating_mul(accumulate);
            let own = share.of(step);
            let item = move |position: usize| {
                let is_own = own.contains(&((position - start) % step));
                is_own.then(|| source.dataset.train[order[position]])
            };
            ReadAhead::start(Arc::clone(&self.source.dataset.images), start, item)
        });
        let positions = steps().map(move |step| {
            if let Some(read_ahead) = &mut read_ahead {
                read_ahead.reach(step.start, n);
            }
            let own = share.of(step.len());
            let partner = partner(&own, step.len()).filter(|_| is_mixed);
            own.chain(partner).map(|index| step.start + index).collect()
        });
        let indices = (first.div_ceil(accumulate) as u64)..;
        let filled = self.prefetch(Box::new(positions), 1, work);
        Box::new(filled.zip(steps()).zip(indices).map(move |((filled, step), index)| {
            let filled = filled.map_err(|error| alexnet_core::Error::Image(error.to_string()))?;
            let source = &self.source;
            let mut batch =
                source.batch(filled, 1, |position| source.dataset.train[order[position]]);
            // The weighted mean of PyTorch: over labels, but not over probabilities.
            let class_weights = self.class_weights.as_ref();
            let weights = class_weights.filter(|_| !is_mixed).map(|w| w.of_labels(&batch.targets));
            smooth_labels(
                &mut batch.targets,
                source.dataset.classes.len(),
                augmentation.label_smoothing,
            );
            let rng = &mut generator(seed, Purpose::Mix, epoch, index);
            if let Some(mix) =
                Mix::random(augmentation.mixup, augmentation.cutmix, size as u32, rng)
            {
                mix.apply(&mut batch);
            }
            if let Some(class_weights) = class_weights {
                class_weights.apply(&mut batch.targets);
            }
            let own = source.share(batch, share.of(step.len()), step.len());
            Ok(StepBatch { weights, ..own })
        }))
    }

    fn has_validation(&self) -> bool {
        !self.source.dataset.val.is_empty()
    }

    fn validation(
        &self,
        share: Share,
    ) -> Box<dyn Iterator<Item = alexnet_core::Result<Batch>> + '_> {
        let batches = self.share_of_evaluation(&self.source.dataset.val, Views::Whole, share);
        Box::new(batches.map(|batch| Ok(batch?.1)))
    }
}

/// Returns the image that the first image of a rank is mixed with, if it belongs to another rank:
/// the previous one in the step, or the last one for the first image of the step.
fn partner(own: &Range<usize>, images_per_step: usize) -> Option<usize> {
    (!own.is_empty() && own.len() < images_per_step)
        .then(|| (own.start + images_per_step - 1) % images_per_step)
}

/// The state shared by the tasks on the pool.
struct Source {
    dataset: Dataset,
    options: LoaderOptions,
    /// For [`Shuffle::Blocks`].
    blocks: Option<Blocks>,
    cache: Cache,
    skipped: Mutex<BTreeMap<PathBuf, String>>,
    notes: Mutex<BTreeMap<PathBuf, String>>,
}

impl Source {
    fn images(&self) -> &ImageList {
        &self.dataset.images
    }

    /// Writes the network's input for an item to `pixels`. `view` returns the variation for the
    /// image's width and height. Returns `false` if the image is left out.
    fn prepare(
        &self,
        item: Item,
        pixels: &mut [u8],
        view: impl FnOnce(u32, u32) -> Variation,
    ) -> Result<bool> {
        let prepared = without_panic(self.images(), item, || {
            let mut variation = Variation::none(0, 0);
            let (decoded, crop) = self.decoded(item, |width, height| {
                variation = view(width, height);
                variation.crop
            })?;
            let LoaderOptions { size, normalization, .. } = self.options;
            // The erased area is filled with the mean, which is 0 after normalization.
            let mean = normalization.mean.map(|mean| (255.0 * mean).round_ties_even() as u8);
            variation.apply(&decoded.image, crop, size, mean, pixels);
            Ok(())
        });
        self.check(item, prepared)
    }

    /// Writes all views of an item's image to `pixels`. Returns `false` if the image is left out.
    fn prepare_views(&self, item: Item, pixels: &mut [u8], views: Views) -> Result<bool> {
        let prepared = without_panic(self.images(), item, || {
            let (decoded, _) = self.decoded(item, Crop::whole)?;
            evaluation_views(&decoded.image, views, self.options.framing(), pixels);
            Ok(())
        });
        self.check(item, prepared)
    }

    /// Returns `true` for an image that was prepared. For an image that failed, records it and
    /// returns `false`, or returns the error, depending on the options.
    fn check(&self, item: Item, prepared: Result<()>) -> Result<bool> {
        match prepared {
            Ok(()) => Ok(true),
            Err(error) if self.options.on_bad_image == OnBadImage::Skip => {
                let path = self.images().file(item);
                lock(&self.skipped).entry(path).or_insert_with(|| error.reason());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Decodes at least the crop that `choose` returns for the image's width and height. Also
    /// returns the position of the crop in the decoded pixels. The first time, the whole image is
    /// decoded, so that damage outside of the crop is detected.
    fn decoded(
        &self,
        item: Item,
        choose: impl FnOnce(u32, u32) -> Crop,
    ) -> Result<(Arc<Decoded>, Crop)> {
        let (images, options) = (self.images(), self.options.decoding());
        let whole = match self.cache.get(item) {
            Some(Lookup::Cached(image)) => image,
            Some(Lookup::NotCached) => {
                let (part, crop) = images.decode_crop(item, options, choose)?;
                return Ok((Arc::new(part), crop));
            }
            None => {
                let decoded = images.decode(item, options)?;
                if !decoded.notes.is_empty() {
                    lock(&self.notes).insert(images.file(item), decoded.notes.join("; "));
                }
                self.cache.add(item, decoded)
            }
        };
        let crop = choose(whole.image.width(), whole.image.height());
        Ok((whole, crop))
    }

    /// Returns the images `own` of a step. `batch` has these images, and perhaps the partner of the
    /// first one after them.
    fn share(&self, batch: Batch, own: Range<usize>, images_per_step: usize) -> StepBatch {
        let batch = match own.is_empty() {
            true => self.blank(),
            false if own.len() < batch.len() => batch.slice(0..own.len()),
            false => batch,
        };
        let first = if own.is_empty() { images_per_step } else { own.start };
        StepBatch { batch, first, images_per_step, weights: None }
    }

    /// Returns a batch with one blank image without a target.
    fn blank(&self) -> Batch {
        let bytes = self.options.size * self.options.size * 3;
        let filled = Filled { positions: vec![0], pixels: vec![0; bytes], usable: vec![false] };
        self.batch(filled, 1, |_| unreachable!("a blank image has no class"))
    }

    /// Returns the images with their targets. An unusable image has no target.
    fn batch(&self, filled: Filled, views: usize, item: impl Fn(usize) -> Item) -> Batch {
        let LoaderOptions { size, normalization, .. } = self.options;
        let classes = self.dataset.classes.len();
        let mut targets = vec![0.0; filled.positions.len() * views * classes];
        let rows = targets.chunks_exact_mut(views * classes);
        for ((rows, position), _) in
            rows.zip(filled.positions).zip(&filled.usable).filter(|(_, usable)| **usable)
        {
            let class = self.images().class(item(position));
            rows.chunks_exact_mut(classes).for_each(|row| row[class] = 1.0);
        }
        Batch {
            images: Images { pixels: filled.pixels, height: size, width: size, normalization },
            targets,
        }
    }
}

/// Turns a panic into an error that names the image. A panic inside rayon's `spawn` would abort the
/// process.
fn without_panic<T>(
    images: &ImageList,
    item: Item,
    prepare: impl FnOnce() -> Result<T>,
) -> Result<T> {
    guard(prepare).unwrap_or_else(|panic| {
        let reason = format!("preparing it failed with an internal error: {panic}");
        Err(Error::Image { path: images.file(item), reason })
    })
}

fn listed(reasons: &Mutex<BTreeMap<PathBuf, String>>) -> Vec<(PathBuf, String)> {
    lock(reasons).iter().map(|(path, reason)| (path.clone(), reason.clone())).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use image::RgbImage;

    use super::*;
    use crate::{
        decode::decode,
        fixtures,
        preprocess::evaluation_image,
        resize::{resize, resize_into},
    };

    /// Creates ten images of two classes: noise of different sizes.
    fn images() -> (tempfile::TempDir, Dataset) {
        let root = tempfile::tempdir().unwrap();
        for i in 0..10_u32 {
            let image = RgbImage::from_fn(20 + i, 31 - i, |x, y| {
                let hash = (x + 57 * y + 8191 * i).wrapping_mul(2_654_435_761);
                image::Rgb([(hash >> 8) as u8, (hash >> 16) as u8, (hash >> 24) as u8])
            });
            image.save(root.path().join(format!("{i}.png"))).unwrap();
        }
        let dataset = noise(root.path(), 2);
        (root, dataset)
    }

    /// Lists these images. The fourth one has the last of these classes.
    fn noise(root: &Path, classes: usize) -> Dataset {
        let names: Vec<String> = (0..10).map(|i| format!("{i}.png")).collect();
        let class = |i: usize| if i == 3 { classes - 1 } else { i % 2 };
        let items: Vec<(&str, usize)> =
            names.iter().enumerate().map(|(i, name)| (name.as_str(), class(i))).collect();
        fixtures::dataset(root, &["even", "odd"], &items[..7], &items[7..])
    }

    const OPTIONS: LoaderOptions = LoaderOptions {
        batch_size: 3,
        accumulate: 1,
        seed: 5,
        shuffle: Shuffle::Full,
        sampler: Sampler::Uniform,
        size: 16,
        resize_crop: None,
        normalization: Normalization::HALF,
        augmentation: Augmentation::TUTORIAL,
        cache_bytes: 0,
        on_bad_image: OnBadImage::Error,
        exif_orientation: ExifOrientation::Apply,
    };

    fn decode_image(path: PathBuf) -> RgbImage {
        decode(path, decode::Options::default()).unwrap().image
    }

    fn loader(dataset: &Dataset, options: LoaderOptions) -> Loader {
        Loader::new(dataset.clone(), options).unwrap()
    }

    fn train(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
        loader.train(epoch, first, Share::WHOLE).map(|step| step.unwrap().batch).collect()
    }

    #[test]
    fn an_epoch_is_a_permutation_of_the_training_images() {
        let (_root, dataset) = images();
        let batches = train(&loader(&dataset, OPTIONS), 4, 0);
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [3, 3, 1]);
        let targets: Vec<f32> = batches.iter().flat_map(|b| b.targets.clone()).collect();
        let order = permutation(5, Purpose::Shuffle, 4, 0, 7);
        let expected: Vec<f32> =
            order.iter().flat_map(|i| if i % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
        assert_eq!(targets, expected);
        for batch in &batches {
            batch.check([3, 16, 16], 2).unwrap();
        }
    }

    #[test]
    fn a_training_image_is_cropped_resized_and_flipped() {
        let (_root, dataset) = images();
        let batches = train(&loader(&dataset, OPTIONS), 0, 0);
        let mut rows = batches.iter().flat_map(|b| b.images.pixels.chunks(16 * 16 * 3));
        let mut flips = 0;
        for index in permutation(5, Purpose::Shuffle, 0, 0, 7) {
            let image = decode_image(dataset.images.file(dataset.train[index]));
            let vary = variation(
                &Augmentation::TUTORIAL,
                (5, 0, index),
                (image.width(), image.height()),
                16,
            );
            let mut view = RgbImage::from_raw(16, 16, resize(&image, vary.crop, 16, 16)).unwrap();
            if vary.flip {
                image::imageops::flip_horizontal_in_place(&mut view);
                flips += 1;
            }
            assert_eq!(rows.next().unwrap(), view.as_raw());
        }
        assert!((1..7).contains(&flips));
    }

    #[test]
    fn threads_cache_and_first_batch_do_not_change_batches() {
        let (_root, dataset) = images();
        let expected = train(&loader(&dataset, OPTIONS), 1, 0);
        assert_ne!(expected, train(&loader(&dataset, OPTIONS), 2, 0));
        // Space for no, some and all images. Each epoch is read several times, so that the cache is
        // used.
        for cache_bytes in [0, 6000, 1 << 20] {
            for threads in [1, 2, 5] {
                let loader = loader(&dataset, LoaderOptions { cache_bytes, ..OPTIONS });
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                assert_eq!(pool.install(|| train(&loader, 1, 0)), expected);
                assert_eq!(train(&loader, 1, 0), expected);
                assert_eq!(train(&loader, 1, 1), expected[1..]);
                assert_eq!(train(&loader, 1, 3), []);
                assert_eq!(train(&loader, 1, usize::MAX), []);
                assert!(loader.source.cache.bytes() <= cache_bytes);
            }
        }
    }

    #[test]
    fn cached_images_are_not_read_again() {
        let (root, dataset) = images();
        let cached = loader(&dataset, LoaderOptions { cache_bytes: 1 << 20, ..OPTIONS });
        let uncached = loader(&dataset, OPTIONS);
        let expected = train(&cached, 0, 0);
        fs::remove_dir_all(root.path()).unwrap();
        assert_eq!(train(&cached, 0, 0), expected);
        assert!(uncached.whole_steps(0).next().unwrap().is_err());
    }

    /// Creates a data set of one JPEG image of 130×110 pixels.
    fn a_jpeg() -> (tempfile::TempDir, Dataset) {
        let root = tempfile::tempdir().unwrap();
        let image =
            RgbImage::from_fn(130, 110, |x, y| image::Rgb([(x * y) as u8, x as u8, y as u8]));
        image.save(root.path().join("0.jpg")).unwrap();
        let dataset = fixtures::dataset(root.path(), &["it"], &[("0.jpg", 0)], &[]);
        (root, dataset)
    }

    /// An image that is not cached is decoded only around the crop.
    #[test]
    fn an_image_that_is_not_cached_gives_the_same_crops() {
        let (_root, dataset) = a_jpeg();
        let cached = loader(&dataset, LoaderOptions { cache_bytes: 1 << 20, ..OPTIONS });
        let not_cached = loader(&dataset, OPTIONS);
        for epoch in 0..20 {
            assert_eq!(train(&cached, epoch, 0), train(&not_cached, epoch, 0), "{epoch}");
        }
    }

    #[test]
    fn an_image_truncated_below_the_crop_is_left_out() {
        let (root, dataset) = a_jpeg();
        let path = root.path().join("0.jpg");
        let file = fs::read(&path).unwrap();
        fs::write(&path, &file[..file.len() * 19 / 20]).unwrap();
        let loader = loader(&dataset, LoaderOptions { on_bad_image: OnBadImage::Skip, ..OPTIONS });
        for epoch in 0..20 {
            let labeled = train(&loader, epoch, 0).iter().map(Batch::labeled).sum::<usize>();
            assert_eq!(labeled, 0, "{epoch}");
        }
        assert_eq!(loader.skipped().len(), 1);
    }

    #[test]
    fn accumulated_batches_are_loaded_as_one_large_batch() {
        let (_root, dataset) = images();
        let augmentation =
            Augmentation { mixup: 0.4, label_smoothing: 0.1, ..Augmentation::TUTORIAL };
        let options = LoaderOptions { augmentation, batch_size: 2, ..OPTIONS };
        let large = loader(&dataset, LoaderOptions { batch_size: 4, ..options });
        let accumulated = loader(&dataset, LoaderOptions { accumulate: 2, ..options });
        assert_eq!((accumulated.batches_per_epoch(), accumulated.steps_per_epoch()), (4, 2));
        for epoch in 0..3 {
            let expected = train(&large, epoch, 0);
            assert_eq!(expected.iter().map(Batch::len).collect::<Vec<_>>(), [4, 3]);
            assert_eq!(train(&accumulated, epoch, 0), expected);
            assert_eq!(train(&accumulated, epoch, 2), expected[1..]);
        }
    }

    /// Also with mixing, for which a rank needs an image of another rank, and with an unreadable
    /// image that only some ranks read.
    #[test]
    fn the_shares_of_ranks_are_the_whole_steps() {
        let (root, dataset) = images();
        fs::write(root.path().join("2.png"), "not an image").unwrap();
        for (mixup, cutmix) in [(0.0, 0.0), (0.4, 0.0), (0.0, 1.0)] {
            let augmentation =
                Augmentation { mixup, cutmix, label_smoothing: 0.1, ..Augmentation::TUTORIAL };
            let on_bad_image = OnBadImage::Skip;
            let options = LoaderOptions { augmentation, on_bad_image, batch_size: 4, ..OPTIONS };
            let loader = loader(&dataset, options);
            for epoch in 0..3 {
                let whole = train(&loader, epoch, 0);
                assert_eq!(whole.iter().map(Batch::labeled).sum::<usize>(), 6);
                for ranks in [2, 3, 4, 8, 16] {
                    let mut found = whole.clone();
                    for batch in &mut found {
                        batch.images.pixels.clear();
                        batch.targets.clear();
                    }
                    for rank in 0..ranks {
                        let steps = loader.train(epoch, 0, Share { rank, ranks });
                        for ((step, found), whole) in steps.zip(&mut found).zip(&whole) {
                            let StepBatch { batch, first, images_per_step, .. } = step.unwrap();
                            assert_eq!(images_per_step, whole.len());
                            if first == images_per_step {
                                assert_eq!((batch.len(), batch.labeled()), (1, 0));
                                continue;
                            }
                            assert_eq!(first, found.len());
                            found.images.pixels.extend(batch.images.pixels);
                            found.targets.extend(batch.targets);
                        }
                    }
                    assert_eq!(found, whole, "{ranks} ranks, mixup {mixup}, cutmix {cutmix}");
                }
            }
        }
    }

    /// Each image has the weight of its class, a blank one none. The shares of ranks are parts of the
    /// whole step, and mixed targets have no weighted mean.
    #[test]
    fn targets_are_weighted_by_class() {
        let (root, dataset) = images();
        fs::write(root.path().join("2.png"), "not an image").unwrap();
        let options = LoaderOptions { batch_size: 7, on_bad_image: OnBadImage::Skip, ..OPTIONS };
        let weighted = |mixup: f64| {
            let augmentation =
                Augmentation { mixup, label_smoothing: 0.1, ..Augmentation::TUTORIAL };
            let options = LoaderOptions { augmentation, ..options };
            let weights = ClassWeights::new(vec![0.5, 3.0], 2).unwrap();
            let loader = |weights: Option<ClassWeights>| {
                let loader = loader(&dataset, options);
                match weights {
                    Some(weights) => loader.with_class_weights(weights),
                    None => loader,
                }
            };
            (loader(None), loader(Some(weights)))
        };
        for mixup in [0.0, 0.4] {
            let (plain, weighted) = weighted(mixup);
            let whole = |loader: &Loader| loader.train(0, 0, Share::WHOLE).next().unwrap().unwrap();
            let (plain, step) = (whole(&plain), whole(&weighted));
            assert_eq!(plain.weights, None);
            for (plain, found) in plain.batch.targets.chunks(2).zip(step.batch.targets.chunks(2)) {
                assert_eq!(found, [0.5 * plain[0], 3.0 * plain[1]]);
            }
            let labels = permutation(5, Purpose::Shuffle, 0, 0, 7).into_iter().map(|i| match i {
                2 => 0.0,
                i if i % 2 == 0 => 0.5,
                _ => 3.0,
            });
            let expected = (mixup == 0.0).then(|| labels.collect::<Vec<f32>>());
            assert_eq!(step.weights, expected);
            let shares = |rank| weighted.train(0, 0, Share { rank, ranks: 8 }).next().unwrap();
            let shares: Vec<StepBatch> = (0..8).map(|rank| shares(rank).unwrap()).collect();
            let joined: Option<Vec<f32>> = shares
                .into_iter()
                .map(|share| share.weights)
                .collect::<Option<Vec<_>>>()
                .map(|w| w.concat());
            assert_eq!(joined, expected);
        }
    }

    /// An image that is drawn twice has two crops, and the steps do not depend on the threads or on
    /// the first batch.
    #[test]
    fn images_are_drawn_with_replacement() {
        let (_root, dataset) = images();
        let options = LoaderOptions { sampler: Sampler::Balanced, batch_size: 2, ..OPTIONS };
        let drawn = loader(&dataset, options);
        let mut twice = 0;
        for epoch in 0..5 {
            let order = balanced(&dataset, 5, epoch);
            let whole = train(&drawn, epoch, 0);
            let pixels: Vec<&[u8]> =
                whole.iter().flat_map(|batch| batch.images.pixels.chunks(16 * 16 * 3)).collect();
            let targets: Vec<f32> = whole.iter().flat_map(|batch| batch.targets.clone()).collect();
            for (place, index) in order.iter().enumerate() {
                assert_eq!(targets[2 * place + index % 2], 1.0);
                for other in (0..place).filter(|other| order[*other] == *index) {
                    assert_ne!(pixels[place], pixels[other]);
                    twice += 1;
                }
            }
            assert_eq!(train(&drawn, epoch, 2), whole[2..]);
        }
        assert!(twice > 5, "{twice}");
    }

    #[test]
    fn ranks_take_turns_in_validation() {
        let (_root, dataset) = images();
        let loader = loader(&dataset, LoaderOptions { batch_size: 1, ..OPTIONS });
        let of = |rank, ranks| -> Vec<Batch> {
            loader.validation(Share { rank, ranks }).map(Result::unwrap).collect()
        };
        let whole = of(0, 1);
        assert_eq!(of(0, 2), [whole[0].clone(), whole[2].clone()]);
        assert_eq!(of(1, 2), [whole[1].clone()]);
        assert_eq!(of(3, 4), []);
    }

    #[test]
    fn validation_uses_whole_images_in_order() {
        let (root, dataset) = images();
        let loader = loader(&dataset, LoaderOptions { batch_size: 2, ..OPTIONS });
        let batches: Vec<Batch> = loader.validation(Share::WHOLE).map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(Batch::len).collect::<Vec<_>>(), [2, 1]);
        let pixels: Vec<u8> = batches.iter().flat_map(|b| b.images.pixels.clone()).collect();
        let expected: Vec<u8> = (7..10)
            .flat_map(|i| {
                let image = decode_image(root.path().join(format!("{i}.png")));
                evaluation_image(&image, Framing::whole(16))
            })
            .collect();
        assert_eq!(pixels, expected);
        assert_eq!(batches[0].targets, [0.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn the_views_of_an_image_follow_each_other() {
        let (_root, dataset) = images();
        for (views, batch_size, sizes) in [
            (Views::Whole, 2, &[2, 1][..]),
            (Views::Flip, 2, &[2, 2, 2]),
            (Views::Flip, 5, &[4, 2]),
            (Views::TenCrop, 3, &[10, 10, 10]),
            (Views::TenCrop, 29, &[20, 10]),
        ] {
            let loader = loader(&dataset, LoaderOptions { batch_size, ..OPTIONS });
            let batches: Vec<_> =
                loader.evaluation_views(&dataset.val, views).map(Result::unwrap).collect();
            assert_eq!(batches.iter().map(|(_, batch)| batch.len()).collect::<Vec<_>>(), sizes);
            let positions: Vec<usize> =
                batches.iter().flat_map(|(positions, _)| positions.clone()).collect();
            assert_eq!(positions, [0, 1, 2]);

            let mut images =
                batches.iter().flat_map(|(_, batch)| batch.images.pixels.chunks(16 * 16 * 3));
            let mut targets = batches.iter().flat_map(|(_, batch)| batch.targets.chunks(2));
            for item in &dataset.val {
                let image = decode_image(dataset.images.file(*item));
                for view in views.of(image.dimensions().into(), Framing::whole(16)) {
                    let mut expected = vec![0; 16 * 16 * 3];
                    resize_into(&image, view.crop, view.flip, 16, 16, &mut expected);
                    assert_eq!(images.next().unwrap(), expected);
                    assert_eq!(targets.next().unwrap()[dataset.images.class(*item)], 1.0);
                }
            }
            assert!(images.next().is_none() && targets.next().is_none());
        }
    }

    #[test]
    fn a_bad_image_is_an_error_that_names_it() {
        let (root, dataset) = images();
        fs::write(root.path().join("8.png"), "not an image").unwrap();
        let loader = loader(&dataset, LoaderOptions { batch_size: 1, ..OPTIONS });
        let mut batches = loader.validation(Share::WHOLE);
        assert_eq!(batches.next().unwrap().unwrap().len(), 1);
        let error = batches.next().unwrap().unwrap_err();
        assert!(
            matches!(&error, alexnet_core::Error::Image(text) if text.contains("8.png")),
            "{error}"
        );
        assert!(batches.next().is_none());
    }

    #[test]
    fn bad_images_can_be_left_out() {
        let (root, dataset) = images();
        let good =
            train(&loader(&dataset, LoaderOptions { batch_size: 7, ..OPTIONS }), 0, 0).remove(0);
        fs::write(root.path().join("2.png"), "not an image").unwrap();
        fs::remove_file(root.path().join("8.png")).unwrap();
        let options = LoaderOptions { batch_size: 7, on_bad_image: OnBadImage::Skip, ..OPTIONS };
        let loader = loader(&dataset, options);

        // A blank image takes its place in training. The other images of the batch are the same.
        let place = permutation(5, Purpose::Shuffle, 0, 0, 7).iter().position(|i| *i == 2).unwrap();
        let mut expected = good;
        expected.images.pixels[place * 768..(place + 1) * 768].fill(0);
        expected.targets[place * 2..(place + 1) * 2].fill(0.0);
        assert_eq!(train(&loader, 0, 0), [expected]);

        let evaluated: Vec<_> = loader.evaluation(&dataset.val).map(Result::unwrap).collect();
        assert_eq!(evaluated.len(), 1);
        assert_eq!(evaluated[0].0, [0, 2]);
        assert_eq!(evaluated[0].1.targets, [0.0, 1.0, 0.0, 1.0]);

        train(&loader, 1, 0);
        let skipped = loader.skipped();
        let names: Vec<_> = skipped.iter().map(|(path, _)| path.file_name().unwrap()).collect();
        assert_eq!(names, ["2.png", "8.png"]);
        assert!(skipped[0].1.starts_with("it is not a JPEG"), "{}", skipped[0].1);
        assert!(skipped[1].1.starts_with("cannot open it: "), "{}", skipped[1].1);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_consumer_as_an_error() {
        let (images, items) = ImageList::of_files("", [("odd.jpg", 0)]).unwrap();
        let work = move |position: usize, _: &mut [u8]| {
            without_panic(&images, items[0], || {
                if position == 5 { panic!("overflow") } else { Ok(true) }
            })
        };
        let positions = consecutive(0..9, 3).map(Iterator::collect);
        let mut batches = Prefetch::new(Box::new(positions), 1, Arc::new(work));
        assert!(batches.next().unwrap().is_ok());
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("odd.jpg") && error.contains("overflow"), "{error}");
    }

    #[test]
    fn invalid_options_and_classes_are_refused() {
        let (root, dataset) = images();
        let augmentation =
            Augmentation { crop: CropMode::Random, resize_short: 15, ..Augmentation::TUTORIAL };
        for options in [
            LoaderOptions { batch_size: 0, ..OPTIONS },
            LoaderOptions { size: 0, ..OPTIONS },
            LoaderOptions { augmentation, ..OPTIONS },
            LoaderOptions { resize_crop: Some(15), ..OPTIONS },
        ] {
            let error = Loader::new(dataset.clone(), options).err().unwrap().to_string();
            assert!(error.contains("it must be at least "), "{error}");
        }
        let error = Loader::new(noise(root.path(), 3), OPTIONS).err().unwrap().to_string();
        assert!(error.contains("3.png"), "{error}");
    }
}
