//! Numbers in bf16, and products of them with sums in f32, as the AVX-512 instructions of the
//! extension BF16 compute them. A processor without these instructions computes the same bits.
//!
//! A bf16 number has the upper 16 bits of an f32: 8 bits of precision. A word of 32 bits holds two
//! numbers that are neighbors in the dimension that is summed over, the first in its lower half. The
//! product of two words is the sum of two products. Products of bf16 numbers are exact in f32, and
//! each addition is rounded to f32: first that of the upper halves, then that of the lower halves.
//! Numbers below 2⁻¹²⁶ are rounded to zero.

use pulp::{
    Simd, WithSimd,
    bytemuck::{cast_slice, cast_slice_mut},
};

use super::vector::{LINE, prefetch, read, read_words, write, write_words};

/// Two bf16 numbers. The first one is in the lower half.
pub type Pair = u32;

/// The bits of the second number of a pair.
const SECOND: u32 = 0xFFFF_0000;

/// Operations on bf16 numbers with one kind of instructions.
pub trait Bf16: Copy {
    /// Whether the processor has instructions for bf16.
    const IS_NATIVE: bool;

    /// Returns `sum + left₁·right₁ + left₀·right₀` for each pair, added in this order.
    fn multiply_add<S: Simd>(simd: S, left: S::u32s, right: S::u32s, sum: S::f32s) -> S::f32s;

    /// Rounds each number to the nearest bf16 number, ties to even. It is the first number of a
    /// pair, whose second number is zero.
    fn round<S: Simd>(simd: S, x: S::f32s) -> S::u32s;

    /// Rounds each number as [`Bf16::round`] and writes the bf16 numbers one after the other.
    ///
    /// # Safety
    /// As many numbers as a vector has lanes must be writable at `to`.
    unsafe fn store<S: Simd>(simd: S, to: *mut u16, x: S::f32s);
}

/// The operations with instructions for f32.
#[derive(Clone, Copy, Debug)]
pub struct Emulated;

impl Bf16 for Emulated {
    const IS_NATIVE: bool = false;

    #[inline(always)]
    fn multiply_add<S: Simd>(simd: S, left: S::u32s, right: S::u32s, sum: S::f32s) -> S::f32s {
        let ([left_0, left_1], [right_0, right_1]) = (numbers(simd, left), numbers(simd, right));
        let sum = without_subnormal(simd, simd.mul_add_f32s(left_1, right_1, sum));
        without_subnormal(simd, simd.mul_add_f32s(left_0, right_0, sum))
    }

    #[inline(always)]
    fn round<S: Simd>(simd: S, x: S::f32s) -> S::u32s {
        let c = |value| simd.splat_u32s(value);
        let upper = |bits| simd.wrapping_dyn_shr_u32s(bits, c(16));
        let bits = simd.transmute_u32s_f32s(without_subnormal(simd, x));
        let is_odd = simd.and_u32s(upper(bits), c(1));
        let nearest = simd.add_u32s(bits, simd.add_u32s(is_odd, c(0x7FFF)));
        let nan = simd.or_u32s(bits, c(1 << 22));
        upper(simd.select_u32s(simd.equal_f32s(x, x), nearest, nan))
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, to: *mut u16, x: S::f32s) {
        let rounded = [Self::round(simd, x)];
        for (i, number) in cast_slice::<S::u32s, u32>(&rounded).iter().enumerate() {
            // SAFETY: guaranteed by the caller.
            unsafe { to.add(i).write_unaligned(*number as u16) };
        }
    }
}

/// Returns the first and the second numbers of pairs.
#[inline(always)]
fn numbers<S: Simd>(simd: S, pairs: S::u32s) -> [S::f32s; 2] {
    let first = simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(16));
    let second = simd.and_u32s(pairs, simd.splat_u32s(SECOND));
    [simd.transmute_f32s_u32s(first), simd.transmute_f32s_u32s(second)]
}

/// Replaces numbers below 2⁻¹²⁶ by zero with the same sign.
#[inline(always)]
fn without_subnormal<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let sign = simd.and_u32s(simd.transmute_u32s_f32s(x), simd.splat_u32s(1 << 31));
    let small = simd.less_than_f32s(simd.abs_f32s(x), simd.splat_f32s(f32::MIN_POSITIVE));
    simd.select_f32s(small, simd.transmute_f32s_u32s(sign), x)
}

/// The instructions of AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub struct Native;

