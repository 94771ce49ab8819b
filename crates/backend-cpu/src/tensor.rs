//! The engine's tensor: a batch of f32 items in buffers that are used again and again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Buffers that are not in use, by length. A model fills it during its first step; from then on it only takes and gives
/// back, until the pool is cleared.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<HashMap<usize, Vec<Vec<f32>>>>>);

impl Pool {
    /// A buffer of `len` numbers whose content is left over from its last use: the taker overwrites all of it.
    pub fn take(&self, len: usize) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&len).and_then(Vec::pop);
        Buffer { values: free.unwrap_or_else(|| vec![0.0; len]), pool: self.clone() }
    }

    /// Frees the buffers that are not in use.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
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

/// A batch of items, images or features. The shape of an image is `[C, H, W]` as everywhere, but its numbers lie as
/// `[H, W, C]`: kernels work on a vector of channels at a time. Clones share the numbers.
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

/// An item of shape `item` from this engine's order, channels last, to PyTorch's, channels first. Only images differ.
pub fn channels_first(item: &[usize], from: &[f32], to: &mut [f32]) {
    transpose(from, from.len() / item[0], item[0], to);
}

/// The way back from [`channels_first`].
pub fn channels_last(item: &[usize], from: &[f32], to: &mut [f32]) {
    transpose(from, item[0], from.len() / item[0], to);
}

/// `from [rows, columns]` to `to [columns, rows]`, in blocks that a cache holds.
pub fn transpose(from: &[f32], rows: usize, columns: usize, to: &mut [f32]) {
    const BLOCK: usize = 16;
    for first_row in (0..rows).step_by(BLOCK) {
        for first_column in (0..columns).step_by(BLOCK) {
            for column in first_column..(first_column + BLOCK).min(columns) {
                for row in first_row..(first_row + BLOCK).min(rows) {
                    to[column * rows + row] = from[row * columns + column];
                }
            }
        }
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
