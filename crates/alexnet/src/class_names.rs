//! Names for classes whose folders have identifiers, such as the synsets of ImageNet.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use alexnet_core::{Error as CoreError, FileKind, files::read_text};
use serde::Deserialize;

use crate::{Result, saved::MAX_BYTES};

/// The names of classes by the names of their folders, from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassNames {
    path: PathBuf,
    names: BTreeMap<String, String>,
}

/// A JSON file: `{"n01440764": "tench"}`, or as Keras has it, `{"0": ["n01440764", "tench"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Names(BTreeMap<String, String>),
    Numbered(BTreeMap<String, (String, String)>),
}

impl ClassNames {
    /// Reads a file: JSON, or text with a folder and, after a space, its name on each line, as in
    /// Caffe's `synset_words.txt` and in `LOC_synset_mapping.txt`.
    ///
    /// # Errors
    /// When it cannot be read or has another form.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, MAX_BYTES)?;
        let named = |names| Self { path: path.to_owned(), names };
        parse(&text).map(named).ok_or_else(|| {
            let reason = "it should have a folder and its name on each line, such as `n01440764 tench`, \
                          or be JSON such as {\"n01440764\": \"tench\"}";
            CoreError::Format {
                path: path.to_owned(),
                expected: FileKind::ClassNames,
                reason: reason.into(),
            }
            .into()
        })
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the names of folders. Folders with the same name get their folder after it. Others
    /// stay as they are. Returns whether one was replaced.
    pub(crate) fn apply(&self, classes: &mut [String]) -> bool {
        let mut users: BTreeMap<&str, usize> = BTreeMap::new();
        for name in classes.iter().filter_map(|class| self.names.get(class)) {
            *users.entry(name).or_default() += 1;
        }
        let mut is_replaced = false;
        for class in classes {
            if let Some(name) = self.names.get(class) {
                *class = match users[name.as_str()] {
                    1 => name.clone(),
                    _ => format!("{name} ({class})"),
                };
                is_replaced = true;
            }
        }
        is_replaced
    }
}

fn parse(text: &str) -> Option<BTreeMap<String, String>> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with('{') {
        return match serde_json::from_str(text).ok()? {
            Json::Names(names) => Some(names),
            Json::Numbered(names) => Some(names.into_values().collect()),
        };
    }
    let line = |line: &str| {
        let (folder, name) = line.trim().split_once(char::is_whitespace)?;
        Some((folder.to_owned(), name.trim().to_owned()))
    };
    let names: Option<BTreeMap<String, String>> =
        text.lines().filter(|line| !line.trim().is_empty()).map(line).collect();
    names.filter(|names| !names.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_read() {
        let expected = BTreeMap::from(
            [("n01440764", "tench, Tinca tinca"), ("n02012849", "crane")]
                .map(|(folder, name)| (folder.to_owned(), name.to_owned())),
        );
        for text in [
            "n01440764 tench, Tinca tinca\r\nn02012849\tcrane\n\n",
            r#"{"n01440764": "tench, Tinca tinca", "n02012849": "crane"}"#,
            "\u{feff}{\"0\": [\"n01440764\", \"tench, Tinca tinca\"], \"1\": [\"n02012849\", \"crane\"]}",
        ] {
            assert_eq!(parse(text), Some(expected.clone()), "{text}");
        }
        for text in ["", "tench", "n1 a\nb", "{}}", "[1]", r#"{"0": 1}"#] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// ImageNet has two classes `crane`.
    #[test]
    fn names_are_replaced_and_stay_different() {
        let names = parse("n1 crane\nn2 tench\nn3 crane\n").unwrap();
        let names = ClassNames { path: "names.txt".into(), names };
        let mut classes = ["n1", "n2", "n3", "n4"].map(String::from);
        assert!(names.apply(&mut classes));
        assert_eq!(classes, ["crane (n1)", "tench", "crane (n3)", "n4"]);
        let mut others = ["daisy"].map(String::from);
        assert!(!names.apply(&mut others));
    }
}
