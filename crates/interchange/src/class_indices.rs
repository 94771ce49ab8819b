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

/// How `train.py` of the tutorial calls it.
pub const NAME: &str = "class_indices.json";

/// `{"0": "daisy", …}` as the tutorial writes it, or `{"daisy": 0, …}` as torchvision's `class_to_idx` is.
#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    ByIndex(BTreeMap<String, String>),
    ByName(BTreeMap<String, usize>),
}

/// Reads a file of class names: `{"0": "daisy", …}` or `{"daisy": 0, …}`, to a list in the order of the logits.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Format`] when it is something else.
pub fn read(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = path.as_ref();
    parse(&read_text(path, MOST)?).map_err(|reason| Error::Format {
        path: path.to_owned(),
        expected: FileKind::ClassNames,
        reason,
    })
}

/// Writes such a file, atomically.
///
/// # Errors
/// [`Error::Io`].
pub fn write(path: impl AsRef<Path>, names: &[String]) -> Result<()> {
    write_atomically(path, |file| file.write_all(text(names).as_bytes()))
}

/// The file of these names as the tutorial writes it: indices as texts, indented by four.
fn text(names: &[String]) -> String {
    let lines = names
        .iter()
        .zip(0..)
        .map(|(name, index)| format!("    \"{index}\": {}", serde_json::Value::from(name.as_str())));
    format!("{{\n{}\n}}", lines.collect::<Vec<_>>().join(",\n"))
}

/// A file of a thousand long names has a hundredth of it.
const MOST: u64 = 4 << 20;

fn parse(text: &str) -> Result<Vec<String>, String> {
    // As some editors begin a file.
    let text = text.trim_start_matches('\u{feff}');
    let mut by_index: BTreeMap<String, String> = match serde_json::from_str(text) {
        Ok(Content::ByIndex(map)) => map,
        Ok(Content::ByName(map)) => map.into_iter().map(|(name, index)| (index.to_string(), name)).collect(),
        Err(_) => return Err(r#"it should be like {"0": "daisy", "1": "roses"}"#.into()),
    };
    let names: Vec<String> = (0..).map_while(|index: usize| by_index.remove(&index.to_string())).collect();
    if let Some((index, name)) = by_index.first_key_value() {
        return Err(format!(
            "`{}` has the number {}, and numbers before it are missing",
            shown(name),
            shown(index)
        ));
    }
    if let Some(name) = names.iter().find(|name| name.is_empty() || name.contains(char::is_control)) {
        return Err(format!("`{}` is no name of a class", shown(name)));
    }
    match names.iter().collect::<BTreeSet<_>>().len() {
        0 => Err("it names no class".into()),
        different if different < names.len() => Err("it names a class twice".into()),
        _ => Ok(names),
    }
}

/// The names of `classes` classes beside the weights or in the folder above, and a sentence about where they are from or why there
/// are none.
pub fn near(weights: &Path, classes: usize) -> (Option<Vec<String>>, String) {
    let folders = weights.parent().into_iter().flat_map(|folder| [folder.to_owned(), folder.join("..")]);
    let Some(file) = folders.map(|folder| folder.join(NAME)).find(|file| file.is_file()) else {
        return (
            None,
            format!(
                "its classes have no names: a {NAME} with {classes} of them, as the tutorial's train.py writes it, belongs beside it"
            ),
        );
    };
    match read(&file) {
        Ok(names) if names.len() == classes => {
            (Some(names), format!("its classes are those of {}", shown_path(&file)))
        }
        Ok(names) => (
            None,
            format!(
                "its classes have no names: {} has {}, and {classes} are needed",
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
    fn both_directions_are_read_and_gaps_are_named() {
        for text in [r#"{"0": "a", "2": "c", "1": "b"}"#, "\u{feff}{\"c\": 2, \"a\": 0, \"b\": 1}"] {
            assert_eq!(parse(text).unwrap(), ["a", "b", "c"]);
        }
        for (text, reason) in [
            (r#"{"0": "a", "2": "c"}"#, "`c` has the number 2"),
            (r#"{"1": "a"}"#, "before it are missing"),
            (r#"{"0": "a", "1": "a"}"#, "twice"),
            (r#"{"0": ""}"#, "no name"),
            (r#"{"0": "\u001b[2J"}"#, r"`\u{1b}[2J` is no name"),
            ("{}", "no class"),
            (r#"["a", "b"]"#, "should be like"),
            ("daisy", "should be like"),
        ] {
            assert!(parse(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
