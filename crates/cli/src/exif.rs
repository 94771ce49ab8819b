//! `--exif-orientation`: whether images are turned upright as their files say.

use alexnet_core::ExifOrientation;
use clap::ValueEnum;
use serde::Serialize;

/// Whether images are turned.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Turning {
    /// Turn images upright, as viewers show them
    Apply,
    /// Take images as they are stored, as torchvision does; TIFF is turned all the same
    Ignore,
}

impl From<Turning> for ExifOrientation {
    fn from(turning: Turning) -> Self {
        match turning {
            Turning::Apply => Self::Apply,
            Turning::Ignore => Self::Ignore,
        }
    }
}

impl From<ExifOrientation> for Turning {
    fn from(orientation: ExifOrientation) -> Self {
        match orientation {
            ExifOrientation::Apply => Self::Apply,
            ExifOrientation::Ignore => Self::Ignore,
        }
    }
}

/// What holds for a run that is gone on with: one of the time before the option was begun with images as they are stored.
pub fn of_run(known: Option<Turning>) -> Turning {
    known.unwrap_or_else(|| {
        note!("images are not turned by their EXIF orientation, as when the run was begun");
        Turning::Ignore
    })
}

/// The option where weights say what they were trained with.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct OfWeights {
    /// Whether images are turned as their EXIF or XMP says [default: as in training]
    #[arg(long, value_name = "ACTION", value_enum)]
    exif_orientation: Option<Turning>,
}

impl OfWeights {
    /// What holds for images shown to weights that were trained with `known`; told when it is not what one expects.
    pub fn or(self, known: ExifOrientation) -> ExifOrientation {
        match self.exif_orientation.map(ExifOrientation::from) {
            None => {
                if known == ExifOrientation::Ignore {
                    note!("images are not turned by their EXIF orientation, as in training");
                }
                known
            }
            Some(asked) => {
                if asked != known {
                    let (asked, known) = (asked.name(), known.name());
                    note!("`--exif-orientation {asked}`, though the weights were trained with {known}");
                }
                asked
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_run_goes_on_as_it_was_begun() {
        assert_eq!(of_run(None), Turning::Ignore);
        for known in [Turning::Apply, Turning::Ignore] {
            assert_eq!(of_run(Some(known)), known);
        }
    }

    #[test]
    fn what_is_asked_counts_more_than_what_is_known() {
        let or = |asked, known| OfWeights { exif_orientation: asked }.or(known);
        for known in [ExifOrientation::Apply, ExifOrientation::Ignore] {
            assert_eq!(or(None, known), known);
            assert_eq!(or(Some(Turning::Apply), known), ExifOrientation::Apply);
            assert_eq!(or(Some(Turning::Ignore), known), ExifOrientation::Ignore);
        }
    }
}
