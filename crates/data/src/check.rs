//! What a person should know of photos before a network learns from them: files that are no whole pictures, names that belie
//! their content, photos that are there twice, classes out of balance, odd sizes.
//!
//! Every photo is decoded once, in parallel; kept of it are its size, two digests and two perceptual hashes, about 150 bytes.

mod alike;
mod ends;
mod photo;
mod report;

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use rayon::prelude::*;

use self::{
    alike::Fingerprint,
    photo::{Photo, inspect},
};
pub use self::{
    alike::{Likeness, NEAR_BITS},
    report::{
        Class, Damage, Damaged, Format, Group, Half, Link, Member, NotPhoto, OddSize, Oddity, Report,
        SplitBy, WrongExtension,
    },
};
use crate::{
    Result, decode,
    folder::{LeftOut, Why},
    listing::Listing,
    split::{Dataset, Item, SplitOptions},
};

/// A class with fewer photos has few: at the usual tenth one of them validates, or none.
pub const FEW_PHOTOS: usize = 20;

/// A photo is tiny when its shorter side has fewer pixels: a network for 224 sees each of them spread over more than three.
pub const TINY_SIDE: u32 = 64;

/// A photo is extreme when its longer side is more than this many times its shorter: squeezed into a square it is no longer
/// what it was.
pub const EXTREME_RATIO: u32 = 3;

/// A photo is huge when it has more pixels, 4096×4096: it is decoded anew for every look.
pub const HUGE_PIXELS: u64 = 1 << 24;

/// Told how many photos have been looked at, and how many there are; from several threads.
pub type Progress<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Looks at all images of a folder, split with `options` and read as `decoding` says. What is wrong with an image is in the report, never an error; so are
/// classes without images.
///
/// # Errors
/// [`crate::Error::Invalid`] for a fraction outside `0.0..1.0`.
pub fn check(
    listing: Listing,
    options: &SplitOptions,
    decoding: decode::Options,
    progress: &Progress,
) -> Result<Report> {
    let not_photos = not_photos(&listing);
    let split = match listing.val {
        Some(_) => SplitBy::Folders,
        None => SplitBy::Seed { seed: options.seed, val_fraction: options.val_fraction },
    };
    let dataset = &listing.divided(options)?;
    let halves = [(Half::Train, &dataset.train), (Half::Val, &dataset.val), (Half::Test, &dataset.test)];
    let mut items: Vec<(&Item, Half)> =
        halves.iter().flat_map(|(half, items)| items.iter().map(|item| (item, *half))).collect();
    items.sort_by(|(a, _), (b, _)| (a.class, &a.path).cmp(&(b.class, &b.path)));
    let photos = inspect_all(&dataset.root, items.iter().map(|(item, _)| *item), decoding, progress);
    let class_of = |item: &Item| dataset.classes[item.class].clone();

    let (mut damaged, mut wrong_extension, mut sizes) = (vec![], vec![], vec![]);
    for ((item, _), photo) in items.iter().zip(&photos) {
        let (path, class) = (item.path.clone(), class_of(item));
        if let Some((kind, reason)) = photo.damage.clone() {
            let decodes = photo.size.is_some();
            damaged.push(Damaged { path: path.clone(), class: class.clone(), kind, reason, decodes });
        }
        if let Some(content) = photo.format.filter(|format| photo.size.is_some() && !format.is_named(&path)) {
            wrong_extension.push(WrongExtension { path: path.clone(), class: class.clone(), content });
        }
        if let Some(([width, height], oddity)) = photo.size.and_then(|size| Some((size, oddity(size)?))) {
            sizes.push(OddSize { path, class, width, height, oddity });
        }
    }

    let groups = alike::groups(&prints(&photos));
    let mut duplicates: Vec<Group> = groups.iter().map(|group| describe(group, &items, dataset)).collect();
    // The gravest first; the sort keeps the order of paths.
    duplicates.sort_by_key(|group| (!group.across_classes, !group.across_split));

    let classes: Vec<Class> = dataset
        .classes
        .iter()
        .enumerate()
        .map(|(class, name)| {
            let counts = halves.map(|(_, items)| items.iter().filter(|item| item.class == class).count());
            Class::new(name, counts, items.len())
        })
        .collect();
    let sizes_of_classes = || classes.iter().map(|class| class.photos);
    let imbalance =
        sizes_of_classes().max().unwrap_or(0) as f64 / sizes_of_classes().min().unwrap_or(0).max(1) as f64;

    let hidden_photos = not_photos.iter().filter(|file| file.is_image()).count();
    let empty = classes.iter().filter(|class| class.photos == 0).count();
    Ok(Report {
        root: dataset.root.clone(),
        split,
        photos: items.len(),
        to_mend: damaged.len() + wrong_extension.len() + hidden_photos + duplicates.len() + empty,
        classes,
        imbalance,
        damaged,
        wrong_extension,
        not_photos,
        duplicates,
        sizes,
        turned: photos.iter().filter(|photo| photo.turned).count(),
    })
}

