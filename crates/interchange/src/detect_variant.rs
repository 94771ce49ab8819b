//! Detection of the AlexNet variant from the names and shapes of parameters.

use std::collections::BTreeMap;

use alexnet_core::{Normalization, alexnet::Variant, state::shape_mismatches};

/// The maximum number of classes that is accepted from a file.
const MAX_CLASSES: usize = 1 << 16;

/// The maximum number of mismatches in a message.
const SHOWN: usize = 24;

/// Returns the variant whose parameters have these names and shapes, and its number of classes.
///
/// [`Variant::Original`] and [`Variant::OriginalNormFirst`] have the same parameters; the former is
/// returned.
///
/// # Errors
/// A table of name, expected and found shape, compared with the most similar variant.
pub fn detect_variant(shapes: &BTreeMap<String, Vec<usize>>) -> Result<(Variant, usize), String> {
    let candidates = [Variant::Tutorial, Variant::Original, Variant::Torchvision].map(|variant| {
        let classes = match shapes.get("classifier.6.bias").map(Vec::as_slice) {
            Some(&[classes]) if (1..=MAX_CLASSES).contains(&classes) => classes,
            _ => 1000,
        };
        let found = shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        // The topologies of the variants are always valid.
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
        "its parameters fit no known AlexNet variant; differences from the nearest, `{variant}` with {classes} classes:\n{}",
        table.join("\n")
    ))
}

/// Returns the default normalization for files without metadata: ImageNet's statistics for
/// torchvision's network, as its documentation requires; otherwise 0.5, as in the tutorial.
pub fn usual_normalization(variant: Variant) -> Normalization {
    match variant {
        Variant::Torchvision => Normalization::IMAGENET,
        Variant::Tutorial | Variant::Original | Variant::OriginalNormFirst => Normalization::HALF,
    }
}
