//! Convolution with a fused ReLU and max pooling, both optional. In a batch, one core processes an
//! image from its input to its pooled output, so that the large output of the convolution stays in
//! the cache and is not stored. The backward pass needs only the positions of the maxima and
//! whether they were positive.

use alexnet_core::{Backward, Layer, Mode, Precision, Result, sum_order::BalancedSum};
use rayon::prelude::*;

use super::{CpuLayer, MaxPool2d, needs_backward, take_saved};
use crate::{
    convolution::{Convolution, Geometry, Im2col, Rounded, WeightSums, Winograd},
    kernels::{
        Isa, Kernels,
        bf16::Pair,
        elementwise::{MaskGradient, SumPixels},
    },
    parallel::add_partial_sums,
    parameter::ParameterState,
    tensor::{Buffer, Pool, Tensor},
};

/// `torch.nn.Conv2d` with bias, then `max(y, 0)` and `torch.nn.MaxPool2d` if fused.
pub struct Conv2d {
    geometry: Geometry,
    /// The weight, stored as `[kh, kw, in/groups, out]`, and the bias `[out]`.
    parameters: [ParameterState; 2],
    convolution: Box<dyn Convolution>,
    /// For what `convolution` has the weights; `None` if they have changed.
    prepared: Option<Prepared>,
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

/// The passes that the weights of a convolution are prepared for.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Prepared {
    /// The forward pass and the gradient of the weights.
    ForForward,
    /// Also the gradient of the input, which takes time and memory.
    WithInputGradient,
}

struct SavedForBackward {
    x: Tensor,
    /// Only with a fused ReLU.
    y: Option<Tensor>,
    images_per_part: usize,
}

