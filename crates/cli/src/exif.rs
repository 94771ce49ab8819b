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