#[cfg(target_arch = "x86_64")]
mod native {
    use std::{arch::x86_64::*, mem::transmute_copy};

    use pulp::{Simd, x86::V4};

    use super::{Bf16, Kernel, Native};

    impl Bf16 for Native {
        const IS_NATIVE: bool = true;

        #[inline(always)]
        fn multiply_add<S: Simd>(_: S, left: S::u32s, right: S::u32s, sum: S::f32s) -> S::f32s {
            const { assert!(size_of::<S::f32s>() == 64 && size_of::<S::u32s>() == 64) };
            // SAFETY: `run` checks that the processor has the instruction, and is the only one that
            // calls a kernel with `Native`. The types are vectors of 512 bits.
            unsafe {
                let sum = _mm512_dpbf16_ps(
                    transmute_copy(&sum),
                    transmute_copy(&left),
                    transmute_copy(&right),
                );
                transmute_copy(&sum)
            }
        }

        #[inline(always)]
        fn round<S: Simd>(_: S, x: S::f32s) -> S::u32s {
            const { assert!(size_of::<S::f32s>() == 64 && size_of::<S::u32s>() == 64) };
            // SAFETY: as in `multiply_add`; a vector of bf16 numbers is one of 16-bit integers.
            unsafe {
                let rounded: __m256i = transmute_copy(&_mm512_cvtneps_pbh(transmute_copy(&x)));
                transmute_copy(&_mm512_cvtepu16_epi32(rounded))
            }
        }

        #[inline(always)]
        unsafe fn store<S: Simd>(_: S, to: *mut u16, x: S::f32s) {
            const { assert!(size_of::<S::f32s>() == 64) };
            // SAFETY: as in `multiply_add`; guaranteed by the caller.
            unsafe {
                let rounded: __m256i = transmute_copy(&_mm512_cvtneps_pbh(transmute_copy(&x)));
                _mm256_storeu_si256(to.cast(), rounded);
            }
        }
    }

    /// Whether the processor has AVX-512 BF16.
    pub fn is_native() -> bool {
        is_x86_feature_detected!("avx512bf16")
    }

    /// Runs a kernel with AVX-512 BF16.
    ///
    /// # Panics
    /// When the processor does not have it.
    pub fn run<K: Kernel>(simd: V4, kernel: K) -> K::Output {
        assert!(is_native(), "the processor has no AVX-512 BF16");
        // SAFETY: the processor has the features of `V4`, whose value proves it, and AVX-512 BF16.
        unsafe { with_features(simd, kernel) }
    }

    #[target_feature(enable = "avx,avx2,fma,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512cd")]
    #[target_feature(enable = "avx512dq,avx512vl,avx512bf16")]
    unsafe fn with_features<K: Kernel>(simd: V4, kernel: K) -> K::Output {
        kernel.run::<V4, Native>(simd)
    }
}

#[cfg(target_arch = "x86_64")]
pub use native::{is_native, run as run_native};

/// The number of pairs of a row of [`PairsInRows`] is a multiple of this, so that rows are complete
/// vectors of the widest instruction set.
pub const ROW_PAIRS: usize = 16;

/// Returns the number of pairs of a row with `len` numbers.
pub fn row_pairs(len: usize) -> usize {
    len.div_ceil(2 * ROW_PAIRS) * ROW_PAIRS
}

/// The kernel that rounds rows of `len` numbers to pairs of neighbors. The rest of each row of `to`,
/// of `pitch` pairs, is set to zero.
pub struct PairsInRows<'a> {
    /// The rows.
    pub from: &'a [f32],
    /// The distance from one row to the next.
    pub row: usize,
    /// The length of a row.
    pub len: usize,
    /// The pairs.
    pub to: &'a mut [Pair],
    /// The number of pairs of a row of `to`, at least half of `len`.
    pub pitch: usize,
}

impl Kernel for PairsInRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(self, simd: S) {
        for (i, to) in self.to.chunks_exact_mut(self.pitch).enumerate() {
            let from = &self.from[i * self.row..][..self.len];
            let to: &mut [u16] = cast_slice_mut(to);
            let (vectors, rest) = S::as_simd_f32s(from);
            let (to, to_rest) = to.split_at_mut(from.len() - rest.len());
            for (x, to) in vectors.iter().zip(to.chunks_exact_mut(S::F32_LANES)) {
                // SAFETY: `to` has as many numbers as a vector.
                unsafe { B::store(simd, to.as_mut_ptr(), *x) };
            }
            let mut rounded = [0; 2 * ROW_PAIRS];
            if !rest.is_empty() {
                // SAFETY: no vector has more numbers.
                unsafe { B::store(simd, rounded.as_mut_ptr(), simd.partial_load_f32s(rest)) };
            }
            to_rest.fill(0);
            to_rest[..rest.len()].copy_from_slice(&rounded[..rest.len()]);
        }
    }
}

