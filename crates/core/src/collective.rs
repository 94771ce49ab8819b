//! The interface of a group of processes that train one network together, and the sums over them.
//!
//! The processes of a group are called ranks, as in MPI. All ranks call the same functions in the
//! same order. A sum over the ranks is a balanced tree in the order of the ranks
//! ([`crate::sum_order`]): if each rank has a node of the tree of a step, the sum has the same bits
//! as the sum of one process.

pub mod threads;

use std::{
    fmt::{self, Display},
    ops::Range,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{Array, Error, Result, State, state::Parameters, sum_order::BalancedSum};

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

/// Returns the values of all ranks, in their order.
///
/// # Errors
/// [`Error::Ranks`].
pub fn gather<T: Serialize + DeserializeOwned>(
    ranks: &dyn Collective,
    value: &T,
) -> Result<Vec<T>> {
    let unreadable =
        |error: serde_json::Error| Error::Ranks(format!("a message cannot be read: {error}"));
    let message = serde_json::to_vec(value).map_err(unreadable)?;
    let messages = ranks.gather_bytes(&message)?;
    messages.iter().map(|message| serde_json::from_slice(message).map_err(unreadable)).collect()
}

/// Returns the value of rank 0 on all ranks. The other ranks pass `None`.
///
/// # Errors
/// [`Error::Ranks`].
pub fn broadcast<T: Serialize + DeserializeOwned>(
    ranks: &dyn Collective,
    value: Option<T>,
) -> Result<T> {
    let first = gather(ranks, &value)?.into_iter().next().flatten();
    first.ok_or_else(|| Error::Ranks("rank 0 has sent nothing".into()))
}

/// Waits until all ranks have called this function.
///
/// # Errors
/// [`Error::Ranks`].
pub fn barrier(ranks: &dyn Collective) -> Result<()> {
    ranks.gather_bytes(&[]).map(drop)
}

/// Returns an error on all ranks if one rank has an error: its own error on that rank, and
/// [`Error::OtherRank`] on the others.
///
/// # Errors
/// The error of the first rank that has one.
pub fn agree<T, E: Display + From<Error>>(
    ranks: &dyn Collective,
    result: Result<T, E>,
) -> Result<T, E> {
    let own = result.as_ref().err().map(|error| format!("{}: {error}", ranks.name()));
    let first = gather(ranks, &own)?.into_iter().flatten().next();
    match (result, first) {
        (Err(error), _) => Err(error),
        (_, Some(error)) => Err(Error::OtherRank(error).into()),
        (value, None) => value,
    }
}

/// Returns the state of rank 0 on all ranks. The other ranks pass `None`.
///
/// # Errors
/// [`Error::Ranks`].
pub fn broadcast_state(ranks: &dyn Collective, state: Option<State>) -> Result<State> {
    if ranks.size() == 1
        && let Some(state) = state
    {
        return Ok(state);
    }
    let shapes = |arrays: &Parameters| -> Vec<(String, Vec<usize>)> {
        arrays.iter().map(|(name, array)| (name.clone(), array.shape.clone())).collect()
    };
    let zeros = |shapes: Vec<(String, Vec<usize>)>| -> Parameters {
        shapes.into_iter().map(|(name, shape)| (name, Array::filled(&shape, 0.0))).collect()
    };
    let of = |state: &State| [&state.parameters, &state.moments, &state.average].map(shapes);
    let [parameters, moments, average] = broadcast(ranks, state.as_ref().map(of))?.map(zeros);
    let mut state = state.unwrap_or(State { parameters, moments, average });
    for arrays in [&mut state.parameters, &mut state.moments, &mut state.average] {
        for array in arrays.values_mut() {
            broadcast_values(ranks, &mut array.values)?;
        }
    }
    Ok(state)
}

/// Replaces `values` by those of rank 0. In each round, every rank that has them sends them to one
/// that has not.
fn broadcast_values(ranks: &dyn Collective, values: &mut [f32]) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::{threads::run, *};

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
                let gathered = run(size, |ranks| {
                    let mut values = vec![f32::NAN; len];
                    let own = starts[ranks.rank()]..starts[ranks.rank() + 1];
                    values[own.clone()].copy_from_slice(&expected[own]);
                    gather_values(&*ranks, &mut values, &starts).unwrap();
                    values
                });
                assert!(gathered.iter().all(|values| *values == expected), "{size} ranks, {len}");
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
