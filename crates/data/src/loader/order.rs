//! The order of the training images in an epoch: a pure function of the seed and the epoch.

use alexnet_core::rng::{Purpose, generator, permutation};
use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;

/// Which training images are used in each epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Each image once.
    #[default]
    Uniform,
    /// As many images as there are, drawn with replacement, so that each class has the same
    /// probability (`WeightedRandomSampler` with the weight 1/n for the images of a class with n).
    Balanced,
}

/// Draws the training images of an epoch for [`Sampler::Balanced`]: for each, a class and then one of
/// its images.
pub(super) fn balanced(dataset: &Dataset, seed: u64, epoch: u64) -> Vec<usize> {
    let mut classes = vec![Vec::new(); dataset.classes.len()];
    for (index, item) in (0_u32..).zip(&dataset.train) {
        classes[dataset.images.class(*item)].push(index);
    }
    classes.retain(|images| !images.is_empty());
    let mut rng = generator(seed, Purpose::Shuffle, epoch, 0);
    let mut draw = || {
        let images = &classes[rng.random_range(0..classes.len())];
        images[rng.random_range(0..images.len())] as usize
    };
    dataset.train.iter().map(|_| draw()).collect()
}

/// Images of a block: they are next to each other in the shards.
const BLOCK: usize = 128;

/// Blocks whose images are mixed.
const MIXED: usize = 16;

/// Images that are read ahead: as many as are mixed.
pub(super) const AHEAD: usize = MIXED * BLOCK;

/// How the training images are shuffled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shuffle {
    /// All images. Each order has the same probability.
    #[default]
    Full,
    /// Blocks of 128 images that are next to each other in the shards. The blocks are shuffled, and
    /// then the images of each 16 blocks that follow each other. So the images of a block are always
    /// among 2,048 images that follow each other in the epoch. Disks read such blocks faster than
    /// single images.
    Blocks,
}

/// The training images for [`Shuffle::Blocks`]: their indices, in the order of their positions in
/// the shards.
pub(super) struct Blocks(Vec<u32>);

impl Blocks {
    /// Returns the blocks of the training images; `None` if they are not in shards.
    pub fn of(dataset: &Dataset) -> Option<Self> {
        let shards = dataset.images.shards()?;
        let mut indices: Vec<u32> = (0..dataset.train.len() as u32).collect();
        let item = |index: u32| dataset.train[index as usize];
        indices.sort_unstable_by_key(|index| shards.position(item(*index).index()));
        Some(Self(indices))
    }

    /// Returns the CRC-32 of the order in the shards.
    pub fn checksum(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        self.0.iter().for_each(|index| hasher.update(&index.to_le_bytes()));
        hasher.finalize()
    }

    /// Returns the order of the training images in an epoch.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let blocks: Vec<&[u32]> = self.0.chunks(BLOCK).collect();
        let shuffled = permutation(seed, Purpose::Shuffle, epoch, 1, blocks.len());
        let mut order = Vec::with_capacity(self.0.len());
        for (group, first) in shuffled.chunks(MIXED).zip(2..) {
            let images: Vec<u32> = group.iter().flat_map(|block| blocks[*block]).copied().collect();
            let mixed = permutation(seed, Purpose::Shuffle, epoch, first, images.len());
            order.extend(mixed.into_iter().map(|index| images[index] as usize));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::{images, tree},
        split::SplitOptions,
    };

    #[test]
    fn each_class_is_drawn_with_the_same_probability() {
        let root = tree(images("a", 2).chain(images("b", 90)).chain(images("c", 10)));
        let options = SplitOptions { val_fraction: 0.0, ..SplitOptions::default() };
        let mut dataset = Dataset::open(root.path(), &options).unwrap();
        let (mut of_class, mut of_image) = ([0; 3], [0; 102]);
        for epoch in 0..100 {
            let order = balanced(&dataset, 3, epoch);
            assert_eq!(order.len(), 102);
            assert_eq!(order, balanced(&dataset, 3, epoch));
            for index in order {
                of_class[dataset.images.class(dataset.train[index])] += 1;
                of_image[index] += 1;
            }
        }
        assert_ne!(balanced(&dataset, 3, 0), balanced(&dataset, 3, 1));
        assert_ne!(balanced(&dataset, 3, 0), balanced(&dataset, 4, 0));
        // Binomial with 10,200 draws: five standard deviations are 238 for a class, 90 and 165 for
        // an image of the classes a and c.
        assert!(of_class.iter().all(|n| (3162..=3638).contains(n)), "{of_class:?}");
        assert!(of_image[..2].iter().all(|n| (1500..=1900).contains(n)), "{:?}", &of_image[..2]);
        assert!(of_image[92..].iter().all(|n| (250..=430).contains(n)), "{:?}", &of_image[92..]);
        assert!(of_image[2..92].iter().all(|n| (7..=70).contains(n)), "{:?}", &of_image[2..92]);
        // A class without training images is never drawn.
        dataset.val = dataset.train.split_off(92);
        assert!(balanced(&dataset, 3, 0).iter().all(|index| *index < 92));
    }

    /// Each image is in an epoch once, the images of a block stay close, and epochs differ.
    #[test]
    fn an_order_of_blocks_is_a_permutation_in_runs() {
        for n in [0, 1, 127, 128, 129, 2048, 2049, 10_000] {
            let blocks = Blocks((0..n).rev().collect());
            let order = blocks.order(3, 1);
            assert_eq!(order, blocks.order(3, 1));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..n as usize).collect::<Vec<_>>());
            if n > 2 {
                assert_ne!(order, blocks.order(3, 2), "{n}");
                assert_ne!(order, blocks.order(4, 1), "{n}");
            }
            let mut places = vec![0; n as usize];
            order.iter().enumerate().for_each(|(place, index)| places[*index] = place);
            places.reverse();
            for block in places.chunks(BLOCK) {
                let (first, last) = (block.iter().min().unwrap(), block.iter().max().unwrap());
                assert!(last - first < AHEAD, "{n}");
            }
            if n == 10_000 {
                // The blocks of the first images of the epoch.
                let blocks: std::collections::BTreeSet<usize> =
                    order[..AHEAD].iter().map(|index| (n as usize - 1 - index) / BLOCK).collect();
                assert!((MIXED..=MIXED + 1).contains(&blocks.len()), "{}", blocks.len());
                assert!(!blocks.iter().copied().eq(0..MIXED));
            }
        }
    }
}
