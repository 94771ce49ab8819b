//! The order of sums over the images of a step. It depends on the number of images only, not on how
//! they are divided among ranks and micro-batches, so that neither changes a bit.
//!
//! The images of a step are divided into parts of consecutive images ([`images_per_part`]). The sum
//! over a part is formed in the order of its images. The sums of the parts are added as a balanced
//! binary tree: `((0+1)+(2+3))+((4+5)+(6+7))`. The sum over the second half of the images, or over
//! the third quarter, is then a node of the tree, and can be computed elsewhere. Since the addition
//! of two numbers is commutative, it does not matter which side adds.
//!
//! The engine `cpu` forms the sums over the outputs of a linear layer in the same order, so that
//! these can be divided too.

use std::ops::Range;

/// The minimum number of parts of a step with enough images. They can be computed in parallel.
const MIN_PARTS: usize = 8;

/// The maximum number of parts of a step, which limits the depth of the tree.
const MAX_PARTS: usize = 512;

/// The number of images of a part, if the number of parts is within its limits. With fewer images,
/// the matrix products of large batches take longer; with more, micro-batches have too few parts to
/// use all threads.
const IMAGES_PER_PART: usize = 16;

/// Returns the number of parts of a step with this number of images, a power of two. The last parts
/// may have no image.
fn parts(images: usize) -> usize {
    images.div_ceil(IMAGES_PER_PART).next_power_of_two().clamp(MIN_PARTS, MAX_PARTS)
}

/// Returns the number of consecutive images of a part, for a step with this number of images.
pub fn images_per_part(images: usize) -> usize {
    images.div_ceil(parts(images)).max(1)
}

/// Which images of a step a batch has, if not all of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MicroBatch {
    /// The index of the batch's first image among the images of the step.
    pub first: usize,
    /// The number of images of the step, including those that could not be read.
    pub images_per_step: usize,
    /// The divisor of the sum of the images' losses: the number of images of the step that have a
    /// target, so that the loss is their mean, or the sum of their weights.
    pub divisor: f64,
}

impl MicroBatch {
    /// Divides the images `share` of a step with `images_per_step` images into micro-batches of at
    /// most `batch_size` images, each of which is a node of the tree of sums if `share` is one. A
    /// micro-batch has at least one part.
    pub fn divide(
        images_per_step: usize,
        share: Range<usize>,
        batch_size: usize,
    ) -> impl Iterator<Item = Range<usize>> {
        let part = images_per_part(images_per_step);
        let fitting = (batch_size / part).max(1);
        let len = match share.len() <= batch_size {
            true => share.len().max(1),
            false => part << fitting.ilog2(),
        };
        let end = share.end;
        share.step_by(len).map(move |first| first..(first + len).min(end))
    }
}

/// The share of a rank in the images of each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The number of the rank, from 0.
    pub rank: usize,
    /// The number of ranks.
    pub ranks: usize,
}

impl Share {
    /// The share of a process that trains alone.
    pub const WHOLE: Self = Self { rank: 0, ranks: 1 };

    /// Returns the images of this rank in a step with this number of images: consecutive parts. If
    /// the number of ranks is a power of two, they are a node of the tree of sums. The range is
    /// empty if there are fewer parts than ranks, or fewer images.
    pub fn of(self, images: usize) -> Range<usize> {
        let (parts, part) = (parts(images), images_per_part(images));
        let start = |rank: usize| (rank * parts / self.ranks * part).min(images);
        start(self.rank)..start(self.rank + 1)
    }

    /// Returns where the shares of all ranks start in an array of `items` items of length `len`, and
    /// where the last one ends.
    pub fn starts(self, items: usize, len: usize) -> Vec<usize> {
        let end = |rank| Self { rank, ..self }.of(items).end * len;
        [0].into_iter().chain((0..self.ranks).map(end)).collect()
    }
}

/// A sum of values that are added as a balanced binary tree in the order in which they arrive.
#[derive(Clone, Debug)]
pub struct BalancedSum<T> {
    /// The sum of the last 2ⁱ values at index i, if it still waits for its sibling.
    waiting: Vec<Option<T>>,
}

impl<T> Default for BalancedSum<T> {
    fn default() -> Self {
        Self { waiting: Vec::new() }
    }
}

impl<T> BalancedSum<T> {
    /// Adds the next value. `add` adds its second argument to the first.
    pub fn push(&mut self, value: T, mut add: impl FnMut(&mut T, &T)) {
        let mut sum = value;
        for waiting in &mut self.waiting {
            match waiting.take() {
                Some(mut sibling) => {
                    add(&mut sibling, &sum);
                    sum = sibling;
                }
                None => {
                    *waiting = Some(sum);
                    return;
                }
            }
        }
        self.waiting.push(Some(sum));
    }

