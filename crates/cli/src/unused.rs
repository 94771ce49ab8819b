//! Options that have no effect together with the others.

use clap::{ArgMatches, parser::ValueSource};

/// An option, and the option and value that it needs to have an effect; `|` separates values.
const NEEDED: &[(&str, &str, &str)] = &[
    ("crop_scale", "crop", "random-resized"),
    ("resize_short", "crop", "random|center"),
    ("ra_magnitude", "auto_augment", "randaugment"),
    ("momentum", "opt", "sgd"),
    ("lr_step_size", "lr_scheduler", "step"),
    ("lr_gamma", "lr_scheduler", "step"),
    ("model_ema_decay", "model_ema", "true"),
    ("model_ema_steps", "model_ema", "true"),
];

/// Returns a sentence for each option in `typed` that has no effect. `effective` are the options
/// including those of a recipe or file.
pub fn unused(typed: &ArgMatches, effective: &ArgMatches) -> Vec<String> {
    let is_typed = |id: &str| {
        typed.try_contains_id(id).is_ok()
            && typed.value_source(id) == Some(ValueSource::CommandLine)
    };
    let is = |id: &str, value: &str| {
        effective
            .try_get_raw(id)
            .ok()
            .flatten()
            .is_some_and(|mut raw| raw.all(|text| value.split('|').any(|value| text == value)))
    };
    let option = |id: &str| id.replace('_', "-");
    NEEDED
        .iter()
        .filter(|(id, other, value)| is_typed(id) && !is(other, value))
        .map(|(id, other, value)| match *value {
            "true" => format!("`--{}` has no effect without `--{}`", option(id), option(other)),
            _ => {
                let needed: Vec<String> = value
                    .split('|')
                    .map(|value| format!("`--{} {value}`", option(other)))
                    .collect();
                format!("`--{}` has no effect without {}", option(id), needed.join(" or "))
            }
        })
        .collect()
}
