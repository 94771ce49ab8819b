//! The setting of the weights of the classes in the loss.

use std::{collections::BTreeMap, io::ErrorKind, path::PathBuf, str::FromStr};

use alexnet_core::{Error as CoreError, files::read_text, text::shown};
use alexnet_data::{dataset::Dataset, loader};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, saved::MAX_BYTES};

/// The weights of the classes in the training loss (`torch.nn.CrossEntropyLoss(weight=…)`). As text:
/// `balanced`, the numbers separated by commas, or the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Saved", from = "Saved")]
pub enum ClassWeights {
    /// N / (C·n) for a class with n of N training images.
    Balanced,
    /// One number above 0 for each class, in the order of the classes.
    Given(Vec<f32>),
    /// A JSON file from the name of each class to its weight: `{"daisy": 1.0, "roses": 2.5}`. When
    /// the run starts, it is read and replaced by [`ClassWeights::Given`].
    File(PathBuf),
}

impl ClassWeights {
    /// Reads the file, if these are weights in a file.
    ///
    /// # Errors
    /// [`Error::ClassWeights`] when it does not exist, or does not have one number above 0 for each
    /// class.
    pub(crate) fn read(self, classes: &[String]) -> Result<Self> {
        let Self::File(path) = self else { return Ok(self) };
        let weights = match read_text(&path, MAX_BYTES) {
            Err(CoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(format!("it does not exist; name a file, or write `{BALANCED}`"))
            }
            text => parse(&text?, classes),
        };
        match weights {
            Ok(weights) => Ok(Self::Given(weights)),
            Err(reason) => Err(Error::ClassWeights { path, reason }),
        }
    }

    /// The weights for a data set.
    ///
    /// # Errors
    /// When they are not valid for its classes.
    pub(crate) fn of(&self, dataset: &Dataset) -> Result<loader::ClassWeights> {
        let classes = &dataset.classes;
        match self.clone().read(classes)? {
            Self::Given(weights) => Ok(loader::ClassWeights::new(weights, classes.len())?),
            _ => Ok(loader::ClassWeights::balanced(dataset)),
        }
    }
}

/// The weights in the order of the classes.
fn parse(text: &str, classes: &[String]) -> Result<Vec<f32>, String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut weights: BTreeMap<String, f32> = serde_json::from_str(text).map_err(|error| {
        let error = error.to_string();
        format!(r#"{}; it should be like {{"daisy": 1.0, "roses": 2.5}}"#, shown(&error))
    })?;
    let is_valid = |weight: f32| weight.is_finite() && weight > 0.0;
    if let Some((class, weight)) = weights.iter().find(|(_, weight)| !is_valid(**weight)) {
        return Err(format!("the weight of `{}` is {weight}, not a number above 0", shown(class)));
    }
    let weight = |class: &String| {
        weights.remove(class).ok_or_else(|| format!("it has no weight for `{}`", shown(class)))
    };
    let ordered = classes.iter().map(weight).collect::<Result<Vec<f32>, String>>()?;
    match weights.first_key_value() {
        Some((name, _)) => Err(format!("there is no class `{}`", shown(name))),
        None => Ok(ordered),
    }
}

const BALANCED: &str = "balanced";

impl FromStr for ClassWeights {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = || text.split(',').map(|number| number.trim().parse().ok()).collect();
        Ok(match numbers() {
            _ if text == BALANCED => Self::Balanced,
            Some(numbers) => Self::Given(numbers),
            None => Self::File(text.into()),
        })
    }
}

/// The setting in a file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Saved {
    Text(String),
    Numbers(Vec<f32>),
}

impl From<ClassWeights> for Saved {
    fn from(weights: ClassWeights) -> Self {
        match weights {
            ClassWeights::Balanced => Self::Text(BALANCED.into()),
            ClassWeights::Given(numbers) => Self::Numbers(numbers),
            ClassWeights::File(path) => Self::Text(path.display().to_string()),
        }
    }
}

impl From<Saved> for ClassWeights {
    fn from(saved: Saved) -> Self {
        match saved {
            Saved::Text(text) if text == BALANCED => Self::Balanced,
            Saved::Text(text) => Self::File(text.into()),
            Saved::Numbers(numbers) => Self::Given(numbers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_told_apart() {
        let parsed = |text: &str| -> ClassWeights { text.parse().unwrap() };
        assert_eq!(parsed("balanced"), ClassWeights::Balanced);
        assert_eq!(parsed("1, 0.5,2"), ClassWeights::Given(vec![1.0, 0.5, 2.0]));
        assert_eq!(parsed("./balanced"), ClassWeights::File("./balanced".into()));
        assert_eq!(parsed("a,1.json"), ClassWeights::File("a,1.json".into()));
    }

    #[test]
    fn a_file_has_one_weight_for_each_class() {
        let classes = ["roses", "a b"].map(String::from);
        assert_eq!(parse(r#"{"a b": 2, "roses": 0.5}"#, &classes), Ok(vec![0.5, 2.0]));
        let marked = "\u{feff}{\"a b\": 2, \"roses\": 0.5}";
        assert_eq!(parse(marked, &classes), Ok(vec![0.5, 2.0]));
        for (text, reason) in [
            (r#"{"a b": 2, "roses": 0.5"#, "EOF while parsing an object at line 1 column 23"),
            (r#"{"a b": -1, "roses": 0.5}"#, "the weight of `a b` is -1, not a number above 0"),
            (r#"{"a b": 1e999, "roses": 0.5}"#, "number out of range"),
            (r#"{"roses": 0.5}"#, "no weight for `a b`"),
            (r#"{"a b": 2, "roses": 0.5, "tulips": 1}"#, "no class `tulips`"),
            (
                r#"{"a b": "2", "roses": 0.5}"#,
                "expected f32 at line 1 column 11; it should be like",
            ),
            ("[1, 2]", "it should be like"),
        ] {
            let error = parse(text, &classes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
