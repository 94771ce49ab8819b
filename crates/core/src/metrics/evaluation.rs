//! Metrics of the predictions for a set of images.

use serde::Serialize;

use super::{
    Calibration, Confusion, Quality, argmax,
    ranking::{compare, rank},
    ratio, top_k,
};
use crate::{
    Logits,
    loss::{log_softmax, log_sum_exp, softmax},
};

/// Collects the predictions for a set of images, batch by batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    loss: f64,
    confusion: Confusion,
    answers: Vec<Answer>,
}

/// The prediction for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The true class.
    pub truth: usize,
    /// The most probable class.
    pub predicted: usize,
    /// The probability of the predicted class, which is the confidence.
    pub probability: f64,
    /// The probability of the true class.
    pub probability_of_truth: f64,
    /// The number of classes that are more probable than the true one.
    pub rank_of_truth: usize,
}

impl Answer {
    /// Whether the most probable class is the true one.
    pub fn is_right(&self) -> bool {
        self.predicted == self.truth
    }
}

/// An [`Evaluation`] with the names of its classes: the JSON of `evaluate`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Returns the number of images.
    pub images: u64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// The accuracy.
    pub top1: f64,
    /// The share of images whose true class is among the five most probable, if there are more than
    /// five classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// The 95 % confidence interval of the accuracy.
    pub interval95: [f64; 2],
    /// One entry per class, in the order of the logits.
    pub per_class: Vec<ClassReport>,
    /// The unweighted mean over classes.
    pub macro_avg: Quality,
    /// The mean over classes, weighted by their numbers of images.
    pub weighted_avg: Quality,
    /// The confusion matrix; rows are the true classes, columns the predicted ones.
    pub confusion: Confusion,
    /// The confusion matrix with rows that sum to 1.
    pub confusion_normalized: Vec<Vec<f64>>,
    /// Confidence compared with accuracy.
    pub calibration: Calibration,
}

/// A class of a [`Report`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub class: String,
    /// Its quality.
    #[serde(flatten)]
    pub quality: Quality,
}

impl Evaluation {
    /// Creates an empty evaluation for `classes` classes.
    pub fn new(classes: usize) -> Self {
        Self { loss: 0.0, confusion: Confusion::new(classes), answers: vec![] }
    }

    /// Adds a batch: logits and targets, both `[N, C]`. The true class is the largest of the target
    /// row.
    pub fn add(&mut self, logits: &Logits, targets: &[f32]) {
        self.add_views(logits, targets, 1);
    }

    /// Adds a batch with `views` consecutive rows for each image (test-time augmentation): logits
    /// and targets, both `[N·views, C]`. The probabilities of an image are the means over its
    /// views, and its loss is computed from these means.
    pub fn add_views(&mut self, logits: &Logits, targets: &[f32], views: usize) {
        let each = views * logits.classes;
        for (rows, targets) in logits.values.chunks_exact(each).zip(targets.chunks_exact(each)) {
            let rows: Vec<&[f32]> = rows.chunks_exact(logits.classes).collect();
            let target = &targets[..logits.classes];
            let probabilities = mean_softmax(&rows);
            let truth = argmax(target);
            let (predicted, rank_of_truth) = match rows[..] {
                // Logits can differ where their probabilities are rounded to equal numbers or are
                // NaN.
                [row] => (argmax(row), rank(row, truth)),
                _ => (argmax(&probabilities), rank(&probabilities, truth)),
            };
            self.loss += mean_loss(&rows, target);
            self.confusion.add(truth, predicted);
            self.answers.push(Answer {
                truth,
                predicted,
                probability: probabilities[predicted],
                probability_of_truth: probabilities[truth],
                rank_of_truth,
            });
        }
    }

    /// Returns the number of images.
    pub fn images(&self) -> u64 {
        self.confusion.total()
    }

    /// Returns the mean cross-entropy over all images; NaN without images.
    pub fn loss(&self) -> f64 {
        self.loss / self.images() as f64
    }

