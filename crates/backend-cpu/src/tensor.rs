//! The engine's tensor: a batch of f32 items in buffers that are used again and again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Buffers that are not in use, by length. A model allocates during its first step; from then on it only takes and gives
/// back.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<HashMap<usize, Vec<Vec<f32>>>>>);

impl Pool {
    /// A buffer of `len` numbers whose content is left over from its last use: the taker overwrites all of it.
    pub fn take(&self, len: usize) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&len).and_then(Vec::pop);
        Buffer { values: free.unwrap_or_else(|| vec![0.0; len]), pool: self.clone() }
    }

    /// A tensor of `batch` items of shape `item`, with the content of [`Pool::take`].
    pub fn tensor(&self, batch: usize, item: &[usize]) -> Tensor {
        let buffer = self.take(batch * item.iter().product::<usize>());
        Tensor { batch, item: item.to_vec(), buffer: Arc::new(buffer) }
    }
}

/// Numbers that return to their pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    values: Vec<f32>,
    pool: Pool,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        let mut free = self.pool.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.entry(values.len()).or_default().push(values);
    }
}

impl std::ops::Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// A batch of items, `[N, C, H, W]` or `[N, F]`, row-major. Clones share the numbers.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// N.
    pub batch: usize,
    /// Shape of one item.
    pub item: Vec<usize>,
    buffer: Arc<Buffer>,
}

impl Tensor {
    /// Numbers in one item.
    pub fn item_len(&self) -> usize {
        self.item.iter().product()
    }

    /// The same numbers as items of another shape with as many numbers.
    pub fn reshaped(self, item: &[usize]) -> Self {
        debug_assert_eq!(self.item_len(), item.iter().product::<usize>());
        Self { item: item.to_vec(), ..self }
    }

    /// All numbers.
    pub fn values(&self) -> &[f32] {
        &self.buffer
    }

    /// All numbers, to write; copied first when a clone shares them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        if Arc::get_mut(&mut self.buffer).is_none() {
            let mut own = self.buffer.pool.take(self.buffer.len());
            own.copy_from_slice(&self.buffer);
            self.buffer = Arc::new(own);
        }
        Arc::get_mut(&mut self.buffer).expect("the buffer was made unshared above")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_used_again() {
        let pool = Pool::default();
        let tensor = pool.tensor(2, &[3]);
        let address = tensor.values().as_ptr();
        drop(tensor);
        assert_eq!(pool.tensor(3, &[2]).values().as_ptr(), address);
    }

    #[test]
    fn writing_to_a_shared_tensor_leaves_the_clone_alone() {
        let mut tensor = Pool::default().tensor(1, &[2]);
        tensor.values_mut().fill(1.0);
        let clone = tensor.clone();
        tensor.values_mut()[0] = 2.0;
        assert_eq!((clone.values(), tensor.values()), (&[1.0, 1.0][..], &[2.0, 1.0][..]));
    }
}
