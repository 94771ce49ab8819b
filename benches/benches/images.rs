//! Loading of training batches from files on all cores: decoding, cropping, flipping and resizing
//! synthetic images of flowers.

use alexnet_core::{Normalization, train::Batches};
use alexnet_data::{
    augment::Augmentation,
    dataset::Dataset,
    loader::{Loader, LoaderOptions, OnBadImage, Sampler, Shuffle},
    split::SplitOptions,
    synthetic,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn images(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder can be created");
    let flowers = folder.path().join("flowers");
    synthetic::generate(&flowers, 32, 0, &|_, _| {}).expect("the images can be generated");
    let dataset = Dataset::open(
        &flowers,
        &SplitOptions { val_fraction: 0.1, seed: 0, ..SplitOptions::default() },
    )
    .expect("the folder is a data set");
    let images = dataset.train.len();
    let options = LoaderOptions {
        shuffle: Shuffle::Full,
        sampler: Sampler::Uniform,
        accumulate: 1,
        batch_size: 32,
        seed: 0,
        size: 224,
        normalization: Normalization::HALF,
        augmentation: Augmentation::TUTORIAL,
        cache_bytes: 0,
        on_bad_image: OnBadImage::Error,
        exif_orientation: Default::default(),
        resize_crop: None,
    };
    let loader = Loader::new(dataset, options).expect("the images can be listed");
    let mut group = criterion.benchmark_group("images");
    group.sample_size(10).throughput(Throughput::Elements(images as u64));
    let mut epoch = 0;
    group.bench_function("train", |bencher| {
        bencher.iter(|| {
            epoch += 1;
            loader
                .whole_steps(epoch)
                .for_each(|batch| drop(batch.expect("the images can be read")));
        });
    });
}

criterion_group!(benches, images);
criterion_main!(benches);
