//! Convolution with a fused ReLU and max pooling, both optional. In a batch, one core processes an
//! image from its input to its pooled output, so that the large output of the convolution stays in
//! the cache and is not stored. The backward pass needs only the positions of the maxima and
//! whether they were positive.

use alexnet_core::{Backward, Layer, Mode, Result};
use rayon::prelude::*;

use super::{CpuLayer, MaxPool2d, needs_backward, take_saved};
use crate::{
    convolution::{Convolution, Geometry, Im2col, Winograd},
    kernels::{
        Isa,
        elementwise::{MaskGradient, SumPixels},
    },
    parallel::{add_in_order, images_per_sum},
    parameter::ParameterState,
    tensor::{Pool, Tensor},
};

/// `torch.nn.Conv2d` with bias, then `max(y, 0)` and `torch.nn.MaxPool2d` if fused.
pub struct Conv2d {
    geometry: Geometry,
    /// The weight, stored as `[kh, kw, in/groups, out]`, and the bias `[out]`.
    parameters: [ParameterState; 2],
    convolution: Box<dyn Convolution>,
    /// Whether the weights have changed since they were passed to `convolution`.
    stale: bool,
    relu: bool,
    pooling: Option<MaxPool2d>,
    /// Whether an earlier layer is trainable.
    needs_dx: bool,
    isa: Isa,
    pool: Pool,
    /// With fused pooling: the index of the maximum in the window of each output.
    argmax: Vec<u32>,
    saved_for_backward: Option<SavedForBackward>,
}

struct SavedForBackward {
    x: Tensor,
    /// Only with a fused ReLU.
    y: Option<Tensor>,
}

/// The fused operations, and whether the input's gradient is needed.
pub struct Fused {
    /// Whether a ReLU is fused.
    pub relu: bool,
    /// The max pooling after the convolution or its ReLU, if it is fused.
    pub pooling: Option<MaxPool2d>,
    /// Whether an earlier layer is trainable.
    pub needs_dx: bool,
}

impl Conv2d {
    /// Creates a layer with the parameters weight and bias. It uses Winograd convolution if the
    /// geometry is supported and `exact` is false.
    pub fn new(
        geometry: Geometry,
        parameters: [ParameterState; 2],
        Fused { relu, pooling, needs_dx }: Fused,
        exact: bool,
        isa: Isa,
        pool: Pool,
    ) -> Self {
        let winograd = if exact { None } else { Winograd::new(geometry, isa, pool.clone()) };
        let convolution: Box<dyn Convolution> = match winograd {
            Some(winograd) => Box::new(winograd),
            None => Box::new(Im2col::new(geometry, isa, pool.clone())),
        };
        Self {
            geometry,
            parameters,
            convolution,
            stale: true,
            relu,
            pooling,
            needs_dx,
            isa,
            pool,
            argmax: Vec::new(),
            saved_for_backward: None,
        }
    }

    /// Returns the output shape `[C, H, W]` of the layer.
    fn output(&self) -> [usize; 3] {
        self.pooling.as_ref().map_or(self.geometry.output, |pooling| pooling.output)
    }
}

impl Layer<Tensor> for Conv2d {
    fn forward(&mut self, x: Tensor, mode: Mode) -> Result<Tensor> {
        if std::mem::take(&mut self.stale) {
            self.convolution.set_weight(&self.parameters[0].values, self.needs_dx);
        }
        let mut y = self.pool.tensor(x.batch, &self.output());
        let (x_len, y_len) = (x.item_len(), y.item_len());
        let mut argmax = std::mem::take(&mut self.argmax);
        argmax.resize(if self.pooling.is_some() { x.batch * y_len } else { 0 }, 0);
        let images = self.convolution.images_per_task();
        let single_image = x.batch == 1;
        let bias = &self.parameters[1].values;
        match &self.pooling {
            None => {
                let tasks = y.values_mut().par_chunks_mut(images * y_len);
                tasks.zip(x.values().par_chunks(images * x_len)).for_each(|(y, x)| {
                    self.convolution.forward(x, single_image, bias, self.relu, y)
                });
            }
            Some(pooling) => {
                let tasks = y.values_mut().par_chunks_mut(images * y_len);
                tasks
                    .zip(argmax.par_chunks_mut(images * y_len))
                    .zip(x.values().par_chunks(images * x_len))
                    .for_each(|((y, argmax), x)| {
                        let mut full = self.pool.take(x.len() / x_len * self.geometry.output_len());
                        self.convolution.forward(x, single_image, bias, self.relu, &mut full);
                        pooling.gather(&full, y, argmax);
                    });
            }
        }
        self.argmax = argmax;
        self.saved_for_backward =
            needs_backward(mode).then(|| SavedForBackward { x, y: self.relu.then(|| y.clone()) });
        Ok(y)
    }
}

