//! Sums of numbers over ranks, and numbers that ranks send each other, by pairwise exchange.

use std::ops::Range;

use super::Collective;
use crate::{Result, sum_order::BalancedSum};

/// Replaces `values` by those of rank 0. In each round, every rank that has them sends them to one
/// that has not.
pub(super) fn broadcast_values(ranks: &dyn Collective, values: &mut [f32]) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    for distance in (0..).map(|round| 1 << round).take_while(|distance| *distance < size) {
        if rank < distance && rank + distance < size {
            ranks.exchange(rank + distance, values, &mut [])?;
        } else if (distance..2 * distance).contains(&rank) {
            ranks.exchange(rank - distance, &[], values)?;
        }
    }
    Ok(())
}

/// Replaces `values` with their sum over all ranks, on every rank.
///
/// A rank adds half of the numbers with its neighbor, then a quarter with the next but one, and so
/// on, then the sums are returned the same way (recursive halving and doubling; Thakur, Rabenseifner
/// and Gropp 2005, section 4.5). A rank sends `2·(R-1)/R` times the size of `values`. If the number
/// of ranks is not a power of two, the last ranks first add their numbers to those of the first
/// ranks.
///
/// # Errors
/// Those of [`Collective::exchange`].
pub fn balanced_sum<C: Collective + ?Sized>(ranks: &C, values: &mut [f32]) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    if size == 1 {
        return Ok(());
    }
    // The largest power of two.
    let paired = 1 << size.ilog2();
    if rank >= paired {
        ranks.exchange(rank - paired, values, &mut [])?;
        return ranks.exchange(rank - paired, &[], values);
    }
    let mut received = vec![0.0; values.len()];
    let extra = (rank + paired < size).then_some(rank + paired);
    if let Some(extra) = extra {
        ranks.exchange(extra, &[], &mut received)?;
        add(values, &received);
    }
    let distances = || (0..size.ilog2()).map(|level| 1 << level);
    let mut range = 0..values.len();
    let mut ranges = Vec::new();
    for distance in distances() {
        let (own, other) = halves(&range, rank & distance == 0);
        let received = &mut received[..own.len()];
        ranks.exchange(rank ^ distance, &values[other], received)?;
        add(&mut values[own.clone()], received);
        ranges.push(std::mem::replace(&mut range, own));
    }
    for (distance, range) in distances().zip(ranges).collect::<Vec<_>>().into_iter().rev() {
        let (own, other) = halves(&range, rank & distance == 0);
        let received = &mut received[..other.len()];
        ranks.exchange(rank ^ distance, &values[own], received)?;
        values[other].copy_from_slice(received);
    }
    match extra {
        Some(extra) => ranks.exchange(extra, values, &mut []),
        None => Ok(()),
    }
}

/// Fills `values` on all ranks: rank `r` has its part `starts[r]..starts[r + 1]`, and receives those of
/// the others. `starts` begins with 0 and ends with the length of `values`.
///
/// A rank exchanges its part with its neighbor, then both parts with the next but one, and so on
/// (recursive doubling; Thakur, Rabenseifner and Gropp 2005, section 4.1). If the number of ranks is
/// not a power of two, some ranks first send their part to their neighbor, and receive the others'
/// from it at the end.
///
/// # Errors
/// Those of [`Collective::exchange`].
///
/// # Panics
/// When `starts` does not have one number more than there are ranks.
pub fn gather_values(ranks: &dyn Collective, values: &mut [f32], starts: &[usize]) -> Result<()> {
    let (rank, size) = (ranks.rank(), ranks.size());
    assert_eq!(starts.len(), size + 1, "a part for each rank");
    // The largest power of two. Of the first 2 · `extra` ranks, each second one depends on the rank
    // before it. The others, which are the leaders, have consecutive numbers among themselves.
    let leaders = 1 << size.ilog2();
    let extra = size - leaders;
    let rank_of = |leader: usize| leader + leader.min(extra);
    if rank < 2 * extra && rank % 2 == 1 {
        ranks.exchange(rank - 1, &values[starts[rank]..starts[rank + 1]], &mut [])?;
        return ranks.exchange(rank - 1, &[], values);
    }
    let has_extra = rank < 2 * extra;
    if has_extra {
        ranks.exchange(rank + 1, &[], &mut values[starts[rank + 1]..starts[rank + 2]])?;
    }
    let leader = if has_extra { rank / 2 } else { rank - extra };
    let mut received = Vec::new();
    for distance in (0..leaders.ilog2()).map(|level| 1 << level) {
        let part = |leader: usize| {
            let first = leader / distance * distance;
            starts[rank_of(first)]..starts[rank_of(first + distance)]
        };
        let other = part(leader ^ distance);
        received.resize(other.len(), 0.0);
        ranks.exchange(rank_of(leader ^ distance), &values[part(leader)], &mut received)?;
        values[other].copy_from_slice(&received);
    }
    match has_extra {
        true => ranks.exchange(rank + 1, values, &mut []),
        false => Ok(()),
    }
}

