//! Calibration: whether the confidence of the predictions matches their accuracy.

use serde::Serialize;

use super::ratio;

/// The number of bins, of equal width between 0 and 1.
const BINS: usize = 15;

/// The confidence (the probability of the predicted class) compared with the accuracy: C. Guo et
/// al., "On calibration of modern neural networks", ICML 2017, with 15 bins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Calibration {
    /// The expected calibration error: the absolute difference between accuracy and mean confidence
    /// of each bin, averaged over images. NaN without images, or when a confidence is NaN.
    pub ece: f64,
    /// The bins, from low to high confidence.
    pub bins: Vec<Bin>,
}

/// The images with a confidence above `from` and at most `to`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The lower edge, exclusive.
    pub from: f64,
    /// The upper edge, inclusive.
    pub to: f64,
    /// The number of images.
    pub images: u64,
    /// Their mean confidence; NaN (`null` in JSON) without images.
    pub confidence: f64,
    /// Their accuracy; NaN (`null` in JSON) without images.
    pub accuracy: f64,
}

impl Calibration {
    /// Computes the calibration from the confidence of each image, between 0 and 1, and whether its
    /// prediction was right.
    pub fn new(answers: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let edge = |index: usize| index as f64 / BINS as f64;
        let mut sums = [(0, 0, 0.0); BINS];
        let (mut all, mut binned) = (0, 0);
        for (confidence, right) in answers {
            all += 1;
            if let Some(bin) = (0..BINS).find(|bin| confidence <= edge(bin + 1)) {
                let (images, hits, sum) = &mut sums[bin];
                *images += 1;
                *hits += u64::from(right);
                *sum += confidence;
                binned += 1;
            }
        }
        let bin = |(index, (images, hits, sum)): (usize, (u64, u64, f64))| Bin {
            from: edge(index),
            to: edge(index + 1),
            images,
            confidence: sum / images as f64,
            accuracy: hits as f64 / images as f64,
        };
        let bins: Vec<Bin> = sums.into_iter().enumerate().map(bin).collect();
        let gaps = bins.iter().filter(|bin| bin.images > 0);
        let ece =
            gaps.map(|bin| ratio(bin.images, all) * (bin.accuracy - bin.confidence).abs()).sum();
        Self { ece: if all > 0 && binned == all { ece } else { f64::NAN }, bins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(calibration: &Calibration) -> Vec<(usize, u64)> {
        let bins = calibration.bins.iter().map(|bin| bin.images).enumerate();
        bins.filter(|(_, images)| *images > 0).collect()
    }

    #[test]
    fn an_edge_belongs_to_the_bin_below() {
        for (confidence, bin) in [
            (0.0, 0),
            (1.0 / 15.0, 0),
            ((1.0 / 15.0_f64).next_up(), 1),
            (0.2, 2),
            (0.2_f64.next_up(), 3),
            (0.4, 5),
            (0.6, 8),
            (0.8, 11),
            (0.8_f64.next_up(), 12),
            (14.0 / 15.0, 13),
            (1.0, 14),
        ] {
            assert_eq!(images(&Calibration::new([(confidence, true)])), [(bin, 1)], "{confidence}");
        }
    }

    #[test]
    fn predictions_that_are_all_right_or_all_wrong() {
        for (confidence, right, ece) in [
            (1.0, true, 0.0),
            (1.0, false, 1.0),
            (0.5, true, 0.5),
            (0.5, false, 0.5),
            (0.25, false, 0.25),
        ] {
            let calibration = Calibration::new([(confidence, right); 3]);
            assert_eq!(calibration.ece, ece, "{confidence}, {right}");
            let bin = calibration.bins.iter().find(|bin| bin.images > 0).unwrap();
            assert_eq!((bin.confidence, bin.accuracy), (confidence, f64::from(u8::from(right))));
        }
    }

    /// The errors of two bins in opposite directions do not cancel.
    #[test]
    fn the_error_is_a_mean_of_distances() {
        let calibration = Calibration::new([(0.5, true), (0.9, false), (0.9, true), (0.9, true)]);
        assert!((calibration.ece - (0.25 * 0.5 + 0.75 * (0.9 - 2.0 / 3.0))).abs() < 1e-15);
    }

    #[test]
    fn a_nan_confidence_gives_a_nan_error() {
        assert!(Calibration::new([]).ece.is_nan());
        let calibration = Calibration::new([(1.0, true), (f64::NAN, false)]);
        assert!(calibration.ece.is_nan());
        assert_eq!(images(&calibration), [(14, 1)]);
    }
}
