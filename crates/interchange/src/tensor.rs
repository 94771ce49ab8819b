//! A tensor in a file, and the conversion of its numbers to f32.

use std::{fmt, mem, ops::Range};

use alexnet_core::{Array, memory};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::file::{Place, Source};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F16,
    BF16,
    F32,
    F64,
    /// A type that weights cannot have: PyTorch's name, and the size of an element in bytes.
    Other(&'static str, u64),
}

impl Dtype {
    /// Returns the size of an element in bytes.
    pub fn size(self) -> u64 {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
            Self::Other(_, size) => size,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::Other(name, _) => name,
        })
    }
}

/// A tensor in a file. Offset and strides are in elements.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub dtype: Dtype,
    /// The part of the file with its storage.
    pub place: Place,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

/// The maximum span of a view in its storage, in bytes. A span of up to twice the size of the view
/// is also allowed.
const MAX_SPREAD: u64 = 64 << 20;

/// The numbers that a thread reads at a time.
const PART: usize = 1 << 18;

/// Returns the strides of a row-major tensor, in elements.
pub fn contiguous_strides(shape: &[usize]) -> Vec<u64> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = u64::saturating_mul(strides[i], shape[i] as u64);
    }
    strides
}

impl View {
    /// Creates a row-major tensor that fills its storage.
    pub fn contiguous(dtype: Dtype, place: Place, shape: Vec<usize>) -> Self {
        let strides = contiguous_strides(&shape);
        Self { dtype, place, offset: 0, shape, strides }
    }

    /// Returns the number of elements, or `usize::MAX` on overflow.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |product, extent| product.saturating_mul(*extent))
    }

    /// Reads the elements in row-major order. f16 and bf16 are converted exactly, f64 is rounded to
    /// nearest.
    ///
    /// # Errors
    /// When the view extends beyond its storage, or its type is not supported.
    pub fn read(&self, source: &Source) -> Result<Array, String> {
        let elements = self.elements();
        let size = self.dtype.size();
        let last = self.last().ok_or("it extends beyond its storage")?;
        if elements > 0 && last >= self.place.bytes / size {
            return Err(format!(
                "it needs element {last}, but its storage has {} elements",
                self.place.bytes / size
            ));
        }
        let span = if elements == 0 { 0 } else { (last - self.offset + 1) * size };
        if span > MAX_SPREAD.max((2 * size).saturating_mul(elements as u64)) {
            return Err(format!(
                "its {elements} elements are spread over {span} bytes; save a copy (`.contiguous()`)"
            ));
        }
        let first = self.offset * size;
        let part = first..first + span;
        let values = match self.dtype {
            Dtype::F16 => self.numbers(source, part, |b| f16::from_le_bytes(b).to_f32())?,
            Dtype::BF16 => self.numbers(source, part, |b| bf16::from_le_bytes(b).to_f32())?,
            Dtype::F32 => self.numbers(source, part, f32::from_le_bytes)?,
            Dtype::F64 => self.numbers(source, part, |b| f64::from_le_bytes(b) as f32)?,
            Dtype::Other(name, _) => {
                return Err(format!("it holds {name}, which are not supported as weights"));
            }
        };
        Ok(Array { shape: self.shape.clone(), values })
    }

    /// Reads the numbers of `part`, which starts with the first element and ends with the last.
    fn numbers<const N: usize>(
        &self,
        source: &Source,
        part: Range<u64>,
        number: impl Fn([u8; N]) -> f32 + Sync,
    ) -> Result<Vec<f32>, String> {
        if self.strides != contiguous_strides(&self.shape) {
            return Ok(self.gather(&source.range(self.place, part)?, number));
        }
        // Checked before the memory for the numbers is allocated.
        source.contains(self.place)?;
        let mut values = memory::zeros(self.elements());
        // Reads in parts by all threads, except what has to be decompressed from its start.
        let at_once = if self.place.deflated.is_some() { values.len().max(1) } else { PART };
        values.par_chunks_mut(at_once).enumerate().try_for_each(|(index, mut values)| {
            let start = part.start + (index * at_once * N) as u64;
            if self.dtype == Dtype::F32 && cfg!(target_endian = "little") {
                return source.fill(self.place, start, bytemuck::cast_slice_mut(values));
            }
            let range = start..start + (values.len() * N) as u64;
            source.each_block(self.place, range, |bytes| {
                let (block, rest) = mem::take(&mut values).split_at_mut(bytes.len() / N);
                for (value, bytes) in block.iter_mut().zip(bytes.as_chunks().0) {
                    *value = number(*bytes);
                }
                values = rest;
            })
        })?;
        Ok(values)
    }

    /// Returns the index of the last element in its storage, or `None` on overflow.
    fn last(&self) -> Option<u64> {
        self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (extent, stride)| {
            last.checked_add((extent.saturating_sub(1) as u64).checked_mul(*stride)?)
        })
    }

    /// Collects the elements from `bytes`, which start with the first element.
    fn gather<const N: usize>(&self, bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (all, _) = bytes.as_chunks::<N>();
        let elements = self.elements();
        let mut values = Vec::with_capacity(elements);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0usize;
        for _ in 0..elements {
            values.push(number(all[at]));
            // Increments the multi-dimensional index, starting with the last dimension.
            for ((index, extent), stride) in
                index.iter_mut().zip(&self.shape).zip(&self.strides).rev()
            {
                let stride = *stride as usize;
                *index += 1;
                // The stride of a dimension of size 1 may be any number.
                at = at.wrapping_add(stride);
                if *index < *extent {
                    break;
                }
                at = at.wrapping_sub(stride.wrapping_mul(*index));
                *index = 0;
            }
        }
        values
    }
}