/// Returns the numbers of all ranks on rank 0, and `own` on the others. Rank `r` has the part
/// `starts[r]..starts[r + 1]`.
///
/// The ranks send their parts one after the other, since rank 0 receives all of them.
///
/// # Errors
/// Those of [`Collective::exchange`].
///
/// # Panics
/// When `starts` does not have one number more than there are ranks.
pub fn gather_values_on_first(
    ranks: &dyn Collective,
    own: Vec<f32>,
    starts: &[usize],
) -> Result<Vec<f32>> {
    let size = ranks.size();
    assert_eq!(starts.len(), size + 1, "a part for each rank");
    if ranks.rank() > 0 {
        ranks.exchange(0, &own, &mut [])?;
        return Ok(own);
    }
    let mut all = own;
    all.resize(starts[size], 0.0);
    for rank in 1..size {
        ranks.exchange(rank, &[], &mut all[starts[rank]..starts[rank + 1]])?;
    }
    Ok(all)
}

/// Returns the sums over all ranks of the part `starts[rank]..starts[rank + 1]` of `values`. They have
/// the same bits as those of [`balanced_sum`] if the number of ranks is a power of two.
///
/// Each rank sends every other rank the part of that rank, so it sends `(R-1)/R` times the size of
/// `values`.
///
/// # Errors
/// Those of [`Collective::exchange`].
///
/// # Panics
/// When `starts` does not have one number more than there are ranks.
pub fn sum_of_part(ranks: &dyn Collective, values: &[f32], starts: &[usize]) -> Result<Vec<f32>> {
    let (rank, size) = (ranks.rank(), ranks.size());
    assert_eq!(starts.len(), size + 1, "a part for each rank");
    let part = |rank: usize| &values[starts[rank]..starts[rank + 1]];
    let mut parts = vec![Vec::new(); size];
    parts[rank] = part(rank).to_vec();
    // In each round, the ranks are divided into pairs.
    for round in 0..size {
        let other = (round + size - rank) % size;
        if other != rank {
            parts[other].resize(part(rank).len(), 0.0);
            ranks.exchange(other, part(other), &mut parts[other])?;
        }
    }
    let mut sum = BalancedSum::default();
    let add = |sum: &mut Vec<f32>, more: &Vec<f32>| add(sum, more);
    parts.into_iter().for_each(|part| sum.push(part, add));
    Ok(sum.finish(add).unwrap_or_default())
}

fn add(sums: &mut [f32], more: &[f32]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Returns the half of this rank and the other half.
fn halves(range: &Range<usize>, is_first: bool) -> (Range<usize>, Range<usize>) {
    let middle = range.start + range.len() / 2;
    let (first, second) = (range.start..middle, middle..range.end);
    if is_first { (first, second) } else { (second, first) }
}