/// Returns the number of parts of a batch whose gradients are computed in parallel. Each needs memory
/// for a gradient of the weights. A power of two, so that the sum over a round is a node of the tree.
fn parts_per_round() -> usize {
    (2 * rayon::current_num_threads().next_power_of_two()).max(8)
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

/// Returns the fastest algorithm for a convolution with these kernels.
fn algorithm(geometry: Geometry, kernels: Kernels, pool: &Pool) -> Box<dyn Convolution> {
    let Kernels { isa, exact, precision } = kernels;
    let im2col = || Im2col::new(geometry, isa, pool.clone());
    match precision {
        Precision::F32 => match Winograd::<f32>::new(geometry, isa, pool.clone()) {
            Some(winograd) if !exact => Box::new(winograd),
            _ => Box::new(im2col()),
        },
        Precision::Bf16 => match Winograd::<Pair>::new(geometry, isa, pool.clone()) {
            Some(winograd) if !exact => Box::new(winograd),
            _ => Box::new(Rounded::new(im2col(), isa, pool.clone())),
        },
    }
}

impl Conv2d {
    /// Creates a layer with the parameters weight and bias. It uses Winograd convolution if the
    /// geometry is supported and `exact` is false.
    pub fn new(
        geometry: Geometry,
        parameters: [ParameterState; 2],
        Fused { relu, pooling, needs_dx }: Fused,
        kernels: Kernels,
        pool: Pool,
    ) -> Self {
        let isa = kernels.isa;
        let convolution = algorithm(geometry, kernels, &pool);
        Self {
            geometry,
            parameters,
            convolution,
            prepared: None,
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
        let images_per_part = mode.images_per_part(x.batch);
        self.saved_for_backward = needs_backward(mode).then(|| SavedForBackward {
            x,
            y: self.relu.then(|| y.clone()),
            images_per_part,
        });
        Ok(y)
    }
}

/// The images of a round of the backward pass, and their gradients.
struct Round<'a> {
    x: &'a [f32],
    /// The output of the layer, with a fused ReLU.
    y: Option<&'a [f32]>,
    /// With fused pooling: see [`Conv2d`].
    argmax: &'a [u32],
    dy: &'a mut [f32],
    dx: Option<&'a mut [f32]>,
}

impl Conv2d {
    /// Runs the backward pass of some parts of the batch ([`alexnet_core::sum_order`]) in parallel.
    /// Returns the partial sums, one per part, of the gradients of the weight `[G, kh, kw, in, out]`
    /// and of the bias `[G, out]`, if they are trainable.
    fn backward_parts(&self, round: Round<'_>, images_per_part: usize) -> [Option<Buffer>; 2] {
        let Round { x, y, argmax, dy, dx } = round;
        let (x_len, y_len) = (self.geometry.input_len(), self.output().iter().product::<usize>());
        let conv_len = self.geometry.output_len();
        let images = images_per_part;
        let parts = (x.len() / x_len).div_ceil(images);
        let lens = self.parameters.each_ref().map(|parameter| parameter.values.len());
        let mut sums =
            [0, 1].map(|i| self.parameters[i].trainable.then(|| self.pool.take(parts * lens[i])));
        let [dw, db] = &mut sums;
        (
            chunks(dw.as_deref_mut(), lens[0], parts),
            chunks(db.as_deref_mut(), lens[1], parts),
            dy.par_chunks_mut(images * y_len),
            x.par_chunks(images * x_len),
            chunks(dx, images * x_len, parts),
        )
            .into_par_iter()
            .enumerate()
            .for_each(|(part, (mut dw, mut db, dy, x, mut dx))| {
                let convolution = &self.convolution;
                let mut sums = dw.is_some().then(|| self.pool.take(convolution.sums_len()));
                if let Some(db) = db.as_deref_mut() {
                    db.fill(0.0);
                }
                let task = convolution.images_per_task();
                let mut unpooled =
                    self.pooling.as_ref().map(|_| self.pool.take(task.min(images) * conv_len));
                let tasks = dy.chunks_mut(task * y_len).zip(x.chunks(task * x_len)).enumerate();
                let last_task = tasks.len() - 1;
                for (i, (dy, x)) in tasks {
                    let outer = (part * images + i * task) * y_len..;
                    if let Some(y) = y {
                        let y = &y[outer.clone()][..dy.len()];
                        self.isa.run(MaskGradient { dy, y });
                    }
                    // The gradient of the convolution's output before pooling.
                    let conv_dy: &[f32] = match (&self.pooling, &mut unpooled) {
                        (Some(pooling), Some(unpooled)) => {
                            let unpooled = &mut unpooled[..x.len() / x_len * conv_len];
                            pooling.scatter(dy, &argmax[outer][..dy.len()], unpooled);
                            unpooled
                        }
                        _ => dy,
                    };
                    if let Some(sums) = db.as_deref_mut() {
                        self.isa.run(SumPixels { x: conv_dy, sums });
                    }
                    let dx = dx.as_deref_mut().map(|dx| &mut dx[i * task * x_len..][..x.len()]);
                    let weight = sums.as_deref_mut().map(|sums| WeightSums {
                        sums,
                        first: i == 0,
                        gradient: dw.as_deref_mut().filter(|_| i == last_task),
                    });
                    if weight.is_some() || dx.is_some() {
                        convolution.backward(x, conv_dy, weight, dx);
                    }
                }
            });
        sums
    }
}

impl Backward<Tensor> for Conv2d {
    fn backward(&mut self, mut dy: Tensor) -> Result<Tensor> {
        let SavedForBackward { x, y, images_per_part } = take_saved(&mut self.saved_for_backward);
        let (x_len, y_len) = (x.item_len(), dy.item_len());
        let mut dx = self.needs_dx.then(|| self.pool.tensor(x.batch, &x.item));
        let mut gradients = self.parameters.each_mut().map(|p| std::mem::take(&mut p.gradient));
        let mut sums = [BalancedSum::<Vec<f32>>::default(), BalancedSum::default()];
        let add = |sum: &mut Vec<f32>, more: &Vec<f32>| {
            sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
        };
        let images_per_round = parts_per_round() * images_per_part;
        for first in (0..x.batch).step_by(images_per_round) {
            let images = images_per_round.min(x.batch - first);
            let outputs = first * y_len..(first + images) * y_len;
            let inputs = first * x_len..(first + images) * x_len;
            let round = Round {
                x: &x.values()[inputs.clone()],
                y: y.as_ref().map(|y| &y.values()[outputs.clone()]),
                argmax: self.argmax.get(outputs.clone()).unwrap_or_default(),
                dy: &mut dy.values_mut()[outputs],
                dx: dx.as_mut().map(|dx| &mut dx.values_mut()[inputs]),
            };
            let partial = self.backward_parts(round, images_per_part);
            for ((partial, total), sum) in partial.iter().zip(&mut gradients).zip(&mut sums) {
                let Some(partial) = partial else { continue };
                add_partial_sums(partial, total);
                if images < x.batch {
                    sum.push(total.clone(), add);
                }
            }
        }
        for ((parameter, total), sum) in self.parameters.iter_mut().zip(gradients).zip(sums) {
            parameter.gradient = sum.finish(add).unwrap_or(total);
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
    fn prepare(&mut self, for_backward: bool) {
        let wanted = match for_backward && self.needs_dx {
            true => Prepared::WithInputGradient,
            false => Prepared::ForForward,
        };
        if self.prepared.is_none_or(|prepared| prepared < wanted) {
            let needs_dx = wanted == Prepared::WithInputGradient;
            self.convolution.set_weight(&self.parameters[0].values, needs_dx);
            self.prepared = Some(wanted);
        }
    }

    fn parameters(&self) -> &[ParameterState] {
        &self.parameters
    }

    fn parameters_mut(&mut self) -> &mut [ParameterState] {
        self.prepared = None;
        &mut self.parameters
    }
}