impl Backward<Tensor> for Conv2d {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let SavedForBackward { x, y } = take_saved(&mut self.saved_for_backward);
        let (x_len, y_len, conv_len) = (x.item_len(), dy.item_len(), self.geometry.output_len());
        let weights = self.parameters[0].values.len();
        let outputs = self.geometry.output[0];
        let images = images_per_sum(x.batch);
        let groups = x.batch.div_ceil(images);
        // Partial sums, one per group of images: of the weight gradient [G, kh, kw, in, out] and of
        // the bias gradient [G, out].
        let [weight_trainable, bias_trainable] =
            self.parameters.each_ref().map(|parameter| parameter.trainable);
        let mut dw = weight_trainable.then(|| self.pool.take(groups * weights));
        let mut db = bias_trainable.then(|| self.pool.take(groups * outputs));
        let mut dx = self.needs_dx.then(|| self.pool.tensor(x.batch, &x.item));
        let layer = &*self;
        (
            chunks(dw.as_deref_mut(), weights, groups),
            chunks(db.as_deref_mut(), outputs, groups),
            dy.values_mut().par_chunks_mut(images * y_len),
            x.values().par_chunks(images * x_len),
            chunks(dx.as_mut().map(Tensor::values_mut), images * x_len, groups),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(group, (dw, mut db, dy, x, mut dx))| {
                let convolution = &layer.convolution;
                let mut sums = dw.is_some().then(|| layer.pool.take(convolution.sums_len()));
                if let Some(db) = db.as_deref_mut() {
                    db.fill(0.0);
                }
                let task = convolution.images_per_task();
                let mut unpooled =
                    layer.pooling.as_ref().map(|_| layer.pool.take(task.min(images) * conv_len));
                let tasks = dy.chunks_mut(task * y_len).zip(x.chunks(task * x_len)).enumerate();
                for (i, (dy, x)) in tasks {
                    let outer = (group * images + i * task) * y_len..;
                    if let Some(y) = &y {
                        let y = &y.values()[outer.clone()][..dy.len()];
                        layer.isa.run(MaskGradient { dy, y });
                    }
                    // The gradient of the convolution's output before pooling.
                    let conv_dy: &[f32] = match (&layer.pooling, &mut unpooled) {
                        (Some(pooling), Some(unpooled)) => {
                            let unpooled = &mut unpooled[..x.len() / x_len * conv_len];
                            pooling.scatter(dy, &layer.argmax[outer][..dy.len()], unpooled);
                            unpooled
                        }
                        _ => dy,
                    };
                    if let Some(sums) = db.as_deref_mut() {
                        layer.isa.run(SumPixels { x: conv_dy, sums });
                    }
                    let dx = dx.as_deref_mut().map(|dx| &mut dx[i * task * x_len..][..x.len()]);
                    if sums.is_some() || dx.is_some() {
                        convolution.backward(x, conv_dy, sums.as_deref_mut(), i == 0, dx);
                    }
                }
                if let (Some(sums), Some(dw)) = (sums, dw) {
                    convolution.weight_gradient(&sums, dw);
                }
            });
        for (parameter, sums) in self.parameters.iter_mut().zip([dw, db]) {
            if let Some(sums) = sums {
                add_in_order(&sums, &mut parameter.gradient);
            }
        }
        Ok(dx.unwrap_or(dy))
    }
}

/// Returns `count` pieces of `len` numbers, the last of which may be shorter; or `count` times
/// `None` without values.
fn chunks(values: Option<&mut [f32]>, len: usize, count: usize) -> Vec<Option<&mut [f32]>> {
    match values {
        Some(values) => values.chunks_mut(len).map(Some).collect(),
        None => (0..count).map(|_| None).collect(),
    }
}

impl CpuLayer for Conv2d {
    fn parameters(&self) -> &[ParameterState] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [ParameterState] {
        self.stale = true;
        &mut self.parameters
    }
}
