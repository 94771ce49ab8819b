//! Values and states that ranks send each other, and errors that they return together.

use std::fmt::Display;

use serde::{Serialize, de::DeserializeOwned};

use super::{Collective, numbers::broadcast_values};
use crate::{Array, Error, Result, State, state::Parameters};

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
