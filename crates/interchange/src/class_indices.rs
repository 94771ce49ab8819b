//! The tutorial's file of class names, `class_indices.json`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
};

use alexnet_core::{
    Error, FileKind, Result,
    files::{read_text, write_atomically},
    text::{shown, shown_path},
};
use serde::Deserialize;

/// The name of the file that the tutorial's `train.py` writes.
pub const NAME: &str = "class_indices.json";

/// `{"0": "daisy", …}` as the tutorial writes it, or `{"daisy": 0, …}` like torchvision's
/// `class_to_idx`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    ByIndex(BTreeMap<String, String>),
    ByName(BTreeMap<String, usize>),
}

/// Reads a file of class names, `{"0": "daisy", …}` or `{"daisy": 0, …}`. Returns the names in the
/// order of the logits.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Format`] when its content is not valid.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = path.as_ref();
    parse(&read_text(path, MAX_BYTES)?).map_err(|reason| Error::Format {
        path: path.to_owned(),
        expected: FileKind::ClassNames,
        reason,
    })
}

/// Writes a file of class names atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: impl AsRef<Path>, names: &[String]) -> Result<()> {
    write_atomically(path, |file| file.write_all(text(names).as_bytes()))
}

/// Returns the content of the file as the tutorial writes it: indices as strings, indented by four
/// spaces.
fn text(names: &[String]) -> String {
    let lines = names.iter().zip(0..).map(|(name, index)| {
        format!("    \"{index}\": {}", serde_json::Value::from(name.as_str()))
    });
    format!("{{\n{}\n}}", lines.collect::<Vec<_>>().join(",\n"))
}

/// The maximum size of a file, about a hundred times that of a file with a thousand long names.
const MAX_BYTES: u64 = 4 << 20;

fn parse(text: &str) -> Result<Vec<String>, String> {
    // Some editors write a byte order mark.
    let text = text.trim_start_matches('\u{feff}');
    let mut by_index: BTreeMap<String, String> = match serde_json::from_str(text) {
        Ok(Content::ByIndex(map)) => map,
        Ok(Content::ByName(map)) => {
            map.into_iter().map(|(name, index)| (index.to_string(), name)).collect()
        }
        Err(_) => return Err(r#"it should be like {"0": "daisy", "1": "roses"}"#.into()),
    };
    let names: Vec<String> =
        (0..).map_while(|index: usize| by_index.remove(&index.to_string())).collect();
    if let Some((index, name)) = by_index.first_key_value() {
        return Err(format!(
            "`{}` has index {}, but lower indices are missing",
            shown(name),
            shown(index)
        ));
    }
    if let Some(name) = names.iter().find(|name| name.is_empty() || name.contains(char::is_control))
    {
        return Err(format!("`{}` is not a valid class name", shown(name)));
    }
    match names.iter().collect::<BTreeSet<_>>().len() {
        0 => Err("it contains no class".into()),
        different if different < names.len() => Err("it contains a class twice".into()),
        _ => Ok(names),
    }
}

/// Looks for the names of `classes` classes in the folder of the weights and in its parent. Returns
/// them, and a sentence that says where they are from or why there are none.
pub fn near(weights: &Path, classes: usize) -> (Option<Vec<String>>, String) {
    let folders =
        weights.parent().into_iter().flat_map(|folder| [folder.to_owned(), folder.join("..")]);
    let Some(file) = folders.map(|folder| folder.join(NAME)).find(|file| file.is_file()) else {
        return (
            None,
            format!(
                "its classes have no names; put a {NAME} with {classes} names, as the tutorial's train.py writes it, in its folder"
            ),
        );
    };
    match read(&file) {
        Ok(names) if names.len() == classes => {
            (Some(names), format!("its class names are those of {}", shown_path(&file)))
        }
        Ok(names) => (
            None,
            format!(
                "its classes have no names: {} has {} names, but {classes} are needed",
                shown_path(&file),
                names.len()
            ),
        ),
        Err(error) => (None, format!("its classes have no names: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_gaps_are_reported() {
        for text in [r#"{"0": "a", "2": "c", "1": "b"}"#, "\u{feff}{\"c\": 2, \"a\": 0, \"b\": 1}"]
        {
            assert_eq!(parse(text).unwrap(), ["a", "b", "c"]);
        }
        for (text, reason) in [
            (r#"{"0": "a", "2": "c"}"#, "`c` has index 2"),
            (r#"{"1": "a"}"#, "lower indices are missing"),
            (r#"{"0": "a", "1": "a"}"#, "twice"),
            (r#"{"0": ""}"#, "not a valid class name"),
            (r#"{"0": "\u001b[2J"}"#, r"`\u{1b}[2J` is not a valid class name"),
            ("{}", "no class"),
            (r#"["a", "b"]"#, "should be like"),
            ("daisy", "should be like"),
        ] {
            assert!(parse(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
