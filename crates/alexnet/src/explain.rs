//! Explanations: the regions of an image that raise the probability of a class.

use std::collections::BTreeSet;

use alexnet_core::{
    Array, Backend, Error as CoreError, Images, Logits, Model, Node, Normalization, Op, Options,
    Parameters, ReluRule, State, Topology, loss::softmax,
};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    prediction::{ClassProbability, Prediction},
};

/// A method of explanation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Method {
    /// Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): the channels of a convolution's output,
    /// weighted by the spatial mean of their gradients
    #[default]
    #[serde(rename = "gradcam")]
    #[cfg_attr(feature = "clap", value(name = "gradcam"))]
    GradCam,
    /// Guided backpropagation (Springenberg et al. 2014, arXiv 1412.6806): the gradient of the
    /// pixels through positive contributions only
    #[serde(rename = "guided")]
    Guided,
    /// The product of guided backpropagation and Grad-CAM
    #[serde(rename = "guided-gradcam")]
    #[cfg_attr(feature = "clap", value(name = "guided-gradcam"))]
    GuidedGradCam,
    /// Occlusion (Zeiler and Fergus 2014, arXiv 1311.2901): how much the probability drops when a
    /// gray square covers a region
    #[serde(rename = "occlusion")]
    Occlusion,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::GradCam, Self::Guided, Self::GuidedGradCam, Self::Occlusion];

    /// `gradcam`, `guided`, `guided-gradcam` or `occlusion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::GradCam => "gradcam",
            Self::Guided => "guided",
            Self::GuidedGradCam => "guided-gradcam",
            Self::Occlusion => "occlusion",
        }
    }

    /// Returns the number of images that the network computes for an explanation, whose input has
    /// `size`×`size` pixels. A backward pass counts as two.
    pub fn cost(self, size: usize) -> usize {
        let [prediction, inspection] = [1, 3];
        prediction
            + match self {
                Self::GradCam | Self::Guided => inspection,
                Self::GuidedGradCam => 2 * inspection,
                Self::Occlusion => 1 + starts(size).count().pow(2),
            }
    }
}

/// One of the five convolutional layers, after its ReLU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum ConvLayer {
    /// The first
    Conv1,
    /// The second
    Conv2,
    /// The third
    Conv3,
    /// The fourth
    Conv4,
    /// The fifth, before its pooling
    #[default]
    Conv5,
}

impl ConvLayer {
    /// `conv1` to `conv5`.
    pub fn name(self) -> &'static str {
        ["conv1", "conv2", "conv3", "conv4", "conv5"][self as usize]
    }

    /// Returns the name of its ReLU in a topology.
    ///
    /// # Errors
    /// [`CoreError::Topology`] when the network has no such layer.
    pub fn node(self, topology: &Topology) -> Result<&str> {
        let convolutions = topology.nodes.windows(2).filter_map(|pair| match pair {
            [Node { op: Op::Conv2d { .. }, .. }, relu] if relu.op == Op::Relu => Some(&relu.name),
            _ => None,
        });
        let node = convolutions.into_iter().nth(self as usize);
        let missing = || CoreError::Invalid {
            field: "layer",
            value: self.name().into(),
            reason: "the network has no such layer".into(),
        };
        Ok(node.map(String::as_str).ok_or_else(missing)?)
    }
}

/// The side of the square that occlusion moves over the image, in pixels of the network's input.
pub const OCCLUSION_SIDE: usize = 32;
/// The distance between two positions of that square.
pub const OCCLUSION_STRIDE: usize = 16;
/// Occluded images per batch.
const BATCH: usize = 32;

/// A map over the image: how much each position raises the logit of a class (for occlusion, its
/// probability).
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// 1, or 3 for a map of the pixels' colors.
    pub channels: usize,
    /// The number of rows.
    pub height: usize,
    /// The number of columns.
    pub width: usize,
    /// `[channels, height, width]`.
    pub values: Vec<f32>,
}

impl Map {
    /// Returns the largest value.
    pub fn max(&self) -> f32 {
        self.values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// Whether a position raises the logit or the probability.
    pub fn has_positive_evidence(&self) -> bool {
        self.max() > 0.0
    }

    /// Returns one value per position, `[height, width]`: the sum of the positive values of all
    /// channels.
    pub fn positive(&self) -> Vec<f32> {
        let mut sums = vec![0.0; self.height * self.width];
        for plane in self.values.chunks_exact(sums.len().max(1)) {
            sums.iter_mut().zip(plane).for_each(|(sum, value)| *sum += value.max(0.0));
        }
        sums
    }
}

/// What to explain, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// The method.
    pub method: Method,
    /// The layer of Grad-CAM.
    pub layer: ConvLayer,
    /// The index of the class to explain; `None` means the most probable class.
    pub class: Option<usize>,
}

/// An explanation of a prediction.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The prediction for the image.
    pub prediction: Prediction,
    /// The explained class.
    pub class: ClassProbability,
    /// The method.
    pub method: Method,
    /// The layer of Grad-CAM.
    pub layer: ConvLayer,
    /// The map over the image, whose sides were scaled to those of the network's input.
    pub map: Map,
    /// The decoded image.
    pub image: RgbImage,
}

