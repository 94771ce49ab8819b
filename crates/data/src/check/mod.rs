//! Checks the images of a data set before training: damaged files, extensions that do not match the
//! content, duplicates and near duplicates, class imbalance, unusual sizes.
//!
//! Every image is decoded once, in parallel. Its size, two digests and two perceptual hashes are
//! stored, about 150 bytes per image.

mod inspection;
mod near_duplicates;
mod report;
mod truncation;
mod unreadable;

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

pub(crate) use self::unreadable::size_of_complete;
use self::{
    inspection::{Inspection, inspect},
    near_duplicates::Fingerprint,
};
pub use self::{
    near_duplicates::{Likeness, Link, NEAR_BITS},
    report::{
        Class, Damage, Damaged, EXTREME_RATIO, FEW_IMAGES, Format, Group, HUGE_PIXELS, Member,
        NotImage, OddSize, Oddity, Report, SplitBy, TINY_SIDE, WrongExtension,
    },
    unreadable::unreadable,
};
pub use crate::dataset::subsets::Subset;
use crate::{
    Result,
    dataset::{
        Dataset, Images, Item,
        folder::{LeftOut, Why},
        listing::Listing,
    },
    decode,
    progress::Progress,
    split::SplitOptions,
};

/// Checks all images of a folder, split with `options` and decoded with `decoding`. Damaged images
/// and classes without images are reported; they are not errors.
///
/// # Errors
/// [`crate::Error::Invalid`] if the fraction is outside `0.0..1.0`.
pub fn check(
    listing: Listing,
    options: &SplitOptions,
    decoding: decode::Options,
    progress: &Progress,
) -> Result<Report> {
    let not_images = not_images(&listing);
    let split = match listing.val {
        Some(_) => SplitBy::Folders,
        None => SplitBy::Seed { seed: options.seed, val_fraction: options.val_fraction },
    };
    let dataset = &listing.divided(options)?;
    let subsets = [
        (Subset::Train, &dataset.train),
        (Subset::Val, &dataset.val),
        (Subset::Test, &dataset.test),
    ];
    let list = &*dataset.images;
    let mut items: Vec<(Item, Subset)> = subsets
        .iter()
        .flat_map(|(subset, items)| items.iter().map(|item| (*item, *subset)))
        .collect();
    items.sort_by_cached_key(|(item, _)| (list.class(*item), list.path(*item)));
    let images = inspect_all(list, items.iter().map(|(item, _)| *item), decoding, progress);
    let class_of = |item: Item| dataset.classes[list.class(item)].clone();

    let (mut damaged, mut wrong_extension, mut sizes) = (vec![], vec![], vec![]);
    for ((item, _), image) in items.iter().zip(&images) {
        let (path, class) = (list.path(*item), class_of(*item));
        if let Some((kind, reason)) = image.damage.clone() {
            let decodes = image.size.is_some();
            damaged.push(Damaged {
                path: path.clone(),
                class: class.clone(),
                kind,
                reason,
                decodes,
            });
        }
        // In shards, the names of images are no longer those of files.
        let is_file = list.shards().is_none();
        if let Some(content) =
            image.format.filter(|format| is_file && image.size.is_some() && !format.is_named(&path))
        {
            wrong_extension.push(WrongExtension {
                path: path.clone(),
                class: class.clone(),
                content,
            });
        }
        if let Some(([width, height], oddity)) =
            image.size.and_then(|size| Some((size, oddity(size)?)))
        {
            sizes.push(OddSize { path, class, width, height, oddity });
        }
    }

    let groups = near_duplicates::groups(&fingerprints(&images));
    let mut duplicates: Vec<Group> =
        groups.iter().map(|group| describe(group, &items, dataset)).collect();
    // The most serious groups first. The sort is stable, so that paths stay in order.
    duplicates.sort_by_key(|group| (!group.across_classes, !group.across_split));

    let classes: Vec<Class> = dataset
        .classes
        .iter()
        .enumerate()
        .map(|(class, name)| {
            let counts = subsets
                .map(|(_, items)| items.iter().filter(|item| list.class(**item) == class).count());
            Class::new(name, counts, items.len())
        })
        .collect();
    let class_sizes = || classes.iter().map(|class| class.images);
    let imbalance =
        class_sizes().max().unwrap_or(0) as f64 / class_sizes().min().unwrap_or(0).max(1) as f64;

    let skipped_images = not_images.iter().filter(|file| file.is_image()).count();
    let empty_classes = classes.iter().filter(|class| class.images == 0).count();
    Ok(Report {
        root: dataset.root().to_owned(),
        split,
        images: items.len(),
        issues: damaged.len()
            + wrong_extension.len()
            + skipped_images
            + duplicates.len()
            + empty_classes,
        classes,
        imbalance,
        damaged,
        wrong_extension,
        not_images,
        duplicates,
        sizes,
        turned: images.iter().filter(|image| image.turned).count(),
    })
}

