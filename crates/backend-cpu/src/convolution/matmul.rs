//! The matrix product of the library `gemm` on one core. This engine runs several products in
//! parallel, one per image.

use gemm::{Parallelism, gemm};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Whether a product replaces the destination or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `dst = a·b`
    Replace,
    /// `dst = dst + a·b`
    Add,
}

/// Computes `dst [m, n] = a [m, k] · b [k, n]` with any strides, on the calling thread.
///
/// # Panics
/// When the shapes do not match, which is a bug in a layer.
pub fn matmul(
    mut dst: ArrayViewMut2<'_, f32>,
    write: Write,
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
) {
    let ((m, n), k) = (dst.dim(), a.ncols());
    assert!(a.nrows() == m && b.dim() == (k, n), "[{m}, {n}] = {:?} · {:?}", a.dim(), b.dim());
    let [dst_rs, dst_cs] = [dst.strides()[0], dst.strides()[1]];
    let alpha = if write == Write::Add { 1.0 } else { 0.0 };
    // SAFETY: the pointers and strides are those of live views whose shapes were checked above, so
    // every element that `gemm` reads or writes is inside them. `dst` is borrowed mutably, so it
    // does not overlap with the others.
    unsafe {
        gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            dst_cs,
            dst_rs,
            write == Write::Add,
            a.as_ptr(),
            a.strides()[1],
            a.strides()[0],
            b.as_ptr(),
            b.strides()[1],
            b.strides()[0],
            alpha,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, s};

    use super::*;

    #[test]
    fn agrees_with_ndarray_on_any_strides() {
        let a = Array2::from_shape_fn((7, 26), |(i, j)| ((3 * i + 5 * j) % 9) as f32 - 4.0);
        let b = Array2::from_shape_fn((11, 13), |(i, j)| ((7 * i + 2 * j) % 9) as f32 - 4.0);
        let (a, b) = (a.slice(s![.., ..;2]), b.t());
        let mut dst = Array2::from_elem((7, 11), f32::NAN);
        matmul(dst.view_mut(), Write::Replace, a, b);
        assert_eq!(dst, a.dot(&b));
        matmul(dst.view_mut().reversed_axes(), Write::Add, b.t(), a.t());
        assert_eq!(dst, a.dot(&b) * 2.0);
    }
}
