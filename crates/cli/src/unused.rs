//! Options that change nothing beside the others.

use clap::{ArgMatches, parser::ValueSource};

/// An option, and what it is for.
const FOR: [(&str, &str, &str); 5] = [
    ("momentum", "opt", "sgd"),
    ("lr_step_size", "lr_scheduler", "step"),
    ("lr_gamma", "lr_scheduler", "step"),
    ("model_ema_decay", "model_ema", "true"),
    ("model_ema_steps", "model_ema", "true"),
];

/// A sentence for each that was `typed` in vain; `effective` are the options with those of a file.
pub fn unused(typed: &ArgMatches, effective: &ArgMatches) -> Vec<String> {
    let is_typed = |id: &str| {
        typed.try_contains_id(id).is_ok() && typed.value_source(id) == Some(ValueSource::CommandLine)
    };
    let is = |id: &str, value: &str| {
        effective.try_get_raw(id).ok().flatten().is_some_and(|mut raw| raw.all(|text| text == value))
    };
    let option = |id: &str| id.replace('_', "-");
    FOR.into_iter()
        .filter(|(id, other, value)| is_typed(id) && !is(other, value))
        .map(|(id, other, value)| match value {
            "true" => format!("`--{}` changes nothing without `--{}`", option(id), option(other)),
            _ => format!("`--{}` changes nothing without `--{} {value}`", option(id), option(other)),
        })
        .collect()
}
