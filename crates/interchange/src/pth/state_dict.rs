//! Finds the state dictionary (tensors by name) among the values of a pickle.

use std::collections::{BTreeMap, BTreeSet};

use alexnet_core::text::shown;

use crate::{
    pth::{
        pickle::{Tensor, Value},
        read::Saved,
    },
    tensor::View,
};

/// The keys under which training scripts store the state dictionary in a checkpoint.
const WRAPPERS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// The maximum number of names in a message.
const SHOWN: usize = 8;

/// The maximum depth of nested dictionaries.
const MAX_DEPTH: usize = 4;

/// Returns the tensors of the state dictionary by their names, and the names of its other entries.
///
/// # Errors
/// A message when there is no state dictionary.
pub fn tensors(saved: &Saved) -> Result<(BTreeMap<String, View>, Vec<String>), String> {
    let Saved { pickle, value, .. } = saved;
    let mut value = *value;
    for _ in 0..MAX_DEPTH {
        let Value::Dict(dict) = value else {
            return Err(
                "it contains no dictionary; save one with `torch.save(model.state_dict(), …)`"
                    .into(),
            );
        };
        let entries = &pickle.dicts[dict];
        let wrapped = WRAPPERS.iter().find_map(|name| {
            // Of equal keys the last one is used, as in Python.
            let value_of =
                |(key, value): &(Value, Value)| (pickle.text(*key) == Some(name)).then_some(*value);
            entries.iter().rev().find_map(value_of)
        });
        match wrapped {
            Some(inner @ Value::Dict(_)) => value = inner,
            _ => return named(saved, entries),
        }
    }
    Err("its state dictionary is wrapped in too many dictionaries".into())
}

/// Returns the tensors among `entries`, and the names of the others.
fn named(
    saved: &Saved,
    entries: &[(Value, Value)],
) -> Result<(BTreeMap<String, View>, Vec<String>), String> {
    let (mut views, mut others) = (BTreeMap::new(), BTreeSet::new());
    for (key, value) in entries {
        if let Value::Tensor(tensor) = value {
            let name =
                saved.pickle.name(*key).map_err(|reason| format!("in its dictionary, {reason}"))?;
            others.remove(name);
            views.insert(name.to_owned(), view(saved, name, &saved.pickle.tensors[*tensor])?);
        } else {
            let name = saved.pickle.text(*key).unwrap_or("an entry without a name");
            views.remove(name);
            others.insert(name);
        }
    }
    if views.is_empty() {
        let others: Vec<String> =
            others.iter().take(SHOWN).map(|name| shown(name).to_string()).collect();
        return Err(format!(
            "its dictionary contains no tensor ({}) and no `state_dict`; save one with `torch.save(model.state_dict(), …)`",
            if others.is_empty() { "it is empty".into() } else { others.join(", ") }
        ));
    }
    Ok((views, others.into_iter().map(str::to_owned).collect()))
}

fn view(saved: &Saved, name: &str, tensor: &Tensor) -> Result<View, String> {
    let storage = &saved.pickle.storages[tensor.storage];
    let place = saved
        .places
        .get(&storage.key)
        .ok_or_else(|| format!("its storage `{}` is missing", storage.key))?;
    let shape =
        tensor.shape.iter().map(|extent| usize::try_from(*extent)).collect::<Result<_, _>>();
    Ok(View {
        dtype: storage.dtype,
        place: *place,
        offset: tensor.offset,
        shape: shape.map_err(|_| format!("its tensor `{}` is too large", shown(name)))?,
        strides: tensor.strides.clone(),
    })
}
