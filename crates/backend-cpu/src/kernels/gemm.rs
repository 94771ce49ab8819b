//! The matrix product for Winograd convolutions and the backward pass of linear layers: `out [m, n]
//! = left [m, k] · right [k, n]`.
//!
//! A tile of the output, P rows × V vectors of columns, stays in registers during the loop over k.
//! One step of k loads V vectors of a row of `right`, and for each of the P rows one number of
//! `left`, which is broadcast to all lanes. With 32 registers the tile is 14 × 2 (28 sums, 2
//! vectors, 1 broadcast number) or 6 × 4, with 16 registers 6 × 2. The multiplications then hide
//! the latency of the loads, and the operands need no packing. Rows are divided evenly: 64 rows are
//! five tiles of 13 and 12 rows, not four of 14 and one of 8.
//!
//! `left` can be row-major or column-major, which covers all three products of a layer: `x·W`,
//! `dy·Wᵀ` (with W stored transposed) and `xᵀ·dy`. Each output is one sum in the order of k (or a
//! tree of such sums) for any tile size, so its bits depend only on its own row and column.

use std::{mem::MaybeUninit, ops::Range};

use pulp::{Simd, bytemuck::Pod};

use super::{
    Isa,
    bf16::{Bf16, Kernel, Pair, WithEmulated},
    vector::read,
};

/// An element of an operand: a number, or two numbers that are neighbors in the dimension that is
/// summed over.
pub trait Element: Pod + Default + Send + Sync {
    /// The count of numbers in an element.
    const NUMBERS: usize;

    /// A vector of elements.
    type Vector<S: Simd>: Copy;

    /// Returns a vector of equal elements.
    fn splat<S: Simd>(simd: S, element: Self) -> Self::Vector<S>;

    /// Reads `lanes` elements, at most a vector. The other lanes are zero.
    fn read<S: Simd>(simd: S, from: &[Self]) -> Self::Vector<S>;

    /// Returns `sum + left · right`.
    fn multiply_add<S: Simd, B: Bf16>(
        simd: S,
        left: Self::Vector<S>,
        right: Self::Vector<S>,
        sum: S::f32s,
    ) -> S::f32s;

    /// Runs a kernel that multiplies such elements.
    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output;
}

impl Element for f32 {
    const NUMBERS: usize = 1;

    type Vector<S: Simd> = S::f32s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, element: Self) -> S::f32s {
        simd.splat_f32s(element)
    }

    #[inline(always)]
    fn read<S: Simd>(simd: S, from: &[Self]) -> S::f32s {
        simd.partial_load_f32s(from)
    }

    #[inline(always)]
    fn multiply_add<S: Simd, B: Bf16>(
        simd: S,
        left: S::f32s,
        right: S::f32s,
        sum: S::f32s,
    ) -> S::f32s {
        simd.mul_add_e_f32s(left, right, sum)
    }

    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
        isa.run(WithEmulated(kernel))
    }
}

impl Element for Pair {
    const NUMBERS: usize = 2;

    type Vector<S: Simd> = S::u32s;

    #[inline(always)]
    fn splat<S: Simd>(simd: S, element: Self) -> S::u32s {
        simd.splat_u32s(element)
    }

    #[inline(always)]
    fn read<S: Simd>(simd: S, from: &[Self]) -> S::u32s {
        simd.partial_load_u32s(from)
    }

    #[inline(always)]
    fn multiply_add<S: Simd, B: Bf16>(
        simd: S,
        left: S::u32s,
        right: S::u32s,
        sum: S::f32s,
    ) -> S::f32s {
        B::multiply_add(simd, left, right, sum)
    }

    fn run<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
        isa.run_bf16(kernel)
    }
}

/// The left operand: element (i, t) is `values[i * row + t * column]`. One of the two strides is 1.
#[derive(Clone, Copy, Debug)]
pub struct Left<'a, E = f32> {
    /// The elements.
    pub values: &'a [E],
    /// The distance from one row to the next.
    pub row: usize,
    /// The distance from one column to the next.
    pub column: usize,
}

