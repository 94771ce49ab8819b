//! The views of an image in evaluation. Several views are test-time augmentation: the result is the
//! mean over the views.

use super::Variation;
use crate::{
    framing::{Framing, Window, middle},
    resize::Crop,
};

/// Which views of an image are evaluated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Views {
    /// The whole image, or its center ([`Framing::resize_crop`]).
    #[default]
    Whole,
    /// The same and its mirror image.
    Flip,
    /// The ten patches of the paper's section 4.1, "Data augmentation": the four corners and the
    /// center, then the mirror image of each. Of a whole image, the width and height of a patch are
    /// 224/256 of those of the image. With [`Framing::resize_crop`], patches of the size of the
    /// network's input are taken from the center square of the resized image, as in the paper:
    /// `Resize(n)`, `CenterCrop(n)`, `FiveCrop(size)`.
    TenCrop,
}

impl Views {
    /// Returns the number of views of an image.
    pub fn count(self) -> usize {
        match self {
            Self::Whole => 1,
            Self::Flip => 2,
            Self::TenCrop => 10,
        }
    }

    /// Returns the views of an image of `width`×`height` pixels.
    ///
    /// # Panics
    /// If the shorter side is resized to less than the size of the network's input.
    pub fn of(self, [width, height]: [u32; 2], framing: Framing) -> Vec<Variation> {
        let whole = Variation::none(width, height);
        let size = framing.size as u32;
        let windows = |short: u32| match self {
            Self::Whole | Self::Flip => vec![Window::center([width, height], short, size)],
            Self::TenCrop => {
                let square = Window::center([width, height], short, short);
                let rest = short - size;
                let positions = positions([rest; 2], [middle(rest); 2]);
                positions.map(|position| square.square(position, size)).into()
            }
        };
        let parts: Vec<Variation> = match (framing.resize_crop, self) {
            (Some(short), _) => {
                let view = |window| Variation { window: Some(window), ..whole };
                windows(short).into_iter().map(view).collect()
            }
            (None, Self::Whole | Self::Flip) => vec![whole],
            (None, Self::TenCrop) => {
                patches(width, height).map(|crop| Variation { crop, ..whole }).into()
            }
        };
        let views = |flip| parts.iter().map(move |view| Variation { flip, ..*view });
        match self {
            Self::Whole => views(false).collect(),
            Self::Flip | Self::TenCrop => views(false).chain(views(true)).collect(),
        }
    }
}

/// Returns the patches of 224/256 of the width and height, in the order of [`positions`].
fn patches(width: u32, height: u32) -> [Crop; 5] {
    let part = |extent: u32| (f64::from(extent) * 224.0 / 256.0).round().max(1.0) as u32;
    let (w, h) = (part(width), part(height));
    let corner = [width - w, height - h];
    positions(corner, corner.map(|rest| rest / 2)).map(|[left, top]| Crop {
        left,
        top,
        width: w,
        height: h,
    })
}

/// Returns left and top of a part at the upper left, upper right, lower left, lower right and
/// center, given those of the last two.
fn positions([right, bottom]: [u32; 2], center: [u32; 2]) -> [[u32; 2]; 5] {
    [[0, 0], [right, 0], [0, bottom], [right, bottom], center]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_patches_are_those_of_the_paper() {
        let views = Views::TenCrop.of([256, 512], Framing::whole(224));
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
                for resize_crop in [None, Some(224), Some(225), Some(300)] {
                    let shown = views.of([width, height], Framing { size: 224, resize_crop });
                    assert_eq!(shown.len(), count);
                    assert_eq!(shown.iter().filter(|view| view.flip).count(), count / 2);
                    for Variation { crop, window, .. } in shown {
                        assert!(crop.width > 0 && crop.left + crop.width <= width);
                        assert!(crop.height > 0 && crop.top + crop.height <= height);
                        assert_eq!(window.is_some(), resize_crop.is_some());
                        if let Some(Window { resized: [width, height], part }) = window {
                            assert_eq!((part.width, part.height), (224, 224));
                            assert!(part.left + 224 <= width && part.top + 224 <= height);
                        }
                    }
                }
            }
        }
    }
}
