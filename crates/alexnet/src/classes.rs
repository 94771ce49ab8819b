//! Comparing lists of classes, and reordering the last layer of weights to another order of
//! classes.

use std::{collections::BTreeMap, path::Path};

use alexnet_core::{Array, weights::Weights};
use alexnet_data::dataset::Dataset;
use alexnet_interchange::Loaded;
use unicode_normalization::UnicodeNormalization;

pub use crate::note::listed;
use crate::{note::Note, observer::Observer};

/// How a list of classes compares with another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// The same names in the same order.
    Same,
    /// The same names in another order: for each wanted class, its index among the known ones.
    Permuted(Vec<usize>),
    /// Other names, or a name twice.
    Other,
}

/// Compares names in Unicode's normalization form NFC, because file systems use different forms.
pub fn align(known: &[String], wanted: &[String]) -> Alignment {
    if known == wanted {
        return Alignment::Same;
    }
    let composed =
        |names: &[String]| names.iter().map(|name| name.nfc().collect()).collect::<Vec<String>>();
    let (known, wanted) = (composed(known), composed(wanted));
    let mut places: BTreeMap<&str, usize> = known.iter().map(String::as_str).zip(0..).collect();
    if places.len() != known.len() || wanted.len() != known.len() {
        return Alignment::Other;
    }
    let order: Option<Vec<usize>> =
        wanted.iter().map(|name| places.remove(name.as_str())).collect();
    match order {
        None => Alignment::Other,
        Some(order) if order.is_sorted() => Alignment::Same,
        Some(order) => Alignment::Permuted(order),
    }
}

/// Gives weights the classes of a data set, in its order, and notes what changed. If the classes of
/// the weights have no names and are as many, they get the names of the data set. Otherwise the
/// rows of the last layer are reordered. Returns false when the classes differ.
pub(crate) fn adopt(
    loaded: &mut Loaded,
    path: &Path,
    dataset: &Dataset,
    observer: &mut dyn Observer,
) -> bool {
    let Loaded { weights, named, .. } = loaded;
    let known = &weights.metadata.classes;
    let alignment = match *named {
        true => align(known, &dataset.classes),
        // The classes are only numbered.
        false if known.len() == dataset.classes.len() => Alignment::Same,
        false => Alignment::Other,
    };
    let folder = dataset.root().to_owned();
    match alignment {
        Alignment::Other => return false,
        Alignment::Same if *named => {}
        Alignment::Same => observer.note(Note::ClassesNamed { folder }),
        Alignment::Permuted(order) => {
            reorder(weights, &order);
            observer.note(Note::ClassesReordered { path: path.to_owned(), folder });
        }
    }
    weights.metadata.classes.clone_from(&dataset.classes);
    *named = true;
    true
}

/// Reorders the rows of the last layer: row `i` becomes the old row `order[i]`.
fn reorder(weights: &mut Weights, order: &[usize]) {
    let topology = weights.metadata.variant.topology(order.len());
    let last = topology.nodes.last().and_then(|last| topology.parameters_of(&last.name).ok());
    for name in last.unwrap_or_default() {
        let Some(Array { values, .. }) = weights.parameters.get_mut(&name) else { continue };
        let row = values.len() / order.len();
        *values = order.iter().flat_map(|from| &values[from * row..][..row]).copied().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn lists_are_compared_as_people_read_them() {
        use Alignment::{Other, Permuted, Same};
        let (composed, decomposed) = ("caf\u{e9}", "cafe\u{301}");
        for (known, wanted, alignment) in [
            (vec!["a", "b"], vec!["a", "b"], Same),
            (vec!["a", "b", "c"], vec!["c", "a", "b"], Permuted(vec![2, 0, 1])),
            (vec!["a", "b"], vec!["a", "c"], Other),
            (vec!["a", "b"], vec!["a"], Other),
            (vec!["a"], vec!["a", "b"], Other),
            (vec![composed, "b"], vec![decomposed, "b"], Same),
            (vec!["b", decomposed], vec![composed, "b"], Permuted(vec![1, 0])),
            (vec!["A"], vec!["a"], Other),
            // Ambiguous: both spell the same name.
            (vec!["a", "a"], vec!["a", "b"], Other),
            (vec!["a", "b"], vec!["b", "b"], Other),
            (vec![composed, decomposed], vec![decomposed, composed], Other),
        ] {
            assert_eq!(align(&names(&known), &names(&wanted)), alignment, "{known:?} {wanted:?}");
        }
    }
}