/// The right operand, row-major: element (t, j) is `values[t * row + j]`.
#[derive(Clone, Copy, Debug)]
pub struct Right<'a, E = f32> {
    /// The elements.
    pub values: &'a [E],
    /// The distance from one row to the next.
    pub row: usize,
}

/// The initial values of the sums of a tile, and the processing of the finished sums.
pub trait Finish {
    /// Whether tiles should have more columns and fewer rows. This is faster if `finish` is limited
    /// by memory bandwidth, since it then accesses longer contiguous lines.
    const WIDE: bool = false;

    /// Processes the sums of P rows from `row` and of V vectors of columns from `column`. Only the
    /// first `lanes` columns of a vector are valid. `lanes` is less than a vector only at the right
    /// edge, where V is 1.
    fn finish<S: Simd, B: Bf16, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        lanes: usize,
        sums: &[[S::f32s; V]; P],
    );

    /// Returns the initial sums of `lanes` columns from `column` in `row`: zero, unless the product
    /// is added to the output.
    #[inline(always)]
    fn initial<S: Simd>(&self, simd: S, _row: usize, _column: usize, _lanes: usize) -> S::f32s {
        simd.splat_f32s(0.0)
    }
}

/// The sizes of a product `[m, k] · [k, n]`.
#[derive(Clone, Copy, Debug)]
pub struct Extents {
    /// Rows of the output.
    pub m: usize,
    /// Columns of the output.
    pub n: usize,
    /// The length of the sums, in elements.
    pub k: usize,
}

/// The kernel of a product. It passes each tile of the output to `finish`. With `IN_PARTS`, the sums
/// over k are divided into parts, which are added as a balanced tree
/// ([`alexnet_core::sum_order`]).
pub struct Gemm<'a, F, E = f32, const IN_PARTS: bool = false> {
    extents: Extents,
    left: Left<'a, E>,
    right: Right<'a, E>,
    finish: F,
    /// The length of a part.
    part: usize,
}

/// The number of rows of a tile for elements that the processor has no instructions for. It is small,
/// because such kernels are rarely used and take long to compile.
const EMULATED_ROWS: usize = 4;

/// The number of parts is below 2 to this power; a step has at most 512.
const LEVELS: usize = 10;

impl<'a, F: Finish, E: Element> Gemm<'a, F, E> {
    /// Creates a product.
    ///
    /// # Panics
    /// When an operand is too short for its size, which is a bug in a layer.
    pub fn new(extents: Extents, left: Left<'a, E>, right: Right<'a, E>, finish: F) -> Self {
        let Extents { m, n, k } = extents;
        assert!(
            left.row == 1 || left.column == 1,
            "the left operand must be row-major or column-major"
        );
        if m > 0 && n > 0 && k > 0 {
            let last = |a: usize, a_step, b: usize, b_step| {
                (a - 1).checked_mul(a_step)?.checked_add((b - 1).checked_mul(b_step)?)
            };
            let fits =
                |last: Option<usize>, values: &[E]| last.is_some_and(|last| last < values.len());
            assert!(fits(last(m, left.row, k, left.column), left.values), "left: {extents:?}");
            assert!(fits(last(k, right.row, n, 1), right.values), "right: {extents:?}");
        }
        Self { extents, left, right, finish, part: k }
    }
}

impl<'a, F: Finish, E: Element> Gemm<'a, F, E, true> {
    /// Creates a product whose sums are divided into parts of length `part`. They start at zero:
    /// [`Finish::initial`] is not used.
    ///
    /// # Panics
    /// As [`Gemm::new`].
    pub fn in_parts(
        extents: Extents,
        left: Left<'a, E>,
        right: Right<'a, E>,
        part: usize,
        finish: F,
    ) -> Self {
        assert!(extents.k.div_ceil(part) < 1 << LEVELS, "too many parts of {part}: {extents:?}");
        let Gemm { extents, left, right, finish, .. } = Gemm::new(extents, left, right, finish);
        Self { extents, left, right, finish, part }
    }
}

