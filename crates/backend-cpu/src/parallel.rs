//! The division of sums over a batch into partial sums. It depends only on sizes, not on the number
//! of threads. Sums are therefore always formed in the same order, and results are bitwise equal.

use rayon::prelude::*;

/// The maximum number of partial sums of a sum over a batch. Each partial sum is over consecutive
/// images; they are added in order.
const PARTIAL_SUMS: usize = 8;

/// The number of elements of one task of an element-wise loop. Its arrays fit in the second-level
/// cache.
pub const ELEMENTS: usize = 16 * 1024;

/// Returns the number of consecutive images of one partial sum, for a batch of `n` images.
pub fn images_per_sum(n: usize) -> usize {
    n.div_ceil(PARTIAL_SUMS).max(1)
}

/// Adds the partial sums `[G, len]` in order to get `total [len]`.
pub fn add_in_order(partial: &[f32], total: &mut [f32]) {
    let len = total.len();
    total.par_chunks_mut(ELEMENTS).enumerate().for_each(|(i, total)| {
        for (g, sum) in partial.chunks_exact(len).enumerate() {
            let sum = &sum[i * ELEMENTS..][..total.len()];
            if g == 0 {
                total.copy_from_slice(sum);
            } else {
                total.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_any_size_have_at_most_eight_partial_sums() {
        for n in 1..300_usize {
            assert!(n.div_ceil(images_per_sum(n)) <= PARTIAL_SUMS);
        }
    }

    #[test]
    fn partial_sums_are_added() {
        let partial: Vec<f32> =
            (0..3 * 40_000).map(|i| (i / 40_000 + i % 40_000 % 7) as f32).collect();
        let mut total = vec![f32::NAN; 40_000];
        add_in_order(&partial, &mut total);
        assert!(total.iter().enumerate().all(|(i, t)| *t == (3 + 3 * (i % 7)) as f32));
    }
}
