//! Loads vectors from slices and stores them; partially at an edge.

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
