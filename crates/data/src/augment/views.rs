//! The views of an image in evaluation. Several views are test-time augmentation: the result is the
//! mean over the views.

use super::Variation;
use crate::resize::Crop;

/// Which views of an image are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// The whole image.
    #[default]
    Whole,
    /// The whole image and its mirror image.
    Flip,
    /// The ten patches of the paper's section 4.1, "Data augmentation": the four corners and the
    /// center, then the mirror image of each. The width and height of a patch are 224/256 of those
    /// of the image.
    TenCrop,
}

impl Views {
    /// Returns the number of views of an image.
    pub fn count(self) -> usize {
        self.of(1, 1).len()
    }

    /// Returns the views of an image of `width`×`height` pixels.
    pub fn of(self, width: u32, height: u32) -> Vec<Variation> {
        let parts = match self {
            Self::Whole | Self::Flip => vec![Crop::whole(width, height)],
            Self::TenCrop => patches(width, height).to_vec(),
        };
        let views = |flip| {
            parts.iter().map(move |crop| Variation {
                crop: *crop,
                flip,
                ..Variation::none(width, height)
            })
        };
        match self {
            Self::Whole => views(false).collect(),
            Self::Flip | Self::TenCrop => views(false).chain(views(true)).collect(),
        }
    }
}

/// Returns the patches at the upper left, upper right, lower left, lower right and center.
fn patches(width: u32, height: u32) -> [Crop; 5] {
    let part = |extent: u32| (f64::from(extent) * 224.0 / 256.0).round().max(1.0) as u32;
    let (w, h) = (part(width), part(height));
    let (right, bottom) = (width - w, height - h);
    [(0, 0), (right, 0), (0, bottom), (right, bottom), (right / 2, bottom / 2)]
        .map(|(left, top)| Crop { left, top, width: w, height: h })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_patches_are_those_of_the_paper() {
        let views = Views::TenCrop.of(256, 512);
        let places: Vec<_> =
            views.iter().map(|view| (view.crop.left, view.crop.top, view.flip)).collect();
        let corners = [(0, 0), (32, 0), (0, 64), (32, 64), (16, 32)];
        let expected: Vec<_> = [false, true]
            .iter()
            .flat_map(|flip| corners.map(|(left, top)| (left, top, *flip)))
            .collect();
        assert_eq!(places, expected);
        assert!(views.iter().all(|view| (view.crop.width, view.crop.height) == (224, 448)));
    }

    #[test]
    fn views_are_inside_images_of_any_size() {
        for (views, count) in [(Views::Whole, 1), (Views::Flip, 2), (Views::TenCrop, 10)] {
            assert_eq!(views.count(), count);
            for (width, height) in [(1, 1), (2, 3), (5, 1), (333, 500), (65_535, 65_535)] {
                let shown = views.of(width, height);
                assert_eq!(shown.len(), count);
                assert_eq!(shown.iter().filter(|view| view.flip).count(), count / 2);
                for Variation { crop, .. } in shown {
                    assert!(crop.width > 0 && crop.left + crop.width <= width);
                    assert!(crop.height > 0 && crop.top + crop.height <= height);
                }
            }
        }
    }
}