/// The kernel that rounds numbers and writes them as f32 numbers.
pub struct RoundNumbers<'a> {
    /// The numbers.
    pub from: &'a [f32],
    /// The rounded numbers, as many.
    pub to: &'a mut [f32],
}

impl Kernel for RoundNumbers<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(self, simd: S) {
        for at in (0..self.from.len()).step_by(S::F32_LANES) {
            let lanes = at..(at + S::F32_LANES).min(self.from.len());
            let rounded = B::round(simd, read(simd, &self.from[lanes.clone()]));
            let bits = simd.wrapping_dyn_shl_u32s(rounded, simd.splat_u32s(16));
            write(simd, &mut self.to[lanes], simd.transmute_f32s_u32s(bits));
        }
    }
}

/// The kernel that rounds two rows of equal length to pairs, the first of which is from `first`.
pub struct PairsOfRows<'a> {
    /// The first row.
    pub first: &'a [f32],
    /// The second row; empty for zeros.
    pub second: &'a [f32],
    /// The pairs.
    pub to: &'a mut [Pair],
}

impl Kernel for PairsOfRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(self, simd: S) {
        let Self { first, second, to } = self;
        for at in (0..to.len()).step_by(S::F32_LANES) {
            let lanes = at..(at + S::F32_LANES).min(to.len());
            let mut pairs = B::round(simd, read(simd, &first[lanes.clone()]));
            if let Some(second) = second.get(lanes.clone()) {
                let second = B::round(simd, read(simd, second));
                let second = simd.wrapping_dyn_shl_u32s(second, simd.splat_u32s(16));
                pairs = simd.or_u32s(pairs, second);
            }
            write_words(simd, &mut to[lanes], pairs);
        }
    }
}

/// The kernel that converts a matrix of pairs of neighbors in a row to pairs of numbers from two
/// rows: for each pair of rows, first those of the even columns, then those of the odd columns.
pub struct PairsAcrossRows<'a> {
    /// The rows, of at least `pairs` pairs.
    pub from: &'a [Pair],
    /// The distance from one row to the next.
    pub pitch: usize,
    /// The number of rows. If it is odd, the last one is paired with itself.
    pub rows: usize,
    /// The number of pairs to convert in each row.
    pub pairs: usize,
    /// The pairs `[⌈rows/2⌉, 2 · pairs]`.
    pub to: &'a mut [Pair],
    /// The distance between rows of `to`.
    pub row: usize,
}

/// The number of rows between a row that is converted and a row that is prefetched.
const ROWS_AHEAD: usize = 8;

impl Kernel for PairsAcrossRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(self, simd: S) {
        let Self { from, pitch, rows, pairs, to, row } = self;
        let c = |value| simd.splat_u32s(value);
        for (pair, to) in to.chunks_exact_mut(row).enumerate() {
            // Rows far apart in memory, which the processor does not foresee.
            for row in [2 * pair + ROWS_AHEAD, 2 * pair + 1 + ROWS_AHEAD] {
                (0..pairs).step_by(LINE).for_each(|at| prefetch(from, row * pitch + at));
            }
            let row = |row: usize| &from[row.min(rows - 1) * pitch..][..pairs];
            let (first, second) = (row(2 * pair), row(2 * pair + 1));
            let (even, odd) = to[..2 * pairs].split_at_mut(pairs);
            for at in (0..pairs).step_by(S::U32_LANES) {
                let lanes = at..(at + S::U32_LANES).min(pairs);
                let first = read_words(simd, &first[lanes.clone()]);
                let second = read_words(simd, &second[lanes.clone()]);
                let second_even = simd.wrapping_dyn_shl_u32s(second, c(16));
                let first_odd = simd.wrapping_dyn_shr_u32s(first, c(16));
                let evens = simd.or_u32s(simd.and_u32s(first, c(!SECOND)), second_even);
                let odds = simd.or_u32s(first_odd, simd.and_u32s(second, c(SECOND)));
                write_words(simd, &mut even[lanes.clone()], evens);
                write_words(simd, &mut odd[lanes], odds);
            }
        }
    }
}