impl<F: Finish, E: Element, const IN_PARTS: bool> Gemm<'_, F, E, IN_PARTS> {
    /// Computes some rows of V vectors of columns from `column`.
    #[inline(always)]
    fn columns<S: Simd, B: Bf16, const V: usize>(
        &mut self,
        simd: S,
        rows: Range<usize>,
        column: usize,
        max_rows: usize,
    ) {
        let tiles = rows.len().div_ceil(max_rows);
        let mut row = rows.start;
        for tile in 0..tiles {
            let rows = (rows.end - row).div_ceil(tiles - tile);
            macro_rules! by_rows {
                ($($p:literal)*) => {
                    match rows {
                        // Only the combinations that `run` uses. The others take long to compile, and
                        // in a function that has them, the compiler keeps sums of tiles in memory
                        // if there are only 16 registers: it takes 1.6 times as long.
                        $($p if const {
                            if E::NUMBERS > 1 && !B::IS_NATIVE {
                                $p <= EMULATED_ROWS && V == 1
                            } else if IN_PARTS || V == 4 {
                                $p <= 6
                            } else if S::REGISTER_COUNT >= 32 {
                                true
                            } else {
                                $p * V <= 12
                            }
                        } => {
                            self.tile::<S, B, $p, V>(simd, row, column)
                        })*
                        _ => unreachable!("`run` limits the rows of a tile"),
                    }
                };
            }
            by_rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            row += rows;
        }
    }

    #[inline(always)]
    fn tile<S: Simd, B: Bf16, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
    ) {
        let (part, Extents { n, k, .. }) = (self.part, self.extents);
        let lanes = (n - column).min(S::F32_LANES);
        let is_full = lanes == S::F32_LANES;
        let mut sums = [[simd.splat_f32s(0.0); V]; P];
        for (p, sums) in sums.iter_mut().enumerate() {
            for (v, sums) in sums.iter_mut().enumerate() {
                *sums = self.finish.initial(simd, row + p, column + v * S::F32_LANES, lanes);
            }
        }
        let left = &self.left.values[row * self.left.row..];
        let right = &self.right.values[column..];
        // SAFETY: `new` has checked that rows up to m and columns up to k of `left`, and rows up to
        // k and columns up to n of `right`, are inside the slices. row + P ≤ m. Either column +
        // V·LANES ≤ n, or V = 1 and column + lanes = n, where `load_part` reads only `lanes`
        // numbers.
        unsafe {
            let (left, right) = (left.as_ptr(), right.as_ptr());
            sums = match (self.left.column == 1, is_full) {
                (true, true) => {
                    let at = |p, t| left.add(p * self.left.row + t);
                    all::<IN_PARTS, E, S, B, P, V>(simd, sums, k, part, at, |t, v| {
                        load::<E, S>(right.add(t * self.right.row + v * S::F32_LANES))
                    })
                }
                (false, true) => {
                    let at = |p, t| left.add(t * self.left.column + p);
                    all::<IN_PARTS, E, S, B, P, V>(simd, sums, k, part, at, |t, v| {
                        load::<E, S>(right.add(t * self.right.row + v * S::F32_LANES))
                    })
                }
                (_, false) => {
                    let at = |p, t| left.add(p * self.left.row + t * self.left.column);
                    all::<IN_PARTS, E, S, B, P, V>(simd, sums, k, part, at, |t, _| {
                        load_part::<E, S>(simd, right.add(t * self.right.row), lanes)
                    })
                }
            };
        }
        self.finish.finish::<S, B, P, V>(simd, row, column, lanes, &sums);
    }
}

