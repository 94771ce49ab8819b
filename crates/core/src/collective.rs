//! The interface of a group of processes that train one network together, and the sums over them.
//!
//! The processes of a group are called ranks, as in MPI. All ranks call the same functions in the
//! same order. A sum over the ranks is a balanced tree in the order of the ranks
//! ([`crate::sum_order`]): if each rank has a node of the tree of a step, the sum has the same bits
//! as the sum of one process.

mod messages;
mod numbers;
mod sent;
pub mod threads;

use std::fmt;

use crate::{Error, Result};

pub use self::{
    messages::{agree, barrier, broadcast, broadcast_state, gather},
    numbers::{balanced_sum, gather_values, gather_values_on_first, sum_of_part},
    sent::{Sent, sent_by_balanced_sum, sent_by_gather_values, sent_by_sum_of_part},
};

/// A group of ranks.
pub trait Collective: Send + Sync {
    /// Returns the number of this rank, from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn size(&self) -> usize;

    /// Returns the name of this rank in messages, such as `rank 1 on node7`.
    fn name(&self) -> String;

    /// Sends numbers to rank `with` and receives numbers from it. Either slice may be empty.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    fn exchange(&self, with: usize, send: &[f32], receive: &mut [f32]) -> Result<()>;

    /// Returns the messages of all ranks, in their order.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    fn gather_bytes(&self, message: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// Replaces `values` by their sum over all ranks. All ranks get the same bits.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    fn sum(&self, values: &mut [f32]) -> Result<()> {
        balanced_sum(self, values)
    }
}

impl fmt::Debug for dyn Collective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// A process that trains alone.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn name(&self) -> String {
        "the only process".into()
    }

    fn exchange(&self, with: usize, _: &[f32], _: &mut [f32]) -> Result<()> {
        Err(Error::Ranks(format!("there is no rank {with}")))
    }

    fn gather_bytes(&self, message: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(vec![message.to_vec()])
    }
}

#[cfg(test)]
mod tests {
    use super::{threads::run, *};
    use crate::{Array, State, sum_order::BalancedSum};

    fn value(rank: usize, at: usize) -> f32 {
        1.0 / (1 + (rank * 7919 + at * 104_729) % 1009) as f32
    }

    fn expected(size: usize, at: usize) -> f32 {
        let mut expected = BalancedSum::default();
        let add = |a: &mut f32, b: &f32| *a += b;
        (0..size).for_each(|rank| expected.push(value(rank, at), add));
        expected.finish(add).unwrap()
    }

    #[test]
    fn sums_over_powers_of_two_are_balanced_trees() {
        for size in 1..=9 {
            for len in [0, 1, 5, 1000] {
                let sums = run(size, |ranks| {
                    let mut values: Vec<f32> = (0..len).map(|at| value(ranks.rank(), at)).collect();
                    ranks.sum(&mut values).unwrap();
                    values
                });
                assert!(sums.iter().all(|other| *other == sums[0]), "all ranks have equal sums");
                for (at, sum) in sums[0].iter().enumerate() {
                    let expected = expected(size, at);
                    if size.is_power_of_two() {
                        assert_eq!(*sum, expected, "{size} ranks, {at} of {len}");
                    } else {
                        assert!((sum - expected).abs() <= 1e-6 * expected.abs());
                    }
                }
            }
        }
    }

    #[test]
    fn values_and_states_reach_all_ranks() {
        let mut state = State::default();
        let array = Array { shape: vec![2, 3], values: (0..6).map(|i| i as f32 / 7.0).collect() };
        state.parameters.insert("a".into(), array.clone());
        state.average.insert("a".into(), array);
        for size in 1..=6 {
            let found = run(size, |ranks| {
                let is_first = ranks.rank() == 0;
                barrier(&*ranks).unwrap();
                assert_eq!(gather(&*ranks, &ranks.rank()).unwrap(), (0..size).collect::<Vec<_>>());
                assert_eq!(broadcast(&*ranks, is_first.then_some("x".to_owned())).unwrap(), "x");
                broadcast_state(&*ranks, is_first.then(|| state.clone())).unwrap()
            });
            assert!(found.iter().all(|found| *found == state));
        }
    }

    /// Returns where the parts of the ranks of `len` numbers start. Some parts are empty.
    fn starts(size: usize, len: usize) -> Vec<usize> {
        (0..=size).map(|rank| rank * rank * len / (size * size)).collect()
    }

    #[test]
    fn the_parts_of_all_ranks_are_gathered() {
        for size in 1..=9 {
            for len in [0, 3, 100] {
                let starts = starts(size, len);
                let expected: Vec<f32> = (0..len).map(|at| at as f32).collect();
                let part = |rank: usize| &expected[starts[rank]..starts[rank + 1]];
                let gathered = run(size, |ranks| {
                    let rank = ranks.rank();
                    let mut values = vec![f32::NAN; len];
                    values[starts[rank]..starts[rank + 1]].copy_from_slice(part(rank));
                    gather_values(&*ranks, &mut values, &starts).unwrap();
                    let own = part(rank).to_vec();
                    (values, gather_values_on_first(&*ranks, own, &starts).unwrap())
                });
                for (rank, (everywhere, on_first)) in gathered.iter().enumerate() {
                    assert_eq!(*everywhere, expected, "rank {rank} of {size}, {len}");
                    let known = if rank == 0 { &expected } else { part(rank) };
                    assert_eq!(on_first, known, "rank {rank} of {size}, {len}");
                }
            }
        }
    }

    #[test]
    fn each_rank_has_the_sums_of_its_part() {
        for size in 1..=9 {
            for len in [0, 3, 100] {
                let starts = starts(size, len);
                let sums = run(size, |ranks| {
                    let values: Vec<f32> = (0..len).map(|at| value(ranks.rank(), at)).collect();
                    sum_of_part(&*ranks, &values, &starts).unwrap()
                });
                let expected: Vec<f32> = (0..len).map(|at| expected(size, at)).collect();
                assert_eq!(sums.concat(), expected, "{size} ranks, {len}");
            }
        }
    }

    #[test]
    fn an_error_of_one_rank_is_an_error_of_all() {
        let found = run(4, |ranks| {
            let own = match ranks.rank() {
                2 => Err(Error::Image("rose.jpg is damaged".into())),
                rank => Ok(rank),
            };
            agree(&*ranks, own).unwrap_err()
        });
        for (rank, error) in found.iter().enumerate() {
            match (rank, error) {
                (2, Error::Image(_)) => {}
                (_, Error::OtherRank(text)) => {
                    assert_eq!(text, "rank 2 of 4: rose.jpg is damaged");
                }
                _ => panic!("rank {rank}: {error}"),
            }
        }
    }
}
