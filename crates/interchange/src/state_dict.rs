//! The state dictionary among what a pickle built: tensors by name.

use std::collections::BTreeMap;

use crate::{
    pickle::{Pickle, Value},
    pth::Saved,
    tensor::{Place, View},
};

/// Under these a training script keeps the state dictionary beside its epoch, its optimiser and so on.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// How deep it may be wrapped.
const MAX_DEPTH: usize = 4;

/// The tensors of the state dictionary by their names.
///
/// # Errors
/// In words, when there is none.
pub fn tensors(saved: &Saved) -> Result<BTreeMap<String, View>, String> {
    let Saved { pickle, value, places, .. } = saved;
    let mut value = *value;
    for _ in 0..MAX_DEPTH {
        let Value::Dict(dict) = value else {
            return Err("it holds no dictionary; save one with `torch.save(model.state_dict(), …)`".into());
        };
        let entries = &pickle.dicts[dict];
        let wrapped = WRAPPERS.iter().find_map(|name| {
            // Of equal keys the last counts, as in Python.
            let same = |(key, value): &(Value, Value)| (pickle.text(*key) == Some(name)).then_some(*value);
            entries.iter().rev().find_map(same)
        });
        match wrapped {
            Some(inner @ Value::Dict(_)) => value = inner,
            _ => {
                return entries.iter().map(|(key, value)| named(pickle, places, *key, *value)).collect();
            }
        }
    }
    Err("its state dictionary is wrapped in too many dictionaries".into())
}

fn named(
    pickle: &Pickle,
    places: &BTreeMap<String, Place>,
    key: Value,
    value: Value,
) -> Result<(String, View), String> {
    let name = pickle.name(key).map_err(|reason| format!("in its dictionary, {reason}"))?;
    let Value::Tensor(tensor) = value else {
        return Err(format!(
            "its entry `{name}` is no tensor, and it holds no `state_dict`; save one with `torch.save(model.state_dict(), …)`"
        ));
    };
    let tensor = &pickle.tensors[tensor];
    let storage = &pickle.storages[tensor.storage];
    let place =
        places.get(&storage.key).ok_or_else(|| format!("its storage `{}` is missing", storage.key))?;
    let shape = tensor.shape.iter().map(|extent| usize::try_from(*extent)).collect::<Result<_, _>>();
    let view = View {
        dtype: storage.dtype,
        place: *place,
        offset: tensor.offset,
        shape: shape.map_err(|_| format!("its tensor `{name}` is too large"))?,
        strides: tensor.strides.clone(),
    };
    Ok((name.to_owned(), view))
}