/// The photos of a data set that are there more than once, as they are or nearly so: groups of indices in
/// [`Dataset::items`]. Photos that cannot be decoded are like no other.
pub fn duplicates(dataset: &Dataset, progress: &Progress) -> Vec<Vec<usize>> {
    let photos = inspect_all(&dataset.root, dataset.items(), decode::Options::default(), progress);
    alike::groups(&prints(&photos)).into_iter().map(|group| group.members).collect()
}

fn inspect_all<'a>(
    root: &Path,
    items: impl Iterator<Item = &'a Item>,
    decoding: decode::Options,
    progress: &Progress,
) -> Vec<Photo> {
    let items: Vec<&Item> = items.collect();
    let done = AtomicUsize::new(0);
    items
        .par_iter()
        .map(|item| {
            let photo = inspect(&root.join(&item.path), decoding);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
            photo
        })
        .collect()
}

fn prints(photos: &[Photo]) -> Vec<Option<Fingerprint>> {
    photos.iter().map(|photo| photo.print).collect()
}

fn describe(group: &alike::Group, items: &[(&Item, Half)], dataset: &Dataset) -> Group {
    let photos: Vec<Member> = group
        .members
        .iter()
        .map(|index| {
            let (item, half) = items[*index];
            Member { path: item.path.clone(), class: dataset.classes[item.class].clone(), half }
        })
        .collect();
    Group {
        across_classes: photos.iter().any(|photo| photo.class != photos[0].class),
        across_split: photos.iter().any(|photo| photo.half != photos[0].half),
        photos,
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

fn not_photos(listing: &Listing) -> Vec<NotPhoto> {
    let found = listing.left_out.iter().map(|LeftOut { path, class, why }| {
        // A pipe would be waited for.
        let content = match why {
            Why::Extension | Why::NoClass => photo::format_of_picture(&listing.root.join(path)),
            Why::DanglingLink | Why::Special => None,
        };
        NotPhoto { path: path.clone(), class: class.clone().unwrap_or_default(), content, why: *why }
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::draw::draw_flower;

    /// Copies of a picture in every pair of places; the gravest come first.
    #[test]
    fn groups_tell_conflicts_and_leaks() {
        let root = tempfile::tempdir().unwrap();
        for (picture, paths) in [
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
                draw_flower(picture, 0, 0).save(path).unwrap();
            }
        }
        let options = SplitOptions::default();
        let listing = Listing::read(root.path()).unwrap();
        let report = check(listing, &options, decode::Options::default(), &|_, _| {}).unwrap();
        let groups: Vec<_> = report
            .duplicates
            .iter()
            .map(|group| (group.photos[0].path.as_str(), group.across_classes, group.across_split))
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
        assert_eq!(report.to_mend, 5);
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
