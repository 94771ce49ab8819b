//! Helper functions of the tests.

use candle_core::{Device, Tensor, Var};

/// Returns integers in -4..=4.
pub fn integers(shape: &[usize], seed: usize) -> Var {
    let numbers =
        (0..shape.iter().product::<usize>()).map(|i| ((i * 7 + i / 5 + seed) % 9) as f32 - 4.0);
    Var::from_vec(numbers.collect(), shape, &Device::Cpu).unwrap()
}

/// Returns all numbers of a tensor.
pub fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Returns the gradients of `Σ y · integers` with respect to each of `arguments`, and `y`.
pub fn with_gradients(y: &Tensor, arguments: &[Var]) -> Vec<Vec<f32>> {
    let product = (y * integers(y.dims(), 3).as_tensor()).unwrap();
    let gradients = product.sum_all().unwrap().backward().unwrap();
    arguments.iter().map(|argument| gradients.get(argument).unwrap()).chain([y]).map(flat).collect()
}