impl Explanation {
    /// Returns the image with the map in colors over it. `alpha` is the opacity of the colors, from
    /// 0 to 1.
    pub fn overlay(&self, alpha: f32) -> RgbImage {
        overlay(&self.image, &self.map, self.scale(), alpha)
    }

    /// Returns the value that has the brightest color. The gradients of single pixels have
    /// outliers, so for maps of pixels it is the 99th percentile of the positive values instead of
    /// the maximum.
    pub fn scale(&self) -> f32 {
        match self.method {
            Method::GradCam | Method::Occlusion => self.map.max(),
            Method::Guided | Method::GuidedGradCam => {
                let mut values = self.map.positive();
                values.retain(|value| *value > 0.0);
                values.sort_by(f32::total_cmp);
                values.get(values.len() * 99 / 100).copied().unwrap_or_default()
            }
        }
    }
}

/// Returns the image with a map in colors over it. Values from 0 to `scale` are shown from dark to
/// bright (the color map viridis, which is perceptually uniform and legible for color-blind
/// readers); negative values are shown as 0, larger values as `scale`.
pub fn overlay(image: &RgbImage, map: &Map, scale: f32, alpha: f32) -> RgbImage {
    let positive = map.positive();
    let value = |row: usize, column: usize| positive[row * map.width + column];
    let mut blended = image.clone();
    let (width, height) = image.dimensions();
    for (x, y, pixel) in blended.enumerate_pixels_mut() {
        // Bilinear, with the centers of the map's cells at the centers of their areas.
        let place = |at: u32, of: u32, cells: usize| {
            let position = (at as f32 + 0.5) / of as f32 * cells as f32 - 0.5;
            let position = position.clamp(0.0, cells as f32 - 1.0);
            let first = position as usize;
            (first, (first + 1).min(cells - 1), position - first as f32)
        };
        let (top, bottom, down) = place(y, height, map.height);
        let (left, right, across) = place(x, width, map.width);
        let row = |row| value(row, left) * (1.0 - across) + value(row, right) * across;
        let here = row(top) * (1.0 - down) + row(bottom) * down;
        let share = if scale > 0.0 { (here / scale).clamp(0.0, 1.0) } else { 0.0 };
        let color = color(share);
        for (channel, color) in pixel.0.iter_mut().zip(color) {
            let mixed = f32::from(*channel) * (1.0 - alpha) + f32::from(color) * alpha;
            *channel = mixed.round().clamp(0.0, 255.0) as u8;
        }
    }
    blended
}

/// Returns the color of a share of the scale, from 0 to 1.
pub fn color(share: f32) -> [u8; 3] {
    colorous::VIRIDIS.eval_continuous(f64::from(share)).as_array()
}

/// A network that explains its logits.
pub(crate) struct Explainer {
    topology: Topology,
    model: Box<dyn Model>,
}

impl Explainer {
    /// Compiles the network with all ReLUs observed, which every method can use.
    pub fn new(
        backend: &dyn Backend,
        topology: Topology,
        parameters: Parameters,
        options: Options,
    ) -> Result<Self> {
        let relus = topology.nodes.iter().filter(|node| node.op == Op::Relu);
        let observed: BTreeSet<String> = relus.map(|node| node.name.clone()).collect();
        let frozen = parameters.keys().cloned().collect();
        let options = Options { observed, frozen, ..options };
        let model = backend.compile(&topology, State::from(parameters), &options)?;
        Ok(Self { topology, model })
    }

    /// Explains the logit of `class` for one image, whose pixels have the size of the network's
    /// input.
    pub fn explain(
        &mut self,
        image: &Images,
        class: usize,
        method: Method,
        layer: ConvLayer,
    ) -> Result<Map> {
        match method {
            Method::GradCam => self.grad_cam(image, class, layer),
            Method::Guided => self.guided(image, class),
            Method::GuidedGradCam => {
                let coarse = self.grad_cam(image, class, layer)?;
                let mut map = self.guided(image, class)?;
                multiply(&mut map, &coarse);
                Ok(map)
            }
            Method::Occlusion => self.occlusion(image, class),
        }
    }

    /// Returns the activations of a layer, `[channels, height, width]`.
    pub fn activations(&mut self, image: &Images, layer: ConvLayer) -> Result<Map> {
        let node = layer.node(&self.topology)?.to_owned();
        let cotangent = self.one_hot(0)?;
        let mut found = self.model.inspect(image, &cotangent, ReluRule::Gradient)?;
        map(found.activations.remove(&node))
    }

    fn one_hot(&self, class: usize) -> Result<Logits> {
        let classes = self.topology.classes()?;
        let mut values = vec![0.0; classes];
        values[class] = 1.0;
        Ok(Logits { values, classes })
    }