impl<F: Finish, E: Element, const IN_PARTS: bool> Kernel for Gemm<'_, F, E, IN_PARTS> {
    type Output = F;

    #[inline(always)]
    fn run<S: Simd, B: Bf16>(mut self, simd: S) -> F {
        let lanes = S::F32_LANES;
        let Extents { m, n, .. } = self.extents;
        if const { E::NUMBERS > 1 && !B::IS_NATIVE } {
            for column in (0..n).step_by(lanes) {
                self.columns::<S, B, 1>(simd, 0..m, column, EMULATED_ROWS);
            }
            return self.finish;
        }
        let registers = S::REGISTER_COUNT;
        let (two, one) = match registers >= 32 {
            _ if IN_PARTS => (6, 6),
            true => (14, 14),
            false => (6, 12),
        };
        // If `finish` is limited by memory bandwidth, its accesses should follow the rows.
        let rows_at_a_time = if F::WIDE && E::NUMBERS > 1 { 6 } else { m.max(1) };
        for row in (0..m).step_by(rows_at_a_time) {
            let rows = || row..m.min(row + rows_at_a_time);
            let mut column = 0;
            while column < n {
                let is_wide = const { (F::WIDE || IN_PARTS) && S::REGISTER_COUNT >= 32 };
                if is_wide && n - column >= 4 * lanes {
                    self.columns::<S, B, 4>(simd, rows(), column, 6);
                    column += 4 * lanes;
                } else if n - column >= 2 * lanes {
                    self.columns::<S, B, 2>(simd, rows(), column, two);
                    column += 2 * lanes;
                } else {
                    self.columns::<S, B, 1>(simd, rows(), column, one);
                    column += lanes;
                }
            }
        }
        self.finish
    }
}

/// Computes `sums[p][v] += left(p, t) · right(t, v)` for t in 0..k; in parts if `IN_PARTS`.
///
/// # Safety
/// As [`depth`] for all t in 0..k.
#[inline(always)]
unsafe fn all<
    const IN_PARTS: bool,
    E: Element,
    S: Simd,
    B: Bf16,
    const P: usize,
    const V: usize,
>(
    simd: S,
    sums: [[S::f32s; V]; P],
    k: usize,
    part: usize,
    left: impl Fn(usize, usize) -> *const E,
    right: impl Fn(usize, usize) -> E::Vector<S>,
) -> [[S::f32s; V]; P] {
    if !IN_PARTS {
        // SAFETY: guaranteed by the caller.
        return unsafe { depth::<E, S, B, P, V>(simd, sums, 0..k, left, right) };
    }
    let add = |earlier: &[[S::f32s; V]; P], later: [[S::f32s; V]; P]| {
        std::array::from_fn(|p| std::array::from_fn(|v| simd.add_f32s(earlier[p][v], later[p][v])))
    };
    // As in `BalancedSum`: element i is initialized while bit i of `count` is set. An initialization
    // of all elements would take as long as a part.
    let mut waiting = [MaybeUninit::<[[S::f32s; V]; P]>::uninit(); LEVELS];
    let mut count = 0_usize;
    loop {
        let first = count * part;
        let end = (first + part).min(k);
        let zero = [[simd.splat_f32s(0.0); V]; P];
        // SAFETY: guaranteed by the caller.
        let mut sum = unsafe { depth::<E, S, B, P, V>(simd, zero, first..end, &left, &right) };
        let is_last = end == k;
        let mut level = 0;
        while count >> level != 0 {
            if count >> level & 1 == 1 {
                // SAFETY: the bit of this element is set in `count`.
                sum = add(unsafe { waiting[level].assume_init_ref() }, sum);
            } else if !is_last {
                break;
            }
            level += 1;
        }
        if is_last {
            return sum;
        }
        waiting[level].write(sum);
        count += 1;
    }
}

/// Computes `sums[p][v] += left(p, t) · right(t, v)` for t in `range`.
///
/// # Safety
/// `left` must return readable addresses for p < P and t in `range`, and calling `right` must be
/// sound for t in `range` and v < V.
#[inline(always)]
pub unsafe fn depth<E: Element, S: Simd, B: Bf16, const P: usize, const V: usize>(
    simd: S,
    mut sums: [[S::f32s; V]; P],
    range: Range<usize>,
    left: impl Fn(usize, usize) -> *const E,
    right: impl Fn(usize, usize) -> E::Vector<S>,
) -> [[S::f32s; V]; P] {
    for t in range {
        let right: [E::Vector<S>; V] = std::array::from_fn(|v| right(t, v));
        for (p, sums) in sums.iter_mut().enumerate() {
            // SAFETY: guaranteed by the caller.
            let left = E::splat(simd, unsafe { *left(p, t) });
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = E::multiply_add::<S, B>(simd, left, right, *sum);
            }
        }
    }
    sums
}

