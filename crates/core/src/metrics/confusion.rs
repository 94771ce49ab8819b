//! The confusion matrix, and precision, recall and F1 from it.

use serde::Serialize;

use super::{ratio, wilson95};

/// The confusion matrix: `counts[true][predicted]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Confusion {
    /// The counts `[C][C]`: rows are the true classes, columns the predicted ones.
    pub counts: Vec<Vec<u64>>,
}

/// The quality of the predictions for one class, or the mean over classes, by the definitions of
/// scikit-learn's `classification_report` with all classes as `labels` and `zero_division=0`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// The share of the images predicted as this class that belong to it.
    pub precision: f64,
    /// The share of the images of this class that are predicted as this class.
    pub recall: f64,
    /// The harmonic mean of precision and recall.
    pub f1: f64,
    /// The number of images of this class.
    pub support: u64,
}

impl Confusion {
    /// Creates an empty matrix for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { counts: vec![vec![0; classes]; classes] }
    }

    /// Counts one image. Both arguments are indices of classes.
    pub fn add(&mut self, truth: usize, predicted: usize) {
        self.counts[truth][predicted] += 1;
    }

    /// Returns the number of images.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    fn hits(&self) -> u64 {
        (0..self.counts.len()).map(|class| self.counts[class][class]).sum()
    }

    /// Returns the share of images whose predicted class is the true one; 0 without images.
    pub fn accuracy(&self) -> f64 {
        ratio(self.hits(), self.total())
    }

    /// Returns the 95 % confidence interval of the accuracy, by [`wilson95`].
    pub fn interval95(&self) -> [f64; 2] {
        wilson95(self.hits(), self.total())
    }

    /// Returns the counts `[C][C]` divided by the sum of their row, which is the number of images
    /// of the true class; 0 for a class without images.
    pub fn normalized(&self) -> Vec<Vec<f64>> {
        let share_of = |row: &Vec<u64>| {
            let support = row.iter().sum();
            row.iter().map(|count| ratio(*count, support)).collect()
        };
        self.counts.iter().map(share_of).collect()
    }

    /// Returns the quality of each class.
    pub fn per_class(&self) -> Vec<Quality> {
        let quality = |class: usize| {
            let hits = self.counts[class][class];
            let support: u64 = self.counts[class].iter().sum();
            let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
            Quality {
                precision: ratio(hits, predicted),
                recall: ratio(hits, support),
                f1: ratio(2 * hits, predicted + support),
                support,
            }
        };
        (0..self.counts.len()).map(quality).collect()
    }

    /// Returns the unweighted mean over all classes, including those without images.
    pub fn macro_avg(&self) -> Quality {
        self.average(|_| 1)
    }

    /// Returns the mean over classes, weighted by their numbers of images.
    pub fn weighted_avg(&self) -> Quality {
        self.average(|class| class.support)
    }

    fn average(&self, weight: fn(&Quality) -> u64) -> Quality {
        let classes = self.per_class();
        let total: u64 = classes.iter().map(weight).sum();
        let mean = |measure: fn(&Quality) -> f64| {
            let sum: f64 = classes.iter().map(|class| weight(class) as f64 * measure(class)).sum();
            sum / total.max(1) as f64
        };
        Quality {
            precision: mean(|class| class.precision),
            recall: mean(|class| class.recall),
            f1: mean(|class| class.f1),
            support: self.total(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ```python
    /// from sklearn.metrics import classification_report, confusion_matrix  # 1.9.1
    /// t = [0]*4 + [1]*3 + [2]*2; p = [0,0,0,1, 1,1,0, 0,1]
    /// print(classification_report(t, p, labels=range(4), zero_division=0, output_dict=True))
    /// print(confusion_matrix(t, p, labels=range(4), normalize="true"))
    /// ```
    /// Class 2 is never predicted, class 3 never occurs.
    #[test]
    fn qualities_are_those_of_scikit_learn() {
        let mut confusion = Confusion::new(4);
        for (truth, predicted) in
            [0, 0, 0, 0, 1, 1, 1, 2, 2].into_iter().zip([0, 0, 0, 1, 1, 1, 0, 0, 1])
        {
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
        for (found, (precision, recall, f1, support)) in
            confusion.per_class().into_iter().zip(expected)
        {
            assert_eq!(found, Quality { precision, recall, f1, support });
        }
        near(confusion.macro_avg(), [0.275, 0.35416666666666663, 0.30952380952380953], 9);
        near(
            confusion.weighted_avg(),
            [0.43333333333333335, 0.5555555555555556, 0.48677248677248675],
            9,
        );
        let third = 1.0 / 3.0;
        let rows = [
            [0.75, 0.25, 0.0, 0.0],
            [third, 2.0 * third, 0.0, 0.0],
            [0.5, 0.5, 0.0, 0.0],
            [0.0; 4],
        ];
        assert_eq!(confusion.normalized(), rows);
    }

    fn near(found: Quality, expected: [f64; 3], support: u64) {
        for (found, expected) in [found.precision, found.recall, found.f1].into_iter().zip(expected)
        {
            assert!((found - expected).abs() < 1e-15, "{found}, {expected}");
        }
        assert_eq!(found.support, support);
    }

    #[test]
    fn an_empty_matrix_has_accuracy_zero() {
        for classes in [0, 3] {
            let confusion = Confusion::new(classes);
            assert_eq!((confusion.accuracy(), confusion.interval95()), (0.0, [0.0, 1.0]));
            for average in [confusion.macro_avg(), confusion.weighted_avg()] {
                near(average, [0.0; 3], 0);
            }
        }
    }
}
