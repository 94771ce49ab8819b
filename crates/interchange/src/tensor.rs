//! A tensor in a file: what it is, and its numbers as f32.

use std::{fmt, ops::Range};

use alexnet_core::Array;
use half::{bf16, f16};

use crate::file::{Place, Source};

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F16,
    BF16,
    F32,
    F64,
    /// Not numbers that a weight can be; by PyTorch's name, with the bytes of an element.
    Other(&'static str, u64),
}

impl Dtype {
    /// Bytes of an element.
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

/// A tensor in a file; offset and strides count elements.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub dtype: Dtype,
    /// The storage that it looks into.
    pub place: Place,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<u64>,
}

/// A view may be spread over this many bytes, or over twice its own, before it is refused.
const MAX_SPREAD: u64 = 64 << 20;

/// The strides, in elements, of a row-major tensor.
pub fn contiguous_strides(shape: &[usize]) -> Vec<u64> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = u64::saturating_mul(strides[i], shape[i] as u64);
    }
    strides
}

impl View {
    /// A row-major tensor that fills its storage.
    pub fn contiguous(dtype: Dtype, place: Place, shape: Vec<usize>) -> Self {
        let strides = contiguous_strides(&shape);
        Self { dtype, place, offset: 0, shape, strides }
    }

    /// How many; the largest number there is, where they are more.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |product, extent| product.saturating_mul(*extent))
    }

    /// The elements in row-major order; f16 and bf16 widened exactly, f64 rounded to the nearest.
    ///
    /// # Errors
    /// When the view goes beyond its storage, or is no numbers.
    pub fn read(&self, source: &Source) -> Result<Array, String> {
        let elements = self.elements();
        let size = self.dtype.size();
        let last = self.last().ok_or("it goes beyond its storage")?;
        if elements > 0 && last >= self.place.bytes / size {
            return Err(format!(
                "its element {last} is asked for, but its storage has {}",
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
            Dtype::Other(name, _) => return Err(format!("it holds {name}, which weights are not")),
        };
        Ok(Array { shape: self.shape.clone(), values })
    }

    /// `part` begins with the first element and ends with the last.
    fn numbers<const N: usize>(
        &self,
        source: &Source,
        part: Range<u64>,
        number: impl Fn([u8; N]) -> f32,
    ) -> Result<Vec<f32>, String> {
        if self.strides != contiguous_strides(&self.shape) {
            return Ok(self.gather(&source.range(self.place, part)?, number));
        }
        // Before room is made for as many numbers.
        source.contains(self.place)?;
        let mut values = Vec::with_capacity(self.elements());
        source.each_block(self.place, part, |bytes| {
            values.extend(bytes.as_chunks().0.iter().map(|b| number(*b)))
        })?;
        Ok(values)
    }

    /// The place of the last element in its storage.
    fn last(&self) -> Option<u64> {
        self.shape.iter().zip(&self.strides).try_fold(self.offset, |last, (extent, stride)| {
            last.checked_add((extent.saturating_sub(1) as u64).checked_mul(*stride)?)
        })
    }

    /// `bytes` begin with the first element.
    fn gather<const N: usize>(&self, bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
        let (all, _) = bytes.as_chunks::<N>();
        let elements = self.elements();
        let mut values = Vec::with_capacity(elements);
        let mut index = vec![0; self.shape.len()];
        let mut at = 0usize;
        for _ in 0..elements {
            values.push(number(all[at]));
            // As an odometer: the last dimension counts, and carries over.
            for ((index, extent), stride) in index.iter_mut().zip(&self.shape).zip(&self.strides).rev() {
                let stride = *stride as usize;
                *index += 1;
                // Where there is but one index, its stride may be any number.
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
