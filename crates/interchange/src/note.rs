//! Notes about what was assumed or changed when a file was read.

use std::fmt;

use alexnet_core::{Normalization, alexnet::Variant, text::shown};

/// Something that is missing in a file and was assumed, or that was changed; displayed as a
/// sentence.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// The variant was detected by the shapes of the parameters.
    DetectedVariant {
        /// The variant.
        variant: Variant,
        /// The number of classes.
        classes: usize,
    },
    /// The normalization is the default of the variant.
    UsualNormalization {
        /// The variant.
        variant: Variant,
        /// Its default normalization.
        normalization: Normalization,
    },
    /// Another variant has parameters of the same shapes, so the file may be of that variant.
    SameShapes {
        /// The other variant.
        other: Variant,
    },
    /// Where the names of the classes come from, or why there are none.
    ClassNames(String),
    /// These entries are not parameters and were ignored.
    LeftOut(Vec<String>),
    /// Float64 numbers were rounded to float32.
    Rounded,
}

/// The maximum number of names in a sentence.
const SHOWN: usize = 8;

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DetectedVariant { variant, classes } => {
                write!(
                    f,
                    "detected as `{variant}` with {classes} classes by the shapes of its parameters"
                )
            }
            Self::UsualNormalization { variant, normalization: Normalization { mean, std } } => {
                write!(
                    f,
                    "images are normalized with mean {mean:?} and std {std:?}, the usual values for `{variant}`"
                )
            }
            Self::SameShapes { other } => write!(f, "`{other}` has the same shapes"),
            Self::ClassNames(sentence) => f.write_str(sentence),
            Self::LeftOut(names) => {
                let some: Vec<String> =
                    names.iter().take(SHOWN).map(|name| format!("`{}`", shown(name))).collect();
                write!(f, "its entries {}", some.join(", "))?;
                match names.len() - some.len() {
                    0 => {}
                    more => write!(f, " and {more} more")?,
                }
                f.write_str(" are not parameters and are ignored")
            }
            Self::Rounded => f.write_str("its float64 numbers are rounded to float32"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_entries_are_escaped_and_limited() {
        let sentence = Note::LeftOut((0..10).map(|n| format!("n{n}\n")).collect()).to_string();
        assert!(
            sentence.contains(r"`n0\n`") && sentence.contains("and 2 more are not parameters"),
            "{sentence}"
        );
        let one = Note::LeftOut(vec!["steps".into()]).to_string();
        assert_eq!(one, "its entries `steps` are not parameters and are ignored");
    }
}
