//! Random numbers as a pure function of (seed, purpose, position). There is no generator state to
//! carry along.
//!
//! ChaCha with 8 rounds is a counter-based generator: a 256-bit key selects a sequence, and any
//! element of it can be computed independently. The key consists of the seed, the [`Purpose`] and
//! two positions (epoch or step, and item). The numbers therefore do not depend on the number of
//! threads, the prefetching or the step at which a run is resumed.

use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// The purpose of random numbers. Different purposes get independent numbers. The values must not
/// change, since seeds in existing files would then give other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Purpose {
    /// Initial weights; position (0, index of the parameter).
    Init = 1,
    /// Dropout masks; position (step, node and item: see [`dropout_scale`]).
    Dropout = 2,
    /// The choice of the validation images; position (0, index of the class).
    Split = 3,
    /// The order of the training images; position (epoch, 0). For an order of blocks: (epoch, 1) for
    /// the blocks, (epoch, 2 + index) for the images of a group of blocks.
    Shuffle = 4,
    /// Augmentation; position (epoch, index of the item in the training list).
    Augment = 5,
    /// Synthetic images of flowers; position (class, index of the image).
    Draw = 6,
    /// Random pixels and labels for benchmarks and tests; the caller chooses the positions.
    Synthetic = 7,
    /// Mixing the images of a batch; position (epoch, index of the batch).
    Mix = 8,
    /// The order of images in shards; position (subset, 0).
    Pack = 9,
    /// Corruptions of images in evaluation; position (kind and severity, index of the image in the
    /// data set).
    Corruption = 16,
}

/// Returns the generator of one position. Use a new generator for each position.
pub fn generator(seed: u64, purpose: Purpose, outer: u64, inner: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (word, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, outer, inner]) {
        word.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Returns a permutation of `0..n`, such as the order of the training images in one epoch.
pub fn permutation(seed: u64, purpose: Purpose, outer: u64, inner: u64, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut generator(seed, purpose, outer, inner));
    order
}

/// Fills `scale` with the factors of inverted dropout for one image: `0` with probability `p`, else
/// `1/(1-p)` (`torch.nn.Dropout` in training mode).
///
/// `node` is the index of the dropout in [`crate::Topology::nodes`], `step` counts from 1, `item`
/// is the index of the image in the step. All engines multiply by these factors, so they drop the
/// same units.
pub fn dropout_scale(seed: u64, step: u64, node: usize, item: usize, p: f32, scale: &mut [f32]) {
    let position = ((node as u64) << 32) | item as u64;
    let mut bits = generator(seed, Purpose::Dropout, step, position);
    let threshold = (f64::from(p) * 4_294_967_296.0) as u64;
    let keep = if p < 1.0 { 1.0 / (1.0 - p) } else { 0.0 };
    for value in scale {
        *value = if u64::from(bits.next_u32()) < threshold { 0.0 } else { keep };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_independent_and_repeatable() {
        let draw = |seed, purpose, outer, inner| generator(seed, purpose, outer, inner).next_u64();
        let base = draw(0, Purpose::Init, 0, 0);
        assert_eq!(base, draw(0, Purpose::Init, 0, 0));
        for other in [
            draw(1, Purpose::Init, 0, 0),
            draw(0, Purpose::Augment, 0, 0),
            draw(0, Purpose::Init, 1, 0),
            draw(0, Purpose::Init, 0, 1),
        ] {
            assert_ne!(base, other);
        }
    }

    /// A seed must give the same images and weights in all versions.
    #[test]
    fn a_seed_gives_the_recorded_permutation() {
        assert_eq!(permutation(0, Purpose::Shuffle, 0, 0, 8), [7, 3, 6, 5, 2, 4, 0, 1]);
    }

    #[test]
    fn dropout_drops_the_expected_share_and_scales_the_rest() {
        let mut scale = vec![0.0; 100_000];
        dropout_scale(0, 1, 3, 0, 0.25, &mut scale);
        let dropped = scale.iter().filter(|s| **s == 0.0).count() as f64 / 1e5;
        assert!((dropped - 0.25).abs() < 0.005, "{dropped}");
        assert!(scale.iter().all(|s| *s == 0.0 || *s == 1.0 / 0.75));
        dropout_scale(0, 1, 3, 0, 0.0, &mut scale);
        assert!(scale.iter().all(|s| *s == 1.0));
    }
}
