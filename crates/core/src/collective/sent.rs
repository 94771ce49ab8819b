//! How much a rank sends when the numbers of ranks are added or gathered by the functions of this
//! module's parent.

use std::ops::{Add, AddAssign};

use crate::sum_order::Share;

/// What a rank sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The count of the numbers that are sent, each of 4 bytes.
    pub numbers: usize,
    /// How often the rank exchanges numbers with another one, one after the other.
    pub exchanges: usize,
}

impl Sent {
    /// Returns what is sent in one exchange with this count of numbers.
    pub fn once(numbers: usize) -> Self {
        Self { numbers, exchanges: 1 }
    }

    /// Returns the number of bytes.
    pub fn bytes(self) -> u64 {
        4 * self.numbers as u64
    }
}

impl Add for Sent {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self { numbers: self.numbers + more.numbers, exchanges: self.exchanges + more.exchanges }
    }
}

impl AddAssign for Sent {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}

/// Returns what a rank sends in [`super::balanced_sum`] of `len` numbers.
pub fn sent_by_balanced_sum(rank: Share, len: usize) -> Sent {
    let Share { rank, ranks } = rank;
    let levels = ranks.ilog2() as usize;
    let paired = 1 << levels;
    if rank >= paired {
        return Sent { numbers: len, exchanges: 2 };
    }
    let mut sent = Sent { numbers: 0, exchanges: 2 * levels };
    let mut range = len;
    for level in 0..levels {
        // One half before the addition, the other half after it.
        sent.numbers += range;
        range = if rank >> level & 1 == 0 { range / 2 } else { range.div_ceil(2) };
    }
    if rank + paired < ranks {
        sent += Sent { numbers: len, exchanges: 2 };
    }
    sent
}

/// Returns what `rank` sends in [`super::gather_values`].
pub fn sent_by_gather_values(rank: usize, starts: &[usize]) -> Sent {
    let size = starts.len() - 1;
    let leaders = 1 << size.ilog2();
    let extra = size - leaders;
    let rank_of = |leader: usize| leader + leader.min(extra);
    if rank < 2 * extra && rank % 2 == 1 {
        return Sent { numbers: starts[rank + 1] - starts[rank], exchanges: 2 };
    }
    let has_extra = rank < 2 * extra;
    let leader = if has_extra { rank / 2 } else { rank - extra };
    let mut sent = Sent::default();
    for distance in (0..leaders.ilog2()).map(|level| 1 << level) {
        let first = leader / distance * distance;
        sent += Sent::once(starts[rank_of(first + distance)] - starts[rank_of(first)]);
    }
    if has_extra {
        sent += Sent { numbers: starts[size], exchanges: 2 };
    }
    sent
}

/// Returns what `rank` sends in [`super::sum_of_part`].
pub fn sent_by_sum_of_part(rank: usize, starts: &[usize]) -> Sent {
    let ranks = starts.len() - 1;
    Sent { numbers: starts[ranks] - (starts[rank + 1] - starts[rank]), exchanges: ranks - 1 }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{
        Collective, Result,
        collective::{
            balanced_sum, gather_values, sum_of_part,
            threads::{ThreadRank, run},
        },
    };

    /// A rank that counts what it sends.
    struct Counting(Arc<ThreadRank>, Mutex<Sent>);

    impl Collective for Counting {
        fn rank(&self) -> usize {
            self.0.rank()
        }

        fn size(&self) -> usize {
            self.0.size()
        }

        fn name(&self) -> String {
            self.0.name()
        }

        fn exchange(&self, with: usize, send: &[f32], receive: &mut [f32]) -> Result<()> {
            *self.1.lock().unwrap() += Sent::once(send.len());
            self.0.exchange(with, send, receive)
        }

        fn gather_bytes(&self, message: &[u8]) -> Result<Vec<Vec<u8>>> {
            self.0.gather_bytes(message)
        }
    }

    /// Returns what each of `size` ranks sends in `work`.
    fn count(size: usize, work: impl Fn(&Counting) + Sync) -> Vec<Sent> {
        run(size, |rank| {
            let rank = Counting(rank, Mutex::default());
            work(&rank);
            rank.1.into_inner().unwrap()
        })
    }

    #[test]
    fn what_is_sent_is_as_calculated() {
        for size in 1..=9 {
            for len in [0, 3, 1001] {
                let starts: Vec<usize> =
                    (0..=size).map(|rank| rank * rank * len / (size * size)).collect();
                let found = count(size, |ranks| balanced_sum(ranks, &mut vec![0.0; len]).unwrap());
                for (rank, found) in found.into_iter().enumerate() {
                    let share = Share { rank, ranks: size };
                    assert_eq!(sent_by_balanced_sum(share, len), found, "{share:?}, {len}");
                }
                let found = count(size, |ranks| {
                    gather_values(ranks, &mut vec![0.0; len], &starts).unwrap();
                });
                for (rank, found) in found.into_iter().enumerate() {
                    let what = format!("gather {len}, rank {rank} of {size}");
                    assert_eq!(sent_by_gather_values(rank, &starts), found, "{what}");
                }
                let found = count(size, |ranks| drop(sum_of_part(ranks, &vec![0.0; len], &starts)));
                for (rank, found) in found.into_iter().enumerate() {
                    let what = format!("part of {len}, rank {rank} of {size}");
                    assert_eq!(sent_by_sum_of_part(rank, &starts), found, "{what}");
                }
            }
        }
    }
}
