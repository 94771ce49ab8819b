//! Options that have no effect together with the others.

use clap::{ArgMatches, parser::ValueSource};

use crate::ranks;

/// Any value of an option.
const ANY: &str = "*";

/// An option, and the option and value that it needs to have an effect; `|` separates values.
const NEEDED: &[(&str, &str, &str)] = &[
    ("crop_scale", "crop", "random-resized"),
    ("resize_short", "crop", "random|center"),
    ("ra_magnitude", "auto_augment", "randaugment"),
    ("momentum", "opt", "sgd|sgd-paper"),
    ("lr_step_size", "lr_scheduler", "step"),
    ("lr_gamma", "lr_scheduler", "step|plateau"),
    ("lr_patience", "lr_scheduler", "plateau"),
    ("model_ema_decay", "model_ema", "true"),
    ("model_ema_steps", "model_ema", "true"),
    ("sum_order", "ranks", ANY),
    ("parallel", "ranks", ANY),
];

/// An option, and the option with which it has no effect.
const REPLACED: &[(&str, &str)] = &[("val_fraction", "fold")];

/// Returns a sentence for each option in `typed` that has no effect. `effective` are the options
/// including those of a recipe or file.
pub fn unused(typed: &ArgMatches, effective: &ArgMatches) -> Vec<String> {
    let is_typed = |id: &str| {
        typed.try_contains_id(id).is_ok()
            && typed.value_source(id) == Some(ValueSource::CommandLine)
    };
    let is = |id: &str, value: &str| match effective.try_get_raw(id).ok().flatten() {
        Some(mut raw) => {
            value == ANY || raw.all(|text| value.split('|').any(|value| text == value))
        }
        // The launcher of a cluster has set the number of ranks.
        None => id == "ranks" && ranks::launched().is_some(),
    };
    let option = |id: &str| id.replace('_', "-");
    let without = NEEDED.iter().filter(|(id, other, value)| is_typed(id) && !is(other, value)).map(
        |(id, other, value)| match *value {
            "true" | ANY => {
                format!("`--{}` has no effect without `--{}`", option(id), option(other))
            }
            _ => {
                let needed: Vec<String> = value
                    .split('|')
                    .map(|value| format!("`--{} {value}`", option(other)))
                    .collect();
                format!("`--{}` has no effect without {}", option(id), needed.join(" or "))
            }
        },
    );
    let with = REPLACED
        .iter()
        .filter(|(id, other)| is_typed(id) && is(other, ANY))
        .map(|(id, other)| format!("`--{}` has no effect with `--{}`", option(id), option(other)));
    without.chain(with).collect()
}
