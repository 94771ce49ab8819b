//! How sums over a batch are divided. That depends on sizes alone, never on the number of threads, so that sums are formed in the
//! same order everywhere and results have the same bits.

use rayon::prelude::*;

/// Sums over a batch are formed in this many partial sums, each over consecutive images, then added in order.
const PARTIAL_SUMS: usize = 8;

/// Elements that one task of an element-wise loop handles: its streams fit in the second-level cache.
pub const ELEMENTS: usize = 16 * 1024;

/// Consecutive images that share a partial sum, for a batch of `n`.
pub fn images_per_sum(n: usize) -> usize {
    n.div_ceil(PARTIAL_SUMS).max(1)
}

/// Adds the partial sums, `[G, len]`, in order: `total [len]`.
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
    fn a_batch_of_any_size_has_at_most_eight_sums() {
        for n in 1..300_usize {
            assert!(n.div_ceil(images_per_sum(n)) <= PARTIAL_SUMS);
        }
    }

    #[test]
    fn sums_are_added() {
        let partial: Vec<f32> = (0..3 * 40_000).map(|i| (i / 40_000 + i % 40_000 % 7) as f32).collect();
        let mut total = vec![f32::NAN; 40_000];
        add_in_order(&partial, &mut total);
        assert!(total.iter().enumerate().all(|(i, t)| *t == (3 + 3 * (i % 7)) as f32));
    }
}
