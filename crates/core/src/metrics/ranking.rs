//! The largest numbers of a row of logits.

use std::cmp::Ordering;

use crate::loss::softmax;

/// Returns the index of the largest number, and the first one of equal numbers. NaN counts as the
/// smallest number.
pub fn argmax<T: Copy + Into<f64>>(row: &[T]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if compare(*value, row[best]) == Ordering::Greater {
            best = index;
        }
    }
    best
}

/// Returns the `k` most probable classes of a row of logits (fewer if the row is shorter) with
/// their softmax probabilities, the most probable first; equal ones in the order of their indices.
/// The first class is [`argmax`].
pub fn top_k(row: &[f32], k: usize) -> Vec<(usize, f64)> {
    let probabilities = softmax(row);
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| compare(row[*b], row[*a]));
    order.into_iter().take(k).map(|class| (class, probabilities[class])).collect()
}

/// Returns the rank of an element in the order of [`top_k`]: 0 for [`argmax`].
pub(super) fn rank<T: Copy + Into<f64>>(row: &[T], element: usize) -> usize {
    let is_before = |(index, value): &(usize, &T)| match compare(**value, row[element]) {
        Ordering::Greater => true,
        Ordering::Equal => *index < element,
        Ordering::Less => false,
    };
    row.iter().enumerate().filter(is_before).count()
}

/// Compares numbers in a total order in which NaN equals -∞.
pub(super) fn compare<T: Into<f64>>(a: T, b: T) -> Ordering {
    let ordered = |x: f64| if x.is_nan() { f64::NEG_INFINITY } else { x };
    ordered(a.into()).partial_cmp(&ordered(b.into())).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    #[test]
    fn argmax_is_the_first_of_equal_numbers() {
        for (row, best) in [
            (&[1.0, 3.0, 3.0][..], 1),
            (&[-0.0, 0.0], 0),
            (&[NAN, -5.0, NAN, -4.0], 3),
            (&[NAN, NAN], 0),
            (&[NAN, -INF], 0),
            (&[0.0, INF, INF], 1),
            (&[7.0], 0),
        ] {
            assert_eq!(argmax(row), best, "{row:?}");
            assert_eq!(top_k(row, 1)[0].0, best, "{row:?}");
        }
    }

    #[test]
    fn ranks_are_the_places_in_top_k() {
        for row in [
            &[1.0, 3.0, 3.0, -2.0, 3.0, 0.0, 1.0][..],
            &[NAN, -5.0, NAN, -INF, -5.0],
            &[0.0, INF, INF],
            &[7.0],
        ] {
            for (place, (class, _)) in top_k(row, row.len()).into_iter().enumerate() {
                assert_eq!(rank(row, class), place, "{row:?}");
            }
        }
    }

    #[test]
    fn top_k_returns_softmax_probabilities_in_order() {
        let ln = |x: f32| x.ln();
        let top = top_k(&[ln(2.0), ln(5.0), ln(1.0), ln(2.0)], 3);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 0, 3]);
        for ((_, probability), expected) in top.iter().zip([0.5, 0.2, 0.2]) {
            assert!((probability - expected).abs() < 1e-7, "{probability}");
        }
        assert_eq!(top_k(&[1.0, 2.0], 5).len(), 2);
        assert!(top_k(&[], 5).is_empty() && top_k(&[1.0], 0).is_empty());
        let uncertain = top_k(&[NAN, 2.0, 3.0], 3);
        assert_eq!(uncertain.iter().map(|t| t.0).collect::<Vec<_>>(), [2, 1, 0]);
        assert!(uncertain.iter().all(|t| t.1.is_nan()));
    }
}