    /// Returns the sum of all values. Where the tree is incomplete, a node without a sibling takes
    /// the place of its parent.
    pub fn finish(self, mut add: impl FnMut(&mut T, &T)) -> Option<T> {
        self.waiting.into_iter().flatten().reduce(|later, mut earlier| {
            add(&mut earlier, &later);
            earlier
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the tree over `first..first + n` as text. It splits at the largest power of two.
    fn tree(first: usize, n: usize) -> String {
        if n == 1 {
            return first.to_string();
        }
        let left = n.next_power_of_two() / 2;
        format!("({}+{})", tree(first, left), tree(first + left, n - left))
    }

    fn sum(values: impl Iterator<Item = String>) -> String {
        let add = |a: &mut String, b: &String| *a = format!("({a}+{b})");
        let mut sum = BalancedSum::default();
        values.for_each(|value| sum.push(value, add));
        sum.finish(add).unwrap()
    }

    #[test]
    fn sums_are_balanced_trees() {
        assert_eq!(tree(0, 8), "(((0+1)+(2+3))+((4+5)+(6+7)))");
        for n in 1..40 {
            assert_eq!(sum((0..n).map(|i| i.to_string())), tree(0, n));
        }
    }

    #[test]
    fn micro_batches_are_nodes_of_the_tree_of_the_step() {
        for images in 1..=200 {
            let part = images_per_part(images);
            let whole = tree(0, images.div_ceil(part));
            for batch_size in 1..=200 {
                let batches: Vec<_> = MicroBatch::divide(images, 0..images, batch_size).collect();
                assert_eq!(batches.iter().map(Range::len).sum::<usize>(), images);
                let nodes = batches.iter().map(|batch| {
                    assert!(batch.start.is_multiple_of(part));
                    assert!(batch.len() <= batch_size.max(part));
                    tree(batch.start / part, batch.len().div_ceil(part))
                });
                assert_eq!(sum(nodes), whole, "{images} images, at most {batch_size} at once");
            }
        }
    }

    #[test]
    fn micro_batches_are_as_large_as_possible() {
        let lens = |images, batch_size| -> Vec<usize> {
            MicroBatch::divide(images, 0..images, batch_size).map(|batch| batch.len()).collect()
        };
        assert_eq!(lens(32, 32), [32]);
        assert_eq!(lens(32, 16), [16, 16]);
        assert_eq!(lens(96, 32), [24, 24, 24, 24]);
        assert_eq!(lens(20, 16), [12, 8]);
        assert_eq!(lens(130, 65), [36, 36, 36, 22]);
        assert_eq!(lens(6, 1), [1; 6]);
        assert_eq!(lens(48, 1), [6; 8]);
    }

    /// Adds values, of which some are missing, as [`BalancedSum`] adds them with -0 for those.
    fn tree_of_ranks(nodes: &[Option<String>]) -> Option<String> {
        match nodes {
            [node] => node.clone(),
            _ => {
                let (left, right) = nodes.split_at(nodes.len() / 2);
                match (tree_of_ranks(left), tree_of_ranks(right)) {
                    (Some(left), Some(right)) => Some(format!("({left}+{right})")),
                    (left, right) => left.or(right),
                }
            }
        }
    }

    #[test]
    fn the_shares_of_ranks_are_nodes_of_the_tree_of_the_step() {
        for images in 1..=200 {
            let part = images_per_part(images);
            let whole = tree(0, images.div_ceil(part));
            for (ranks, batch_size) in
                [(1, 200), (2, 200), (2, 7), (4, 9), (8, 200), (16, 1), (64, 3)]
            {
                let shares = (0..ranks).map(|rank| Share { rank, ranks }.of(images));
                let nodes: Vec<Option<String>> = shares
                    .map(|share| {
                        let batches = MicroBatch::divide(images, share, batch_size);
                        let nodes: Vec<_> = batches
                            .map(|batch| tree(batch.start / part, batch.len().div_ceil(part)))
                            .collect();
                        (!nodes.is_empty()).then(|| sum(nodes.into_iter()))
                    })
                    .collect();
                assert_eq!(tree_of_ranks(&nodes), Some(whole.clone()), "{images} on {ranks}");
            }
        }
    }

    #[test]
    fn every_image_belongs_to_one_rank() {
        for ranks in 1..20 {
            for images in 0..100 {
                let mut next = 0;
                for rank in 0..ranks {
                    let share = Share { rank, ranks }.of(images);
                    assert_eq!(share.start, next);
                    next = share.end;
                }
                assert_eq!(next, images);
            }
        }
    }

    #[test]
    fn the_number_of_parts_is_limited() {
        for images in (1..10_000_usize).chain([1 << 20]) {
            let parts = images.div_ceil(images_per_part(images));
            assert!(parts <= MAX_PARTS && parts >= images.min(MIN_PARTS / 2), "{images}: {parts}");
        }
    }
}