/// A copy of a matrix in bf16, with the layout of [`PairsInRows`].
#[derive(Default)]
pub struct RoundedRows<'a> {
    /// The pairs. Nothing is written to an empty copy.
    pub pairs: &'a mut [Pair],
    /// The number of pairs of a row.
    pub pitch: usize,
}

impl RoundedRows<'_> {
    /// Writes a vector of `row` from `column`, a multiple of the vector's length. Lanes beyond the
    /// end of the row must be zero.
    #[inline(always)]
    pub fn write<S: Simd, B: Bf16>(&mut self, simd: S, row: usize, column: usize, value: S::f32s) {
        if self.pairs.is_empty() {
            return;
        }
        let row: &mut [u16] = cast_slice_mut(&mut self.pairs[row * self.pitch..][..self.pitch]);
        // SAFETY: the slice has as many numbers as a vector.
        unsafe { B::store(simd, row[column..][..S::F32_LANES].as_mut_ptr(), value) };
    }
}

/// A kernel that can multiply bf16 numbers.
pub trait Kernel: Sized {
    /// Its result.
    type Output;

    /// Runs it.
    fn run<S: Simd, B: Bf16>(self, simd: S) -> Self::Output;
}

/// Runs a kernel with instructions for f32.
pub struct WithEmulated<K>(pub K);

