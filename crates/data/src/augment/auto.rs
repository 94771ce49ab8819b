//! Automatic augmentation: `torchvision.transforms.RandAugment` (Cubuk et al. 2020) and
//! `TrivialAugmentWide` (Müller and Hutter 2021) choose random operations.

use rand::{RngExt, seq::IndexedRandom};
use serde::{Deserialize, Serialize};

use super::operation::{Kind, Operation};

/// How operations are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoAugment {
    /// Two operations of one fixed magnitude.
    RandAugment,
    /// One operation of any magnitude, from wider ranges.
    TrivialAugment,
}

/// Number of magnitudes of an operation.
pub const MAGNITUDES: u32 = 31;

impl AutoAugment {
    /// Draws the operations for an image of `size`×`size` pixels. `magnitude` is that of
    /// RandAugment, below [`MAGNITUDES`].
    pub fn random(self, magnitude: u32, size: u32, rng: &mut impl RngExt) -> [Operation; 2] {
        let mut draw = |magnitude: Option<u32>| {
            let kind = *Kind::ALL.choose(rng).unwrap_or(&Kind::Identity);
            let magnitude = magnitude.unwrap_or_else(|| rng.random_range(0..MAGNITUDES));
            let negative = kind.is_signed() && rng.random_bool(0.5);
            let magnitude = self.magnitude(kind, magnitude, size);
            Operation { kind, magnitude: if negative { -magnitude } else { magnitude } }
        };
        match self {
            Self::RandAugment => [draw(Some(magnitude)), draw(Some(magnitude))],
            Self::TrivialAugment => {
                [draw(None), Operation { kind: Kind::Identity, magnitude: 0.0 }]
            }
        }
    }

    /// Returns the magnitude number `index`, below [`MAGNITUDES`], of a kind of operation for an
    /// image of `size`×`size` pixels, without its sign.
    pub fn magnitude(self, kind: Kind, index: u32, size: u32) -> f64 {
        let is_wide = self == Self::TrivialAugment;
        let to = |narrow: f64, wide: f64| evenly(0.0, if is_wide { wide } else { narrow }, index);
        match kind {
            Kind::Identity | Kind::AutoContrast | Kind::Equalize => 0.0,
            Kind::ShearX | Kind::ShearY => to(0.3, 0.99),
            Kind::TranslateX | Kind::TranslateY => to(150.0 / 331.0 * f64::from(size), 32.0),
            Kind::Rotate => to(30.0, 135.0),
            Kind::Brightness | Kind::Color | Kind::Contrast | Kind::Sharpness => to(0.9, 0.99),
            Kind::Posterize => {
                let fewer_bits = if is_wide { 6.0 } else { 4.0 };
                let steps = f64::from(MAGNITUDES - 1) / fewer_bits;
                8.0 - f64::from((f64::from(index) / steps) as f32).round_ties_even()
            }
            Kind::Solarize => evenly(255.0, 0.0, index),
        }
    }
}

/// Element `index` of `torch.linspace(start, end, 31)`: in f32, with products that are not rounded.
fn evenly(start: f64, end: f64, index: u32) -> f64 {
    let (start, end) = (start as f32, end as f32);
    let last = MAGNITUDES - 1;
    let step = f64::from((end - start) / last as f32);
    let value = match index < MAGNITUDES / 2 {
        true => f64::from(start) + step * f64::from(index),
        false => f64::from(end) - step * f64::from(last - index),
    };
    f64::from(value as f32)
}

#[cfg(test)]
mod tests {
    use alexnet_core::rng::{Purpose, generator};

    use super::*;

    /// Each kind, sign and magnitude has the probability that it has in torchvision.
    #[test]
    fn operations_are_drawn_uniformly() {
        const DRAWS: usize = 28_000;
        for auto in [AutoAugment::RandAugment, AutoAugment::TrivialAugment] {
            let mut rng = generator(1, Purpose::Augment, 0, 0);
            let drawn: Vec<[Operation; 2]> =
                (0..DRAWS).map(|_| auto.random(9, 224, &mut rng)).collect();
            for at in 0..if auto == AutoAugment::RandAugment { 2 } else { 1 } {
                for kind in Kind::ALL {
                    let magnitudes: Vec<f64> = drawn
                        .iter()
                        .map(|operations| operations[at])
                        .filter(|operation| operation.kind == kind)
                        .map(|operation| operation.magnitude)
                        .collect();
                    assert!(magnitudes.len().abs_diff(DRAWS / 14) < 200, "{kind:?}");
                    let negative = magnitudes.iter().filter(|value| **value < 0.0).count();
                    let expected = if kind.is_signed() { magnitudes.len() / 2 } else { 0 };
                    // One of 31 magnitudes of TrivialAugment is 0.
                    assert!(negative.abs_diff(expected) < 120, "{kind:?}: {negative}");
                    let mut distinct: Vec<u64> =
                        magnitudes.iter().map(|value| value.abs().to_bits()).collect();
                    distinct.sort_unstable();
                    distinct.dedup();
                    let expected = match (auto, kind) {
                        (_, Kind::Identity | Kind::AutoContrast | Kind::Equalize) => 1,
                        (AutoAugment::RandAugment, _) => 1,
                        (AutoAugment::TrivialAugment, Kind::Posterize) => 7,
                        (AutoAugment::TrivialAugment, _) => 31,
                    };
                    assert_eq!(distinct.len(), expected, "{kind:?}");
                }
            }
        }
    }
}