/// Reads a vector.
///
/// # Safety
/// A vector of elements must be readable at `from`.
#[inline(always)]
pub unsafe fn load<E: Element, S: Simd>(from: *const E) -> E::Vector<S> {
    // SAFETY: guaranteed by the caller; any bits are a valid vector.
    unsafe { from.cast::<E::Vector<S>>().read_unaligned() }
}

/// Reads `lanes` elements; the other lanes are zero.
///
/// # Safety
/// `lanes` elements must be readable at `from`.
#[inline(always)]
unsafe fn load_part<E: Element, S: Simd>(simd: S, from: *const E, lanes: usize) -> E::Vector<S> {
    // SAFETY: guaranteed by the caller.
    E::read(simd, unsafe { std::slice::from_raw_parts(from, lanes) })
}

/// Writes the sums to a row-major matrix.
pub struct Store<'a> {
    /// The numbers.
    pub values: &'a mut [f32],
    /// The distance from one row to the next.
    pub row: usize,
}

impl Finish for Store<'_> {
    #[inline(always)]
    fn finish<S: Simd, B: Bf16, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        lanes: usize,
        sums: &[[S::f32s; V]; P],
    ) {
        for (p, sums) in sums.iter().enumerate() {
            let at = (row + p) * self.row + column;
            if lanes < S::F32_LANES {
                // At the right edge there is one vector.
                simd.partial_store_f32s(&mut self.values[at..at + lanes], sums[0]);
                continue;
            }
            let (to, _) = S::as_mut_simd_f32s(&mut self.values[at..at + V * S::F32_LANES]);
            to.copy_from_slice(sums);
        }
    }
}

/// Adds the sums to a row-major matrix. This is a separate type, since a branch in each tile would
/// make a training step 5 % slower.
pub struct Add<'a>(pub Store<'a>);

impl Finish for Add<'_> {
    #[inline(always)]
    fn initial<S: Simd>(&self, simd: S, row: usize, column: usize, lanes: usize) -> S::f32s {
        read(simd, &self.0.values[row * self.0.row + column..][..lanes])
    }

    #[inline(always)]
    fn finish<S: Simd, B: Bf16, const P: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        lanes: usize,
        sums: &[[S::f32s; V]; P],
    ) {
        self.0.finish::<S, B, P, V>(simd, row, column, lanes, sums);
    }
}

#[cfg(test)]
mod tests {
    use alexnet_core::sum_order::BalancedSum;

    use super::*;