    /// Returns the share of images whose true class is among the five most probable; `None` if there
    /// are at most five classes.
    pub fn top5(&self) -> Option<f64> {
        let hits = self.answers.iter().filter(|answer| answer.rank_of_truth < 5).count();
        (self.confusion.counts.len() > 5).then(|| ratio(hits as u64, self.images()))
    }

    /// Returns the confusion matrix.
    pub fn confusion(&self) -> &Confusion {
        &self.confusion
    }

    /// Returns the predictions in the order in which they were added.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Returns the indices of the wrong predictions, the most confident first; equal confidences in
    /// the order in which they were added.
    pub fn mistakes(&self) -> Vec<usize> {
        let mut wrong: Vec<usize> =
            (0..self.answers.len()).filter(|i| !self.answers[*i].is_right()).collect();
        wrong.sort_by(|a, b| compare(self.answers[*b].probability, self.answers[*a].probability));
        wrong
    }

    /// Returns the report. `classes` are the names of the classes in the order of the logits.
    pub fn report(&self, classes: &[String]) -> Report {
        let class = |(name, quality): (&String, _)| ClassReport { class: name.clone(), quality };
        let confidences = self.answers.iter().map(|answer| (answer.probability, answer.is_right()));
        Report {
            images: self.images(),
            loss: self.loss(),
            top1: self.confusion.accuracy(),
            top5: self.top5(),
            interval95: self.confusion.interval95(),
            per_class: classes.iter().zip(self.confusion.per_class()).map(class).collect(),
            macro_avg: self.confusion.macro_avg(),
            weighted_avg: self.confusion.weighted_avg(),
            confusion: self.confusion.clone(),
            confusion_normalized: self.confusion.normalized(),
            calibration: Calibration::new(confidences),
        }
    }
}

/// Returns all classes of an image with several rows of logits (test-time augmentation), with the
/// means of their softmax probabilities, the most probable first; equal ones in the order of their
/// indices. One row gives the result of [`top_k`].
///
/// # Panics
/// If there is no row.
pub fn ranked(rows: &[&[f32]]) -> Vec<(usize, f64)> {
    if let [row] = rows {
        return top_k(row, row.len());
    }
    let mut classes: Vec<(usize, f64)> = mean_softmax(rows).into_iter().enumerate().collect();
    classes.sort_by(|a, b| compare(b.1, a.1));
    classes
}

fn mean_softmax(rows: &[&[f32]]) -> Vec<f64> {
    let mut mean = vec![0.0; rows[0].len()];
    for row in rows {
        mean.iter_mut().zip(softmax(row)).for_each(|(sum, probability)| *sum += probability);
    }
    mean.iter_mut().for_each(|sum| *sum /= rows.len() as f64);
    mean
}

