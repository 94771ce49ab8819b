//! Texts about the options of a run.

use alexnet::{RunSummary, core::text::escaped, runs::Change};
use serde_json::{Map, Value};

/// Returns the recipe and the options that differ from it: `fast, seed=1`. The number of epochs is
/// left out, because it is always shown beside them.
pub fn options(run: &RunSummary) -> String {
    let setting = |(name, value): &Change| {
        let value = match value {
            None => "none".into(),
            // The last name of a path says the most.
            Some(toml::Value::String(text)) if name == "data" || name == "weights" => {
                text.rsplit('/').next().unwrap_or_default().to_owned()
            }
            Some(toml::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        };
        escaped(&format!("{name}={value}")).to_string()
    };
    let changes = run.changes.iter().filter(|(name, _)| name != "epochs");
    let (data, others): (Vec<_>, Vec<_>) = changes.partition(|(name, _)| name == "data");
    let settings = others.into_iter().chain(data).map(setting);
    [run.recipe.name().to_owned()].into_iter().chain(settings).collect::<Vec<_>>().join(", ")
}

/// Returns the options that differ from the recipe as a JSON object.
pub fn changed(run: &RunSummary) -> Value {
    let entry = |(name, value): &Change| {
        let value = value.as_ref().and_then(|value| serde_json::to_value(value).ok());
        (name.clone(), value.unwrap_or_default())
    };
    Value::Object(run.changes.iter().map(entry).collect::<Map<_, _>>())
}
