//! Vectors from slices and back, whole or, at an edge, in part.

use pulp::Simd;

/// The numbers of a slice of at most a vector; lanes beyond it are zero.
#[inline(always)]
pub fn read<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    match S::as_simd_f32s(from).0 {
        [whole] => *whole,
        _ => simd.partial_load_f32s(from),
    }
}

/// Writes as many numbers as the slice has, at most a vector.
#[inline(always)]
pub fn write<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    if let [whole] = S::as_mut_simd_f32s(to).0 {
        *whole = value;
    } else {
        simd.partial_store_f32s(to, value);
    }
}
