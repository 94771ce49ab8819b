//! Weights of the classes in the loss, as `torch.nn.CrossEntropyLoss(weight=…)` defines it.
//!
//! With targets t and weights w, the loss of an image is `-Σ w·t·log softmax(x)` over the classes.
//! The weights are therefore factors of the targets, and engines need not know them. The divisor of
//! the mean over a step is as in PyTorch: for class labels, also smoothed ones, the sum of the
//! weights of the images' classes; for the probabilities of mixup and CutMix, the number of images.

use crate::{Error, Result, dataset::Dataset};

/// The weight of each class, a finite number above 0.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassWeights(Vec<f32>);

impl ClassWeights {
    /// Uses these weights, one for each class, in the order of the classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if their number is not `classes`, or one is not a finite number above 0.
    pub fn new(weights: Vec<f32>, classes: usize) -> Result<Self> {
        let refuse = |value, reason| Err(Error::Invalid { field: "class_weights", value, reason });
        if weights.len() != classes {
            let value = format!("a list of {} for {classes} classes", weights.len());
            return refuse(value, "there must be one weight for each class");
        }
        match weights.iter().find(|weight| !weight.is_finite() || **weight <= 0.0) {
            Some(weight) => refuse(weight.to_string(), "each weight must be a number above 0"),
            None => Ok(Self(weights)),
        }
    }

    /// Returns weights for which each class has the same total weight: `N / (C·n)` for a class with n
    /// of the N training images (`"balanced"` of scikit-learn). The mean weight of the images is 1.
    pub fn balanced(dataset: &Dataset) -> Self {
        let mut sizes = vec![0_usize; dataset.classes.len()];
        dataset.train.iter().for_each(|item| sizes[dataset.images.class(*item)] += 1);
        let share = dataset.train.len() as f64 / sizes.len() as f64;
        // A class without images has no use for its weight.
        Self(sizes.into_iter().map(|size| (share / size.max(1) as f64) as f32).collect())
    }

    /// Returns the weight of each class.
    pub fn values(&self) -> &[f32] {
        &self.0
    }

    /// Multiplies the targets `[N, C]` by the weights.
    pub fn apply(&self, targets: &mut [f32]) {
        for row in targets.chunks_exact_mut(self.0.len()) {
            row.iter_mut().zip(&self.0).for_each(|(target, weight)| *target *= weight);
        }
    }

    /// Returns the weight of each image whose targets `[N, C]` are a class label: 0 without a target.
    pub fn of_labels(&self, targets: &[f32]) -> Vec<f32> {
        let weight = |row: &[f32]| {
            let class = row.iter().position(|target| *target != 0.0);
            class.map_or(0.0, |class| self.0[class])
        };
        targets.chunks_exact(self.0.len()).map(weight).collect()
    }
}

#[cfg(test)]
mod tests {
    use alexnet_core::{Logits, loss::cross_entropy, sum_order::MicroBatch};
    use serde::Deserialize;

    use super::*;
    use crate::{
        augment::mix::smooth_labels,
        fixtures::{images, tree},
        split::SplitOptions,
    };

    /// Written by `tests/goldens/class_weights.py`.
    #[derive(Deserialize)]
    struct Golden {
        classes: usize,
        labels: Vec<usize>,
        weights: Vec<f32>,
        balanced: Vec<f64>,
        logits: Vec<f32>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        mixed: bool,
        smoothing: f64,
        loss: f64,
        gradient: Vec<f64>,
    }

    fn golden() -> Golden {
        let text = include_str!("../../tests/goldens/class_weights.json");
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn losses_and_gradients_are_those_of_pytorch() {
        let Golden { classes, labels, weights, logits, cases, .. } = golden();
        let weights = ClassWeights::new(weights, classes).unwrap();
        assert_eq!(cases.len(), 4);
        for Case { mixed, smoothing, loss, gradient } in cases {
            let mut targets = vec![0.0; labels.len() * classes];
            for (row, label) in targets.chunks_exact_mut(classes).zip(&labels) {
                row[*label] = 1.0;
            }
            let of_labels = weights.of_labels(&targets);
            smooth_labels(&mut targets, classes, smoothing);
            if mixed {
                let own = targets.clone();
                let n = own.len();
                for (at, target) in targets.iter_mut().enumerate() {
                    *target = 0.75 * own[at] + 0.25 * own[(at + n - classes) % n];
                }
            }
            weights.apply(&mut targets);
            let divisor = match mixed {
                true => labels.len() as f64,
                false => of_labels.iter().map(|weight| f64::from(*weight)).sum(),
            };
            let micro_batch = MicroBatch { first: 0, images_per_step: labels.len(), divisor };
            let logits = Logits { values: logits.clone(), classes };
            let (found, slopes) = cross_entropy(&logits, &targets, Some(micro_batch));
            // Targets are rounded to f32, whose rounding error is 6e-8.
            assert!((found - loss).abs() < 1e-6 * loss, "{mixed} {smoothing}: {found}, {loss}");
            for (found, expected) in slopes.values.iter().zip(&gradient) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 2e-7, "{mixed} {smoothing}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn balanced_weights_are_those_of_scikit_learn() {
        let Golden { labels, balanced, .. } = golden();
        let size = |class| labels.iter().filter(|label| **label == class).count();
        let names = ["a", "b", "c", "d"];
        let root = tree(names.iter().enumerate().flat_map(|(k, name)| images(name, size(k))));
        let options = SplitOptions { val_fraction: 0.0, ..SplitOptions::default() };
        let mut dataset = Dataset::open(root.path(), &options).unwrap();
        for (found, expected) in ClassWeights::balanced(&dataset).values().iter().zip(&balanced) {
            assert!((f64::from(*found) - expected).abs() < 1e-6 * expected, "{found}, {expected}");
        }
        // Validation images do not count.
        dataset.val = dataset.train.split_off(4);
        assert_eq!(ClassWeights::balanced(&dataset).values(), [0.5, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn weights_that_are_impossible_are_refused() {
        let refused = |weights: &[f32], reason: &str| {
            let error = ClassWeights::new(weights.to_vec(), 2).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        refused(&[1.0, 2.0, 3.0], "a list of 3 for 2 classes");
        for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            refused(&[1.0, weight], "must be a number above 0");
        }
    }
}