/// Finds the duplicates and near duplicates in a data set. Returns groups of indices in
/// [`Dataset::items`]. Images that cannot be decoded are in no group.
pub fn duplicates(dataset: &Dataset, progress: &Progress) -> Vec<Vec<usize>> {
    let options = decode::Options::default();
    let images = inspect_all(&dataset.images, dataset.items(), options, progress);
    near_duplicates::groups(&fingerprints(&images)).into_iter().map(|group| group.members).collect()
}

fn inspect_all(
    images: &Images,
    items: impl Iterator<Item = Item>,
    decoding: decode::Options,
    progress: &Progress,
) -> Vec<Inspection> {
    let items: Vec<Item> = items.collect();
    let done = AtomicUsize::new(0);
    items
        .par_iter()
        .map(|item| {
            let image = inspect(images, *item, decoding);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
            image
        })
        .collect()
}

fn fingerprints(images: &[Inspection]) -> Vec<Option<Fingerprint>> {
    images.iter().map(|image| image.fingerprint).collect()
}

fn describe(group: &near_duplicates::Group, items: &[(Item, Subset)], dataset: &Dataset) -> Group {
    let images: Vec<Member> = group
        .members
        .iter()
        .map(|index| {
            let (item, subset) = items[*index];
            let class = dataset.classes[dataset.images.class(item)].clone();
            Member { path: dataset.images.path(item), class, subset }
        })
        .collect();
    Group {
        across_classes: images.iter().any(|image| image.class != images[0].class),
        across_split: images.iter().any(|image| image.subset != images[0].subset),
        images,
        links: group.links.clone(),
    }
}

fn oddity([width, height]: [u32; 2]) -> Option<Oddity> {
    let (shorter, longer) = (width.min(height), width.max(height));
    if u64::from(longer) > u64::from(shorter) * u64::from(EXTREME_RATIO) {
        Some(Oddity::Extreme)
    } else if shorter < TINY_SIDE {
        Some(Oddity::Tiny)
    } else if u64::from(width) * u64::from(height) > HUGE_PIXELS {
        Some(Oddity::Huge)
    } else {
        None
    }
}

fn not_images(listing: &Listing) -> Vec<NotImage> {
    let found = listing.left_out.iter().map(|LeftOut { path, class, why }| {
        // Opening a pipe would block.
        let content = match why {
            Why::Extension | Why::NoClass => {
                inspection::format_of_image(&listing.root().join(path))
            }
            Why::DanglingLink | Why::Special => None,
        };
        NotImage {
            path: path.clone(),
            class: class.clone().unwrap_or_default(),
            content,
            why: *why,
        }
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::synthetic::draw_flower;

    /// Pairs of copies within and across classes and subsets. The most serious groups come first.
    #[test]
    fn groups_report_label_conflicts_and_leaks() {
        let root = tempfile::tempdir().unwrap();
        for (image, paths) in [
            ["train/a/0.png", "train/a/1.png"],
            ["train/a/2.png", "val/a/0.png"],
            ["train/a/3.png", "train/b/0.png"],
            ["train/b/1.png", "val/a/1.png"],
            ["val/b/0.png", "val/b/1.png"],
        ]
        .iter()
        .enumerate()
        {
            for path in paths.map(|path| root.path().join(path)) {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                draw_flower(image, 0, 0).save(path).unwrap();
            }
        }
        let options = SplitOptions::default();
        let listing = Listing::read(root.path()).unwrap();
        let report = check(listing, &options, decode::Options::default(), &|_, _| {}).unwrap();
        let groups: Vec<_> = report
            .duplicates
            .iter()
            .map(|group| (group.images[0].path.as_str(), group.across_classes, group.across_split))
            .collect();
        assert_eq!(
            groups,
            [
                ("val/a/1.png", true, true),
                ("train/a/3.png", true, false),
                ("train/a/2.png", false, true),
                ("train/a/0.png", false, false),
                ("val/b/0.png", false, false),
            ]
        );
        assert_eq!(report.issues, 5);
    }

    #[test]
    fn sizes_at_the_limits_are_not_odd() {
        for size in [[64, 64], [192, 64], [64, 192], [4096, 4096]] {
            assert_eq!(oddity(size), None, "{size:?}");
        }
        for (size, odd) in [
            ([63, 100], Oddity::Tiny),
            ([193, 64], Oddity::Extreme),
            ([10, 40], Oddity::Extreme),
            ([4097, 4096], Oddity::Huge),
        ] {
            assert_eq!(oddity(size), Some(odd), "{size:?}");
        }
    }
}
