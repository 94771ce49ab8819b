//! Sums of partial sums, in an order that does not depend on the number of threads
//! ([`alexnet_core::sum_order`]). Results are therefore bitwise equal for any number of threads.

use rayon::prelude::*;

/// The number of elements of one task of an element-wise loop. Its arrays fit in the second-level
/// cache.
pub const ELEMENTS: usize = 16 * 1024;

/// The number of elements that are added at a time, which fit in the first-level cache.
const BLOCK: usize = 1024;

/// Adds the partial sums `[G, len]` as a balanced tree to get `total [len]`.
pub fn add_partial_sums(partial: &[f32], total: &mut [f32]) {
    let len = total.len();
    assert!(partial.len() >= len, "a batch has at least one part");
    total.par_chunks_mut(ELEMENTS).enumerate().for_each(|(i, total)| {
        for (j, total) in total.chunks_mut(BLOCK).enumerate() {
            add_tree(partial, len, i * ELEMENTS + j * BLOCK, partial.len() / len, total);
        }
    });
}

/// Adds a block, from index `at`, of the first `count` arrays of length `len` in `partial`.
fn add_tree(partial: &[f32], len: usize, at: usize, count: usize, total: &mut [f32]) {
    if count == 1 {
        return total.copy_from_slice(&partial[at..][..total.len()]);
    }
    let left = count.next_power_of_two() / 2;
    add_tree(partial, len, at, left, total);
    let mut right = [0.0; BLOCK];
    let right = &mut right[..total.len()];
    add_tree(&partial[left * len..], len, at, count - left, right);
    total.iter_mut().zip(right).for_each(|(total, right)| *total += *right);
}

#[cfg(test)]
mod tests {
    use alexnet_core::sum_order::BalancedSum;

    use super::*;

    #[test]
    fn partial_sums_are_added_as_a_balanced_tree() {
        const LEN: usize = 3 * BLOCK + 7;
        for count in 1..=20 {
            let partial: Vec<f32> =
                (0..count * LEN).map(|i| 1.0 / (1 + i * 7919 % 1009) as f32).collect();
            let mut total = vec![f32::NAN; LEN];
            add_partial_sums(&partial, &mut total);
            for (at, total) in total.iter().enumerate() {
                let mut sum = BalancedSum::default();
                let add = |a: &mut f32, b: &f32| *a += b;
                partial[at..].iter().step_by(LEN).for_each(|value| sum.push(*value, add));
                assert_eq!(sum.finish(add), Some(*total));
            }
        }
    }
}
