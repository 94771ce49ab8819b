//! Measuring answers: top-k, confusion matrix, precision, recall and F1.

use std::cmp::Ordering;

use serde::Serialize;

use crate::{
    Logits,
    loss::{row_loss, softmax},
};

/// The index of the largest number; the first of equals. Not-a-number counts as smallest.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if compare(*value, row[best]) == Ordering::Greater {
            best = index;
        }
    }
    best
}

/// The `k` most probable classes of a row of logits with their softmax probabilities, the most probable first, equals by
/// index (fewer when the row is shorter). The first is [`argmax`].
pub fn top_k(row: &[f32], k: usize) -> Vec<(usize, f64)> {
    let probabilities = softmax(row);
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| compare(row[*b], row[*a]));
    order.into_iter().take(k).map(|class| (class, probabilities[class])).collect()
}

/// A total order with not-a-number equal to -∞.
fn compare(a: f32, b: f32) -> Ordering {
    let ordered = |x: f32| if x.is_nan() { f32::NEG_INFINITY } else { x };
    ordered(a).partial_cmp(&ordered(b)).unwrap_or(Ordering::Equal)
}

/// How often each class was taken for each: `counts[true][predicted]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confusion {
    /// `[C][C]`, rows true, columns predicted.
    pub counts: Vec<Vec<u64>>,
}

/// The quality of one class, by the definitions of `sklearn.metrics.precision_recall_fscore_support` with
/// `zero_division=0`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassQuality {
    /// Of the pictures taken for the class, the share that is of it.
    pub precision: f64,
    /// Of the pictures of the class, the share that is taken for it.
    pub recall: f64,
    /// Harmonic mean of both.
    pub f1: f64,
    /// Pictures of the class.
    pub support: u64,
}

impl Confusion {
    /// No picture of any of `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![vec![0; classes]; classes] }
    }

    /// Counts one picture; both are indices of classes.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth][predicted] += 1;
    }

    /// The number of pictures.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// The share of pictures that were recognised; 0 of none.
    pub fn accuracy(&self) -> f64 {
        ratio((0..self.counts.len()).map(|class| self.counts[class][class]).sum(), self.total())
    }

    /// The quality of each class.
    pub fn per_class(&self) -> Vec<ClassQuality> {
        let quality = |class: usize| {
            let hits = self.counts[class][class];
            let support: u64 = self.counts[class].iter().sum();
            let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
            ClassQuality {
                precision: ratio(hits, predicted),
                recall: ratio(hits, support),
                f1: ratio(2 * hits, predicted + support),
                support,
            }
        };
        (0..self.counts.len()).map(quality).collect()
    }
}

/// `part / whole`, and 0 of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Gathers the answers to a set of pictures, batch by batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    loss: f64,
    confusion: Confusion,
}

/// An [`Evaluation`] with the names of its classes: the JSON of `evaluate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Pictures seen.
    pub images: u64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// The share recognised.
    pub top1: f64,
    /// One entry a class, in the order of the logits.
    pub per_class: Vec<ClassReport>,
    /// Rows true, columns predicted.
    pub confusion: Confusion,
}

/// A class of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Its quality.
    #[serde(flatten)]
    pub quality: ClassQuality,
}

impl Evaluation {
    /// Nothing seen yet.
    pub fn new(classes: usize) -> Self {
        Self { loss: 0.0, confusion: Confusion::new(classes) }
    }

    /// Adds a batch: logits and targets, both `[N, C]`. The true class is the largest of the target row.
    pub fn add(&mut self, logits: &Logits, targets: &[f32]) {
        for (row, target) in logits.rows().zip(targets.chunks_exact(logits.classes)) {
            self.loss += row_loss(row, target);
            self.confusion.add(argmax(target), argmax(row));
        }
    }

    /// The number of pictures.
    pub fn images(&self) -> u64 {
        self.confusion.total()
    }

    /// Mean cross-entropy over all pictures; not a number when there was none.
    pub fn loss(&self) -> f64 {
        self.loss / self.images() as f64
    }

