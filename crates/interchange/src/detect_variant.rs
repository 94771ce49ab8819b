//! Which AlexNet a set of parameters is.

use std::collections::BTreeMap;

use alexnet_core::{Normalization, alexnet::Variant, state::shape_mismatches};

/// More classes than any data set has: a file that says so is not believed.
const MAX_CLASSES: usize = 1 << 16;

/// Rows of a table of mismatches that are shown.
const SHOWN: usize = 24;

/// The variant whose parameters have these names and shapes, and its number of classes.
///
/// [`Variant::Original`] and [`Variant::OriginalNormFirst`] have the same parameters; the first is taken.
///
/// # Errors
/// A table of name, expected and found shape, against the variant that is nearest.
pub fn detect_variant(shapes: &BTreeMap<String, Vec<usize>>) -> Result<(Variant, usize), String> {
    let candidates = [Variant::Tutorial, Variant::Original, Variant::Torchvision].map(|variant| {
        let classes = match shapes.get("classifier.6.bias").map(Vec::as_slice) {
            Some(&[classes]) if (1..=MAX_CLASSES).contains(&classes) => classes,
            _ => 1000,
        };
        let found = shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        // The topology is one of ours, which are valid.
        (variant, classes, shape_mismatches(&variant.topology(classes), found).unwrap_or_default())
    });
    let nearest = candidates.into_iter().min_by_key(|(_, _, table)| table.len());
    let (variant, classes, mut table) = nearest.ok_or("there is no network to compare with")?;
    if table.is_empty() {
        return Ok((variant, classes));
    }
    let more = table.len().saturating_sub(SHOWN);
    table.truncate(SHOWN);
    if more > 0 {
        table.push(format!("  … and {more} more"));
    }
    Err(format!(
        "its parameters are those of no AlexNet known here; against the nearest, `{variant}` with {classes} classes:\n{}",
        table.join("\n")
    ))
}

/// What images are normalized with where a file does not say: ImageNet's statistics for torchvision's network, as its
/// documentation asks; 0.5 as the tutorial does otherwise.
pub fn usual_normalization(variant: Variant) -> Normalization {
    match variant {
        Variant::Torchvision => Normalization::IMAGENET,
        Variant::Tutorial | Variant::Original | Variant::OriginalNormFirst => Normalization::HALF,
    }
}
