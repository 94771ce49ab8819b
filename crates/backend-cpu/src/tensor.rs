//! The tensor of this engine: a batch of f32 items in reusable buffers.

use std::{
    collections::BTreeMap,
    ops::RangeBounds,
    sync::{Arc, Mutex, PoisonError},
};

use alexnet_core::Array;

/// A pool of unused buffers, by size. The first step of a model allocates the buffers; later
/// steps reuse them until the pool is cleared. A smaller batch reuses buffers of a larger one, and
/// buffers for a larger batch replace smaller ones: batches of many sizes need little more memory
/// than the largest.
#[derive(Clone, Debug, Default)]
pub struct Pool(Arc<Mutex<Free>>);

type Free = BTreeMap<usize, Vec<Vec<f32>>>;

/// Removes a buffer whose size is in a range, the smallest.
fn pop(free: &mut Free, sizes: impl RangeBounds<usize>) -> Option<Vec<f32>> {
    let (&size, buffers) = free.range_mut(sizes).next()?;
    let buffer = buffers.pop();
    if buffers.is_empty() {
        free.remove(&size);
    }
    buffer
}

impl Pool {
    /// Returns a buffer of `len` numbers with arbitrary content from an earlier use. The caller
    /// must overwrite all of it.
    pub fn take(&self, len: usize) -> Buffer {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = pop(&mut free, len..=2 * len).unwrap_or_else(|| {
            drop(pop(&mut free, len.div_ceil(2)..len));
            drop(free);
            vec![0.0; len]
        });
        Buffer { values, len, pool: self.clone() }
    }

    /// Frees the buffers that are not in use.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Returns a tensor of `batch` items of shape `item`, with arbitrary content as in
    /// [`Pool::take`].
    pub fn tensor(&self, batch: usize, item: &[usize]) -> Tensor {
        let buffer = self.take(batch * item.iter().product::<usize>());
        Tensor { batch, item: item.to_vec(), buffer: Arc::new(buffer) }
    }
}

/// A buffer that returns to its pool when dropped.
#[derive(Debug)]
pub struct Buffer {
    /// At least `len` numbers. A buffer keeps its size, since a larger one would have to be filled.
    values: Vec<f32>,
    len: usize,
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
        &self.values[..self.len]
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

/// A batch of images or features. The shape of an image is `[C, H, W]` as everywhere, but its
/// numbers are stored as `[H, W, C]`, since the kernels process vectors of channels. Clones share
/// the numbers.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The number of items, N.
    pub batch: usize,
    /// The shape of one item.
    pub item: Vec<usize>,
    buffer: Arc<Buffer>,
}

impl Tensor {
    /// Returns the size of one item, in numbers.
    pub fn item_len(&self) -> usize {
        self.item.iter().product()
    }

    /// Returns all numbers.
    pub fn values(&self) -> &[f32] {
        &self.buffer
    }

    /// Copies the numbers in PyTorch's layout: `[N, C, H, W]` for images.
    pub fn to_array(&self) -> Array {
        let mut values = vec![0.0; self.values().len()];
        let items = values.chunks_exact_mut(self.item_len());
        for (to, from) in items.zip(self.values().chunks_exact(self.item_len())) {
            channels_first(&self.item, from, to);
        }
        Array { shape: [&[self.batch][..], &self.item].concat(), values }
    }

    /// Returns all numbers for writing. They are copied first if a clone shares them.
    pub fn values_mut(&mut self) -> &mut [f32] {
        if Arc::get_mut(&mut self.buffer).is_none() {
            let mut copy = self.buffer.pool.take(self.buffer.len());
            copy.copy_from_slice(&self.buffer);
            self.buffer = Arc::new(copy);
        }
        Arc::get_mut(&mut self.buffer).expect("the buffer is not shared after the copy")
    }
}

/// Converts an item of shape `item` from this engine's layout (channels last) to PyTorch's
/// (channels first). The layouts differ only for images.
pub fn channels_first(item: &[usize], from: &[f32], to: &mut [f32]) {
    transpose(from, from.len() / item[0], item[0], to);
}

/// The inverse of [`channels_first`].
pub fn channels_last(item: &[usize], from: &[f32], to: &mut [f32]) {
    transpose(from, item[0], from.len() / item[0], to);
}

/// Transposes `from [rows, columns]` to `to [columns, rows]`, in blocks that fit in the cache.
pub fn transpose<T: Copy>(from: &[T], rows: usize, columns: usize, to: &mut [T]) {
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
    fn dropped_buffers_are_reused() {
        let pool = Pool::default();
        let tensor = pool.tensor(2, &[3]);
        let address = tensor.values().as_ptr();
        drop(tensor);
        assert_eq!(pool.tensor(3, &[2]).values().as_ptr(), address);
    }

    #[test]
    fn batches_of_many_sizes_need_little_more_memory_than_the_largest() {
        let pool = Pool::default();
        let kept =
            || pool.0.lock().unwrap().iter().map(|(size, all)| size * all.len()).sum::<usize>();
        for batch in (1..=32).chain((1..=32).rev()).chain([7, 32, 1, 19]) {
            let tensors = [pool.tensor(batch, &[10]), pool.tensor(batch, &[1000])];
            assert_eq!(tensors.map(|tensor| tensor.values().len()), [batch * 10, batch * 1000]);
        }
        assert!((32 * 1010..2 * 32 * 1010).contains(&kept()), "{}", kept());
    }

    #[test]
    fn writing_to_a_tensor_does_not_change_its_clone() {
        let mut tensor = Pool::default().tensor(1, &[2]);
        tensor.values_mut().fill(1.0);
        let clone = tensor.clone();
        tensor.values_mut()[0] = 2.0;
        assert_eq!((clone.values(), tensor.values()), (&[1.0, 1.0][..], &[2.0, 1.0][..]));
    }
}