    /// Which class was taken for which.
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }

    /// With the names of the classes, in the order of the logits.
    pub fn report(&self, classes: &[String]) -> Report {
        let class = |(name, quality): (&String, _)| ClassReport { class: name.clone(), quality };
        Report {
            images: self.images(),
            loss: self.loss(),
            top1: self.confusion.accuracy(),
            per_class: classes.iter().zip(self.confusion.per_class()).map(class).collect(),
            confusion: self.confusion.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    #[test]
    fn the_first_largest_number_wins() {
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
    fn top_k_gives_softmax_probabilities_in_order() {
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

    /// ```python
    /// from sklearn.metrics import precision_recall_fscore_support as prf
    /// t = [0]*4 + [1]*3 + [2]*2; p = [0,0,0,1, 1,1,0, 0,1]
    /// prf(t, p, labels=range(4), zero_division=0)
    /// ```
    /// Class 2 is never predicted, class 3 never occurs.
    #[test]
    fn qualities_are_scikit_learns() {
        let mut confusion = Confusion::new(4);
        for (truth, predicted) in [0, 0, 0, 0, 1, 1, 1, 2, 2].into_iter().zip([0, 0, 0, 1, 1, 1, 0, 0, 1]) {
            confusion.add(truth, predicted);
        }
        assert_eq!(
            confusion.counts,
            [vec![3, 1, 0, 0], vec![1, 2, 0, 0], vec![1, 1, 0, 0], vec![0, 0, 0, 0]]
        );
        assert_eq!(confusion.total(), 9);
        assert_eq!(confusion.accuracy(), 5.0 / 9.0);
        let expected = [
            (3.0 / 5.0, 3.0 / 4.0, 2.0 / 3.0, 4),
            (2.0 / 4.0, 2.0 / 3.0, 4.0 / 7.0, 3),
            (0.0, 0.0, 0.0, 2),
            (0.0, 0.0, 0.0, 0),
        ];
        for (found, (precision, recall, f1, support)) in confusion.per_class().into_iter().zip(expected) {
            assert_eq!(found, ClassQuality { precision, recall, f1, support });
        }
        assert_eq!(Confusion::new(3).accuracy(), 0.0);
    }

    #[test]
    fn an_evaluation_is_a_mean_over_pictures_not_batches() {
        let mut evaluation = Evaluation::new(2);
        assert!(evaluation.loss().is_nan());
        let three = [3f32.ln(), 0.0];
        // Probabilities 3/4, 1/4; two pictures of class 0, then one of class 1, softly.
        evaluation.add(&Logits { values: [three, three].concat(), classes: 2 }, &[1.0, 0.0, 1.0, 0.0]);
        evaluation.add(&Logits { values: three.to_vec(), classes: 2 }, &[0.25, 0.75]);
        let (likely, unlikely) = ((4f64 / 3.0).ln(), 4f64.ln());
        let loss = (2.0 * likely + 0.25 * likely + 0.75 * unlikely) / 3.0;
        assert!((evaluation.loss() - loss).abs() < 1e-7);
        assert_eq!(evaluation.images(), 3);
        assert_eq!(evaluation.confusion().counts, [[2, 0], [1, 0]]);
    }

    #[test]
    fn the_report_is_the_documented_json() {
        let mut evaluation = Evaluation::new(2);
        evaluation.add(&Logits { values: vec![0.0, 0.0, -INF, 0.0], classes: 2 }, &[1.0, 0.0, 0.0, 1.0]);
        evaluation.loss = 0.5;
        let report = evaluation.report(&["daisy".into(), "roses".into()]);
        let class =
            |name: &str| format!(r#"{{"class":"{name}","precision":1.0,"recall":1.0,"f1":1.0,"support":1}}"#);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            format!(
                r#"{{"images":2,"loss":0.25,"top1":1.0,"per_class":[{},{}],"confusion":[[1,0],[0,1]]}}"#,
                class("daisy"),
                class("roses")
            )
        );
    }
}
