//! Loads vectors from slices and stores them; partially at an edge.
#![expect(unsafe_code, reason = "the prefetch instruction takes an address")]

use pulp::Simd;

/// Reads a slice of at most one vector. The other lanes are zero.
#[inline(always)]
pub fn read<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from).0 {
        [vector] => *vector,
        _ => simd.partial_load_f32s(from),
    }
}

/// Writes the first lanes of `value` to a slice of at most one vector.
#[inline(always)]
pub fn write<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    if let [vector] = S::as_mut_simd_f32s(to).0 {
        *vector = value;
    } else {
        simd.partial_store_f32s(to, value);
    }
}

/// Reads a slice of at most one vector of words. The other lanes are zero.
#[inline(always)]
pub fn read_words<S: Simd>(simd: S, from: &[u32]) -> S::u32s {
    match S::as_simd_u32s(from).0 {
        [vector] => *vector,
        _ => simd.partial_load_u32s(from),
    }
}

/// Writes the first lanes of `value` to a slice of at most one vector of words.
#[inline(always)]
pub fn write_words<S: Simd>(simd: S, to: &mut [u32], value: S::u32s) {
    if let [vector] = S::as_mut_simd_u32s(to).0 {
        *vector = value;
    } else {
        simd.partial_store_u32s(to, value);
    }
}

/// The count of numbers of 32 bits in a cache line.
pub const LINE: usize = 16;

/// Loads the cache line of `numbers[at]` without waiting for it, if the processor can and there is
/// such a number.
#[inline(always)]
pub fn prefetch<T>(numbers: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(number) = numbers.get(at) {
        // SAFETY: every processor of this architecture has the instruction.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(number).cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, at);
}
