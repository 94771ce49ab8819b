//! `alexnet schema`: prints a JSON schema of the files of options, for editors.

use std::any::TypeId;

use alexnet::ClassWeights;
use anyhow::Result;
use clap::{Arg, CommandFactory};
use serde_json::{Map, Value, json};

use crate::{options::TrainOptions, output};

/// Print a JSON schema of the files of options that `--config` reads, for editors
#[derive(Clone, Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
///
/// # Errors
/// If the output cannot be written.
pub fn run() -> Result<()> {
    output::json(&serde_json::to_string_pretty(&schema())?)
}

/// Returns the schema. A key of a file is the long name of an option of `train`.
fn schema() -> Value {
    let command = TrainOptions::command();
    let property = |option: &Arg| Some((option.get_long()?.to_owned(), property(option)));
    let properties: Map<String, Value> = command.get_arguments().filter_map(property).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Options of `alexnet train`",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Returns the schema of the value of an option.
fn property(option: &Arg) -> Value {
    let mut property = kind(option);
    if let Some(help) = option.get_help() {
        property["description"] = help.to_string().into();
    }
    if let [default] = option.get_default_values() {
        property["default"] = as_value(&property, &default.to_string_lossy());
    }
    property
}

/// Returns the type of the value of an option.
fn kind(option: &Arg) -> Value {
    let parser = option.get_value_parser();
    let is = |types: &[TypeId]| types.iter().any(|of| parser.type_id() == *of);
    let number = json!({"type": "number"});
    if is(&[TypeId::of::<bool>()]) {
        json!({"type": "boolean"})
    } else if is(&[TypeId::of::<u16>(), TypeId::of::<u32>()]) {
        json!({"type": "integer", "minimum": 0})
    } else if is(&[TypeId::of::<u64>()]) {
        // Integers of TOML end at 2⁶³ - 1; larger numbers are written as strings.
        json!({"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+$"})
    } else if is(&[TypeId::of::<f32>(), TypeId::of::<f64>()]) {
        number
    } else if is(&[TypeId::of::<[f64; 2]>()]) {
        json!({"type": "array", "items": number, "minItems": 2, "maxItems": 2})
    } else if is(&[TypeId::of::<[f32; 3]>()]) {
        json!({"type": "array", "items": number, "minItems": 3, "maxItems": 3})
    } else if is(&[TypeId::of::<ClassWeights>()]) {
        json!({"type": ["string", "array"], "items": number})
    } else if option.get_value_delimiter().is_some() {
        json!({"type": "array", "items": {"type": "string"}})
    } else {
        let names = option.get_possible_values();
        let names: Vec<&str> = names.iter().map(|value| value.get_name()).collect();
        match names.is_empty() {
            true => json!({"type": "string"}),
            false => json!({"type": "string", "enum": names}),
        }
    }
}

/// Returns a default of the command line as a value of this type.
fn as_value(kind: &Value, text: &str) -> Value {
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| text.into());
    match kind["type"].as_str() {
        Some("string") => text.into(),
        Some("array") => text.split(',').map(parsed).collect(),
        _ => parsed(text),
    }
}

#[cfg(test)]
mod tests {
    use alexnet::Recipe;

    use super::*;

    /// Whether a value is of the type, and one of the names, of a schema.
    fn fits(schema: &Value, value: &Value) -> bool {
        let of_type = |name: &Value| match name.as_str().unwrap() {
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => {
                let all = value.as_array();
                let count = |key: &str| schema[key].as_u64();
                all.is_some_and(|all| {
                    all.iter().all(|item| fits(&schema["items"], item))
                        && count("minItems").is_none_or(|least| all.len() as u64 >= least)
                        && count("maxItems").is_none_or(|most| all.len() as u64 <= most)
                })
            }
            other => panic!("{other}"),
        };
        let named = schema["enum"].as_array().is_none_or(|names| names.contains(value));
        named
            && schema["type"]
                .as_array()
                .map_or_else(|| of_type(&schema["type"]), |types| types.iter().any(of_type))
    }

    /// The first entry of a file of options that the schema refuses.
    fn refused(text: &str) -> Option<String> {
        let schema = schema();
        let file: toml::Table = text.parse().unwrap();
        let refused = |(key, value): &(String, toml::Value)| {
            let value = serde_json::to_value(value).unwrap();
            schema["properties"].get(key).is_none_or(|property| !fits(property, &value))
        };
        file.into_iter().find(refused).map(|(key, _)| key)
    }

    #[test]
    fn recipes_are_valid() {
        for recipe in Recipe::ALL {
            assert_eq!(refused(recipe.text()), None, "{}", recipe.name());
        }
    }

    #[test]
    fn values_of_other_types_and_unknown_keys_are_refused() {
        for (text, is_valid) in [
            ("seed = 1", true),
            ("seed = '18446744073709551615'", true),
            ("seed = 0.5", false),
            ("epochs = -1", false),
            ("lr = 1", true),
            ("lr = 'high'", false),
            ("opt = 'sgd'", true),
            ("opt = 'lion'", false),
            ("model-ema = 1", false),
            ("crop-scale = [0.1, 1]", true),
            ("crop-scale = [0.1]", false),
            ("mean = [0.1, 0.2, 'x']", false),
            ("freeze = ['features']", true),
            ("class-weights = 'balanced'", true),
            ("class-weights = [1.0, 2.5]", true),
            ("class-weights = ['balanced']", false),
            ("class-weights = 1.0", false),
            ("learning-rate = 0.1", false),
            ("run-dir = 'x'", false),
        ] {
            assert_eq!(refused(text).is_none(), is_valid, "{text}");
        }
    }

    #[test]
    fn defaults_are_of_their_type() {
        let schema = schema();
        for (name, property) in schema["properties"].as_object().unwrap() {
            let default = property.get("default");
            assert!(default.is_none_or(|default| fits(property, default)), "{name}: {property}");
            assert!(property["description"].is_string(), "{name}");
        }
    }
}