/// Returns `-Σ t·ln(mean of softmax(x) over rows)`. It computes with logarithms, so that a tiny
/// probability does not give an infinite loss.
fn mean_loss(rows: &[&[f32]], target: &[f32]) -> f64 {
    let logarithms: Vec<Vec<f64>> = rows.iter().map(|row| log_softmax(row)).collect();
    let views = (rows.len() as f64).ln();
    let log_mean = |class: usize| log_sum_exp(logarithms.iter().map(|row| row[class])) - views;
    target.iter().enumerate().map(|(class, t)| f64::from(*t) * -log_mean(class)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::row_loss;

    const INF: f32 = f32::INFINITY;

    fn logits(values: &[f32], classes: usize) -> Logits {
        Logits { values: values.to_vec(), classes }
    }

    #[test]
    fn the_loss_is_a_mean_over_images_not_over_batches() {
        let mut evaluation = Evaluation::new(2);
        assert!(evaluation.loss().is_nan());
        let three = [3f32.ln(), 0.0];
        // Probabilities 3/4, 1/4; two images of class 0, then one with a soft target whose largest
        // class is 1.
        evaluation.add(&logits(&[three, three].concat(), 2), &[1.0, 0.0, 1.0, 0.0]);
        evaluation.add(&logits(&three, 2), &[0.25, 0.75]);
        let (likely, unlikely) = ((4f64 / 3.0).ln(), 4f64.ln());
        let loss = (2.0 * likely + 0.25 * likely + 0.75 * unlikely) / 3.0;
        assert!((evaluation.loss() - loss).abs() < 1e-7);
        assert_eq!(evaluation.images(), 3);
        assert_eq!(evaluation.confusion().counts, [[2, 0], [1, 0]]);
    }

    /// ```python
    /// import numpy as np
    /// from sklearn.metrics import classification_report, confusion_matrix, log_loss  # 1.9.1
    /// i, j = np.indices((40, 4))
    /// logits = (i * 7 + j * j * 5 + i * j * 3) % 23 / 4
    /// truth = np.where(np.arange(40) % 3 == 0, 0, np.argmax(logits, 1) % 3)
    /// p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    /// predicted = p.argmax(1)
    /// print(classification_report(truth, predicted, labels=range(4), zero_division=0, output_dict=True))
    /// print(confusion_matrix(truth, predicted, labels=range(4), normalize="true").tolist())
    /// print(log_loss(truth, p, labels=range(4)))
    /// confidence, right = p.max(1), predicted == truth
    /// edges = np.arange(16) / 15
    /// ece = 0
    /// for low, high in zip(edges, edges[1:]):
    ///     inside = (low < confidence) & (confidence <= high)
    ///     if inside.any():
    ///         print(inside.sum(), confidence[inside].mean(), right[inside].mean())
    ///         ece += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    /// print(ece)
    /// ```
    #[test]
    fn a_report_equals_scikit_learn_and_numpy() {
        let value = |i: usize, j: usize| ((i * 7 + j * j * 5 + i * j * 3) % 23) as f32 / 4.0;
        let mut evaluation = Evaluation::new(4);
        for i in 0..40 {
            let row = [0, 1, 2, 3].map(|j| value(i, j));
            let truth = if i % 3 == 0 { 0 } else { argmax(&row) % 3 };
            evaluation
                .add(&logits(&row, 4), &[0, 1, 2, 3].map(|j| f32::from(u8::from(j == truth))));
        }
        let report = evaluation.report(&["a", "b", "c", "d"].map(String::from));
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-14, "{found}, {expected}");
        };
        let is = |found: Quality, expected: [f64; 3], support| {
            [found.precision, found.recall, found.f1]
                .into_iter()
                .zip(expected)
                .for_each(|(a, b)| near(a, b));
            assert_eq!(found.support, support);
        };
        is(report.per_class[0].quality, [1.0, 0.46153846153846156, 0.631578947368421], 26);
        is(report.per_class[1].quality, [0.7, 1.0, 0.8235294117647058], 7);
        is(report.per_class[2].quality, [0.6363636363636364, 1.0, 0.7777777777777778], 7);
        is(report.per_class[3].quality, [0.0; 3], 0);
        is(report.macro_avg, [0.5840909090909091, 0.6153846153846154, 0.5582215342277261], 40);
        is(report.weighted_avg, [0.8838636363636363, 0.65, 0.6907550739594083], 40);
        let first =
            [0.46153846153846156, 0.11538461538461539, 0.15384615384615385, 0.2692307692307692];
        assert_eq!(
            report.confusion_normalized,
            [first, [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0; 4]]
        );
        near(report.loss, 1.560131554942478);
        near(report.top1, 0.65);
        for (bin, images, confidence, accuracy) in [
            (6, 5, 0.422741525481275, 0.8),
            (7, 4, 0.48612363800942565, 0.75),
            (8, 10, 0.5675582590285321, 0.9),
            (9, 9, 0.6221180812277921, 0.4444444444444444),
            (11, 8, 0.7655443445370684, 0.5),
            (12, 4, 0.8016209064610393, 0.5),
        ] {
            let bin = &report.calibration.bins[bin];
            assert_eq!(bin.images, images);
            near(bin.confidence, confidence);
            near(bin.accuracy, accuracy);
        }
        near(report.calibration.ece, 0.2799029085865359);
    }

    #[test]
    fn views_are_averaged_as_probabilities() {
        let [sure, doubtful, other] = [[9f32.ln(), 0.0], [3f32.ln(), 0.0], [0.0, 3f32.ln()]];
        let mut evaluation = Evaluation::new(2);
        // The means are 0.825 and 0.175, then 0.5 and 0.5, where the first class is predicted.
        let rows = [sure, doubtful, doubtful, other].concat();
        evaluation.add_views(&logits(&rows, 2), &[0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 0.0], 2);
        let expected = [(1, 0, 0.825, 0.175), (0, 0, 0.5, 0.5)];
        assert_eq!(evaluation.images(), 2);
        for (found, (truth, predicted, probability, of_truth)) in
            evaluation.answers().iter().zip(expected)
        {
            assert_eq!((found.truth, found.predicted), (truth, predicted));
            assert!((found.probability - probability).abs() < 1e-7);
            assert!((found.probability_of_truth - of_truth).abs() < 1e-7);
        }
        assert!((evaluation.loss() + (0.175f64.ln() + 0.5f64.ln()) / 2.0).abs() < 1e-7);
    }

    /// ```python
    /// import torch
    /// i, j = torch.arange(30)[:, None], torch.arange(8)[None]
    /// logits = (i * 7 + j * j * 5 + i * j * 3) % 137 / 4
    /// truth = torch.arange(30) * 5 % 8
    /// # No row has equal logits at the fifth and the sixth place.
    /// print(logits.topk(5).indices.eq(truth[:, None]).any(1).sum())
    /// ```
    #[test]
    fn the_true_class_is_among_the_five_most_probable() {
        let value = |i: usize, j: usize| ((i * 7 + j * j * 5 + i * j * 3) % 137) as f32 / 4.0;
        let expected = Some(17.0 / 30.0);
        let (mut all, mut five, mut views) =
            (Evaluation::new(8), Evaluation::new(5), Evaluation::new(8));
        for i in 0..30 {
            let row: Vec<f32> = (0..8).map(|j| value(i, j)).collect();
            let mut target = vec![0.0; 8];
            target[i * 5 % 8] = 1.0;
            all.add(&logits(&row, 8), &target);
            views.add_views(&logits(&row.repeat(2), 8), &target.repeat(2), 2);
            five.add(&logits(&row[..5], 5), &[0.0, 0.0, 1.0, 0.0, 0.0]);
        }
        assert_eq!(all.top5(), expected);
        assert_eq!(views.top5(), expected);
        assert_eq!((all.report(&[]).top5, five.top5()), (expected, None));
        let right = all.answers().iter().filter(|answer| answer.rank_of_truth == 0).count();
        assert_eq!(all.confusion().accuracy(), right as f64 / 30.0);
    }

    #[test]
    fn classes_are_ranked_by_their_mean_probability() {
        let (sure, doubtful) = ([0.0, 3.0, 1.0], [2.0, 0.5, 0.0]);
        assert_eq!(ranked(&[&sure]), top_k(&sure, 3));
        let mean = |class: usize| (softmax(&sure)[class] + softmax(&doubtful)[class]) / 2.0;
        let expected = [1, 0, 2].map(|class| (class, mean(class)));
        assert_eq!(ranked(&[&sure, &doubtful]), expected);
        assert_eq!(ranked(&[&[1.0, 1.0], &[1.0, 1.0]]), [(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn one_view_gives_the_result_of_a_plain_image() {
        let target = [0.2, 0.5, 0.3];
        for row in [[0.1, 0.7, -0.3], [1e30, 0.0, -1e30], [1e-30, 2e-30, 0.0]] {
            let mut evaluation = Evaluation::new(3);
            evaluation.add(&logits(&row, 3), &target);
            assert_eq!(evaluation.loss(), row_loss(&row, &target));
            assert_eq!(evaluation.answers()[0].predicted, argmax(&row));
            assert_eq!(evaluation.answers()[0].probability_of_truth, softmax(&row)[1]);

            let mut twice = Evaluation::new(3);
            twice.add_views(&logits(&[row, row].concat(), 3), &[target, target].concat(), 2);
            assert!((twice.loss() - evaluation.loss()).abs() <= 1e-15 * evaluation.loss());
        }
    }

    #[test]
    fn losses_of_certain_predictions_are_finite() {
        let mut evaluation = Evaluation::new(2);
        evaluation.add(&logits(&[2e3, 0.0, 2e3, 0.0], 2), &[1.0, 0.0, 0.0, 1.0]);
        let [right, wrong] = [evaluation.answers()[0], evaluation.answers()[1]];
        assert_eq!((right.probability, right.probability_of_truth), (1.0, 1.0));
        assert_eq!((wrong.probability, wrong.probability_of_truth), (1.0, 0.0));
        assert_eq!(evaluation.loss(), 1e3);
        assert_eq!(evaluation.report(&[]).calibration.ece, 0.5);

        let mut views = Evaluation::new(2);
        views.add_views(&logits(&[2e3, 0.0, 3e3, 0.0], 2), &[0.0, 1.0, 0.0, 1.0], 2);
        assert!((views.loss() - (2e3 + 2f64.ln())).abs() < 1e-9);
    }

    #[test]
    fn nan_logits_give_a_nan_report() {
        for views in [1, 2] {
            let mut evaluation = Evaluation::new(2);
            evaluation.add_views(
                &logits(&[f32::NAN, 1.0, 2.0, 1.0], 2),
                &[1.0, 0.0, 1.0, 0.0],
                views,
            );
            assert!(evaluation.loss().is_nan() && evaluation.report(&[]).calibration.ece.is_nan());
        }
    }

    #[test]
    fn mistakes_are_sorted_by_confidence() {
        let mut evaluation = Evaluation::new(2);
        let row = |probable: f32| [probable, 0.0];
        let rows = [row(1.0), row(3.0), row(f32::NAN), row(2.0), row(3.0), row(9.0)].concat();
        // All but the last are of class 1.
        evaluation.add(&logits(&rows, 2), &[[0.0, 1.0].repeat(5), vec![1.0, 0.0]].concat());
        // In the row with a NaN, the other class is the largest; it is the true class, so this row
        // is no mistake.
        assert_eq!(evaluation.mistakes(), [1, 4, 3, 0]);
        assert_eq!(Evaluation::new(2).mistakes(), [] as [usize; 0]);
    }

    #[test]
    fn the_report_is_the_documented_json() {
        let mut evaluation = Evaluation::new(2);
        evaluation.add(&logits(&[0.0, 0.0, -INF, 0.0], 2), &[1.0, 0.0, 0.0, 1.0]);
        evaluation.loss = 0.5;
        let report = evaluation.report(&["daisy".into(), "roses".into()]);
        let mut json = serde_json::to_value(&report).unwrap();
        let bins = json["calibration"]["bins"].take();
        let quality = |support| serde_json::json!({"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": support});
        let class = |name: &str| serde_json::json!({"class": name, "precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1});
        let expected = serde_json::json!({
            "images": 2,
            "loss": 0.25,
            "top1": 1.0,
            "interval95": report.interval95,
            "per_class": [class("daisy"), class("roses")],
            "macro_avg": quality(2),
            "weighted_avg": quality(2),
            "confusion": [[1, 0], [0, 1]],
            "confusion_normalized": [[1.0, 0.0], [0.0, 1.0]],
            "calibration": {"ece": 0.25, "bins": null},
        });
        assert_eq!(json, expected);
        let bin = |index: f64, images: u64, confidence: Option<f64>, accuracy: Option<f64>| {
            let (from, to) = (index / 15.0, (index + 1.0) / 15.0);
            serde_json::json!({"from": from, "to": to, "images": images, "confidence": confidence, "accuracy": accuracy})
        };
        assert_eq!(bins[0], bin(0.0, 0, None, None));
        assert_eq!(bins[7], bin(7.0, 1, Some(0.5), Some(1.0)));
        assert_eq!(bins[14], bin(14.0, 1, Some(1.0), Some(1.0)));
    }
}