    /// Grad-CAM: `max(0, Σ_c w_c·A_c)`, where `w_c` is the mean of the gradient over the positions
    /// of channel c.
    fn grad_cam(&mut self, image: &Images, class: usize, layer: ConvLayer) -> Result<Map> {
        let node = layer.node(&self.topology)?.to_owned();
        let cotangent = self.one_hot(class)?;
        let mut found = self.model.inspect(image, &cotangent, ReluRule::Gradient)?;
        let activation = map(found.activations.remove(&node))?;
        let gradient = map(found.gradients.remove(&node))?;
        let plane = activation.height * activation.width;
        let mut sums = vec![0.0f64; plane];
        let planes = activation.values.chunks_exact(plane);
        for (activation, gradient) in planes.zip(gradient.values.chunks_exact(plane)) {
            let weight = gradient.iter().map(|g| f64::from(*g)).sum::<f64>() / plane as f64;
            for (sum, a) in sums.iter_mut().zip(activation) {
                *sum += weight * f64::from(*a);
            }
        }
        let values = finite(sums.into_iter().map(|sum| sum.max(0.0) as f32).collect())?;
        Ok(Map { channels: 1, height: activation.height, width: activation.width, values })
    }

    /// Guided backpropagation: the gradient of the normalized pixels, `[3, height, width]`.
    fn guided(&mut self, image: &Images, class: usize) -> Result<Map> {
        let cotangent = self.one_hot(class)?;
        let found = self.model.inspect(image, &cotangent, ReluRule::Guided)?;
        map(Some(found.input_gradient))
    }

    /// Occlusion: for each pixel the mean, over all positions of the square that cover it, of the
    /// drop of the probability. The last positions are cut off at the edge.
    fn occlusion(&mut self, image: &Images, class: usize) -> Result<Map> {
        let Images { height, width, normalization, .. } = *image;
        let probability = |row: &[f32]| softmax(row)[class];
        let before = self.model.logits(image)?.rows().map(probability).sum::<f64>();
        let fill = gray(&normalization);
        let positions: Vec<[usize; 2]> =
            starts(height).flat_map(|top| starts(width).map(move |left| [top, left])).collect();
        let (mut sums, mut counts) = (vec![0.0; height * width], vec![0u32; height * width]);
        let rows = |top: usize| top..(top + OCCLUSION_SIDE).min(height);
        let columns = |left: usize| left..(left + OCCLUSION_SIDE).min(width);
        for positions in positions.chunks(BATCH) {
            let mut pixels = image.pixels.repeat(positions.len());
            for (pixels, [top, left]) in pixels.chunks_exact_mut(image.pixels.len()).zip(positions)
            {
                for row in rows(*top) {
                    for column in columns(*left) {
                        pixels[(row * width + column) * 3..][..3].copy_from_slice(&fill);
                    }
                }
            }
            let occluded = Images { pixels, ..image.clone() };
            let logits = self.model.logits(&occluded)?;
            for (row, [top, left]) in logits.rows().zip(positions) {
                let drop = before - probability(row);
                for row in rows(*top) {
                    for column in columns(*left) {
                        sums[row * width + column] += drop;
                        counts[row * width + column] += 1;
                    }
                }
            }
        }
        let mean = |(sum, count): (f64, u32)| (sum / f64::from(count.max(1))) as f32;
        let values = finite(sums.into_iter().zip(counts).map(mean).collect())?;
        Ok(Map { channels: 1, height, width, values })
    }
}

/// Returns the first rows or columns of the occluding square: as many as are needed to cover the
/// side.
fn starts(side: usize) -> impl Iterator<Item = usize> {
    let count = side.saturating_sub(OCCLUSION_SIDE).div_ceil(OCCLUSION_STRIDE) + 1;
    (0..count).map(|index| index * OCCLUSION_STRIDE)
}

/// Returns the bytes that are nearest to 0 after the normalization.
pub fn gray(normalization: &Normalization) -> [u8; 3] {
    normalization.mean.map(|mean| (255.0 * mean).round().clamp(0.0, 255.0) as u8)
}

/// Multiplies `map` by `coarse` at the nearest position (`torch.nn.functional.interpolate` with the
/// mode `nearest`).
fn multiply(map: &mut Map, coarse: &Map) {
    let Map { height, width, .. } = *map;
    for plane in map.values.chunks_exact_mut(height * width) {
        for (row, values) in plane.chunks_exact_mut(width).enumerate() {
            for (column, value) in values.iter_mut().enumerate() {
                let [y, x] = [row * coarse.height / height, column * coarse.width / width];
                *value *= coarse.values[y * coarse.width + x];
            }
        }
    }
}

/// Converts an array `[1, channels, height, width]`.
fn map(array: Option<Array>) -> Result<Map> {
    let array = array.unwrap_or_default();
    let [1, channels, height, width] = array.shape[..] else {
        return Err(CoreError::Shape {
            what: "a map".into(),
            expected: "[1, channels, height, width]".into(),
            found: format!("{:?}", array.shape),
        }
        .into());
    };
    Ok(Map { channels, height, width, values: finite(array.values)? })
}

fn finite(values: Vec<f32>) -> Result<Vec<f32>> {
    if values.iter().all(|value| value.is_finite()) { Ok(values) } else { Err(Error::NotFinite) }
}