impl<K: Kernel> WithSimd for WithEmulated<K> {
    type Output = K::Output;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> K::Output {
        self.0.run::<S, Emulated>(simd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Isa;

    /// Returns bits of all kinds of numbers: ordinary ones, subnormal ones, zeros, infinities and
    /// NaN, with both signs.
    fn bits(n: usize, seed: u64) -> Vec<u32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 32) as u32
        };
        let special = [0, 1, 0x007F_FFFF, 0x0080_0000, 0x3F80_8000, 0x7F80_0000];
        // The first and the last would be rounded to infinity and to -0 like other numbers.
        let nan = [0x7F80_0001, 0x7FC0_0001, 0x7FFF_FFFF];
        let special = [&special[..], &nan].concat();
        (0..n)
            .map(|i| match next() {
                word if i % 3 == 0 => word,
                // Between 2⁻¹⁶ and 2¹⁶.
                word if i % 3 == 1 => word & 0x87FF_FFFF | 0x3800_0000,
                word => special[word as usize % special.len()] | word & 1 << 31,
            })
            .collect()
    }

    struct MultiplyAdd<'a> {
        left: &'a [Pair],
        right: &'a [Pair],
        sums: &'a mut [f32],
    }

    impl Kernel for MultiplyAdd<'_> {
        type Output = ();

        fn run<S: Simd, B: Bf16>(self, simd: S) {
            let operands = S::as_simd_u32s(self.left).0.iter().zip(S::as_simd_u32s(self.right).0);
            for (sum, (left, right)) in S::as_mut_simd_f32s(self.sums).0.iter_mut().zip(operands) {
                *sum = B::multiply_add(simd, *left, *right, *sum);
            }
        }
    }

    fn flushed(x: f32) -> f32 {
        if x.is_subnormal() { 0.0f32.copysign(x) } else { x }
    }

    fn assert_same(found: f32, expected: f32, what: impl Fn() -> String) {
        let both_nan = found.is_nan() && expected.is_nan();
        assert!(
            both_nan || found.to_bits() == expected.to_bits(),
            "{}: {found} {expected}",
            what()
        );
    }

    #[test]
    fn numbers_are_rounded_to_nearest_even() {
        let numbers: Vec<f32> = bits(4096, 1).into_iter().map(f32::from_bits).collect();
        for isa in Isa::available() {
            let mut rounded = vec![f32::NAN; numbers.len()];
            isa.run_bf16(RoundNumbers { from: &numbers, to: &mut rounded });
            for (from, to) in numbers.iter().zip(&rounded) {
                let exact = f64::from(flushed(*from));
                let below = f32::from_bits(from.to_bits() & SECOND);
                let above = f32::from_bits((from.to_bits() & SECOND).wrapping_add(1 << 16));
                let [to_below, to_above] =
                    [below, above].map(|near| (exact - f64::from(near)).abs());
                let is_even = (below.to_bits() >> 16).is_multiple_of(2);
                // The number after the largest bf16 number counts as 2¹²⁸.
                let expected = if exact == 0.0 || !from.is_finite() {
                    flushed(*from)
                } else if above.is_infinite() {
                    if from.to_bits() & 0xFFFF < 0x8000 { below } else { above }
                } else if to_below < to_above || (to_below == to_above && is_even) {
                    below
                } else {
                    above
                };
                assert_same(*to, expected, || format!("{isa}: {from:e}"));
            }
        }
    }

    #[test]
    fn pairs_are_multiplied_with_two_rounded_additions() {
        let n = 4096;
        let numbers =
            |seed| -> Vec<f32> { bits(n, seed).into_iter().map(f32::from_bits).collect() };
        let halves: Vec<Vec<f32>> = (1..=4)
            .map(|seed| {
                let mut rounded = vec![0.0; n];
                Isa::Portable.run_bf16(RoundNumbers { from: &numbers(seed), to: &mut rounded });
                rounded
            })
            .collect();
        let pairs = |first: &[f32], second: &[f32]| -> Vec<Pair> {
            let bits = first.iter().zip(second).map(|(a, b)| a.to_bits() >> 16 | b.to_bits());
            bits.collect()
        };
        let (left, right) = (pairs(&halves[0], &halves[1]), pairs(&halves[2], &halves[3]));
        let start: Vec<f32> = numbers(5).into_iter().map(flushed).collect();
        for isa in Isa::available() {
            let mut sums = start.clone();
            isa.run_bf16(MultiplyAdd { left: &left, right: &right, sums: &mut sums });
            for i in 0..n {
                let sum = flushed(halves[1][i].mul_add(halves[3][i], start[i]));
                let sum = flushed(halves[0][i].mul_add(halves[2][i], sum));
                assert_same(sums[i], sum, || format!("{isa}: {:x} {:x}", left[i], right[i]));
            }
        }
    }

    /// The first addition gives 2⁻¹²⁸, which is rounded to zero, so the sum is that of the second.
    #[test]
    fn a_sum_below_the_normal_numbers_between_two_additions_is_zero() {
        let [first, second] = [-60, -64].map(|exponent| 2f32.powi(exponent).to_bits());
        let factors = [first >> 16 | second; ROW_PAIRS];
        for isa in Isa::available() {
            let mut sums = [0.0; ROW_PAIRS];
            isa.run_bf16(MultiplyAdd { left: &factors, right: &factors, sums: &mut sums });
            assert_eq!(sums, [2f32.powi(-120); ROW_PAIRS], "{isa}");
        }
    }

    #[test]
    fn packed_rows_have_the_numbers_in_the_order_of_the_products() {
        for isa in Isa::available() {
            let from: Vec<f32> = (0..3 * 37).map(|i| i as f32).collect();
            let (row, len, pitch) = (37, 35, row_pairs(35));
            let mut in_rows = vec![u32::MAX; 3 * pitch];
            isa.run_bf16(PairsInRows { from: &from, row, len, to: &mut in_rows, pitch });
            let number = |i: usize, j: usize| if j < len { (i * row + j) as f32 } else { 0.0 };
            let pair = |first: f32, second: f32| first.to_bits() >> 16 | second.to_bits();
            for (at, found) in in_rows.iter().enumerate() {
                let (i, j) = (at / pitch, at % pitch * 2);
                assert_eq!(*found, pair(number(i, j), number(i, j + 1)), "{isa} {i} {j}");
            }
            let (pairs, row) = (17, 40);
            let mut across = vec![0; 2 * row];
            isa.run_bf16(PairsAcrossRows {
                from: &in_rows,
                pitch,
                rows: 3,
                pairs,
                to: &mut across,
                row,
            });
            for t in 0..2 {
                for j in 0..2 * pairs {
                    let at = t * row + j / 2 + j % 2 * pairs;
                    let second = (2 * t + 1).min(2);
                    assert_eq!(across[at], pair(number(2 * t, j), number(second, j)), "{isa}");
                }
            }
            let mut of_rows = vec![0; 37];
            let (first, second) = (&from[..37], &from[37..74]);
            isa.run_bf16(PairsOfRows { first, second, to: &mut of_rows });
            let expected: Vec<Pair> = first.iter().zip(second).map(|(a, b)| pair(*a, *b)).collect();
            assert_eq!(of_rows, expected, "{isa}");
            isa.run_bf16(PairsOfRows { first, second: &[], to: &mut of_rows });
            let expected: Vec<Pair> = first.iter().map(|a| pair(*a, 0.0)).collect();
            assert_eq!(of_rows, expected, "{isa}");
        }
    }
}
