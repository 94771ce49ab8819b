//! The fully connected layer (`torch.nn.Linear`).

use super::tensor::Tensor;

/// Computes the output `[N, O]` from `x` `[N, I]`, `weight` `[O, I]` and `bias` `[O]`.
pub(crate) fn forward(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let (inputs, outputs) = (weight.shape[1], weight.shape[0]);
    let mut y = Tensor::zeros(&[x.batch(), outputs]);
    for (o, row) in weight.values.chunks_exact(inputs).enumerate() {
        for (n, x) in x.values.chunks_exact(inputs).enumerate() {
            y.values[n * outputs + o] =
                bias.values[o] + row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        }
    }
    y
}

/// Returns the gradient of `x`, and those of weight and bias, for the gradient `dy` of the output.
pub(crate) fn backward(x: &Tensor, weight: &Tensor, dy: &Tensor) -> (Tensor, [Tensor; 2]) {
    let (inputs, outputs) = (weight.shape[1], weight.shape[0]);
    let mut dx = Tensor::zeros(&x.shape);
    let mut dw = Tensor::zeros(&weight.shape);
    let mut db = Tensor::zeros(&[outputs]);
    for o in 0..outputs {
        let row = o * inputs..(o + 1) * inputs;
        for n in 0..x.batch() {
            let dy = dy.values[n * outputs + o];
            let item = n * inputs..(n + 1) * inputs;
            db.values[o] += dy;
            for (dw, x) in dw.values[row.clone()].iter_mut().zip(&x.values[item.clone()]) {
                *dw += dy * x;
            }
            for (dx, w) in dx.values[item].iter_mut().zip(&weight.values[row.clone()]) {
                *dx += dy * w;
            }
        }
    }
    (dx, [dw, db])
}