    fn integers(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 + i / 7 * seed) % 9) as f32 - 4.0).collect()
    }

    /// Tests all tile heights, right edges, both layouts of the left operand, and sums added to the
    /// output, with all instruction sets. The numbers are integers, so the results are exact.
    #[test]
    fn products_of_integers_are_exact() {
        for isa in Isa::available() {
            for (m, n, k) in (1..=15).map(|m| (m, 32 + m, 5)).chain([
                (29, 64, 48),
                (3, 5, 1),
                (64, 48, 17),
                (1, 1, 1),
            ]) {
                let (a, b, initial) = (integers(m * k, 3), integers(k * n, 5), integers(m * n, 2));
                let along_rows = Left { values: &a, row: k, column: 1 };
                let along_columns = Left { values: &a, row: 1, column: m };
                for left in [along_rows, along_columns] {
                    let expected = |i: usize, j: usize| -> f32 {
                        (0..k).map(|t| a[i * left.row + t * left.column] * b[t * n + j]).sum()
                    };
                    let (mut stored, mut added) = (vec![f32::NAN; m * n], initial.clone());
                    let (extents, right) = (Extents { m, n, k }, Right { values: &b, row: n });
                    f32::run(
                        isa,
                        Gemm::new(extents, left, right, Store { values: &mut stored, row: n }),
                    );
                    f32::run(
                        isa,
                        Gemm::new(extents, left, right, Add(Store { values: &mut added, row: n })),
                    );
                    for at in 0..m * n {
                        let expected = expected(at / n, at % n);
                        assert_eq!(stored[at], expected, "{isa} {extents:?} {left:?} [{at}]");
                        assert_eq!(
                            added[at],
                            initial[at] + expected,
                            "{isa} {extents:?} {left:?} [{at}]"
                        );
                    }
                }
            }
        }
    }

    /// Pairs of small integers are exact in bf16.
    #[test]
    fn products_of_pairs_are_exact() {
        for isa in Isa::available() {
            for (m, n, k) in [(1, 1, 1), (13, 33, 5), (14, 64, 24), (29, 70, 9)] {
                let (a, b) = (integers(2 * m * k, 3), integers(2 * k * n, 5));
                let pair = |first: f32, second: f32| first.to_bits() >> 16 | second.to_bits();
                let left: Vec<Pair> =
                    a.chunks(2).map(|pair_of| pair(pair_of[0], pair_of[1])).collect();
                let right: Vec<Pair> =
                    b.chunks(2).map(|pair_of| pair(pair_of[0], pair_of[1])).collect();
                for (row, column) in [(k, 1), (1, m)] {
                    let mut found = vec![f32::NAN; m * n];
                    let left = Left { values: &left[..], row, column };
                    let right = Right { values: &right[..], row: n };
                    let store = Store { values: &mut found, row: n };
                    Pair::run(isa, Gemm::new(Extents { m, n, k }, left, right, store));
                    for (at, found) in found.iter().enumerate() {
                        let (i, j) = (at / n, at % n);
                        let products = (0..2 * k).map(|t| {
                            let l = i * row + t / 2 * column;
                            a[2 * l + t % 2] * b[2 * (t / 2 * n + j) + t % 2]
                        });
                        assert_eq!(*found, products.sum::<f32>(), "{isa} {m} {n} {k} [{at}]");
                    }
                }
            }
        }
    }

    #[test]
    fn parts_of_the_sums_are_added_as_a_balanced_tree() {
        let (m, n) = (7, 37);
        for isa in Isa::available() {
            for (k, part) in [(1, 1), (8, 1), (32, 4), (31, 4), (20, 3), (100, 4), (5, 8)] {
                let reals = |n, seed| -> Vec<f32> {
                    integers(n, seed).into_iter().map(|i| 1.0 / (i + 4.5)).collect()
                };
                let (a, b) = (reals(m * k, 3), reals(k * n, 5));
                let product = |first: usize, k| {
                    let mut values = vec![f32::NAN; m * n];
                    let left = Left { values: &a[first * m..], row: 1, column: m };
                    let right = Right { values: &b[first * n..], row: n };
                    let store = Store { values: &mut values, row: n };
                    f32::run(isa, Gemm::new(Extents { m, n, k }, left, right, store));
                    values
                };
                let add = |sum: &mut Vec<f32>, more: &Vec<f32>| {
                    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                };
                let mut expected = BalancedSum::default();
                for first in (0..k).step_by(part) {
                    expected.push(product(first, part.min(k - first)), add);
                }
                let mut found = vec![f32::NAN; m * n];
                let left = Left { values: &a, row: 1, column: m };
                let (right, store) =
                    (Right { values: &b, row: n }, Store { values: &mut found, row: n });
                f32::run(isa, Gemm::in_parts(Extents { m, n, k }, left, right, part, store));
                assert_eq!(Some(found), expected.finish(add), "{isa} {k} in parts of {part}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "right")]
    fn a_too_short_operand_panics() {
        let left = Left { values: &[0.0; 6], row: 3, column: 1 };
        let store = Store { values: &mut [0.0; 4], row: 2 };
        Gemm::new(Extents { m: 2, n: 2, k: 3 }, left, Right { values: &[0.0; 5], row: 2 }, store);
    }
}
