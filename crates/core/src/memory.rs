//! Memory for large arrays.

/// The size in bytes from which an array gets huge pages.
const LARGE: usize = 2 << 20;

/// Returns a vector of zeros (the default of numbers). A large vector is in huge pages if the
/// system has them: it is then filled several times as fast, because the system provides its pages
/// when they are first written, one at a time, and pages usually have 4 KiB.
pub fn zeros<T: Copy + Default>(len: usize) -> Vec<T> {
    // Memory of the system is zero, so nothing is written here.
    let values = vec![T::default(); len];
    if size_of_val(&values[..]) >= LARGE {
        advise_huge_pages(&values);
    }
    values
}

#[cfg(target_os = "linux")]
fn advise_huge_pages<T>(values: &[T]) {
    /// A multiple of the page size of each processor.
    const PAGE: usize = 64 << 10;
    let start = values.as_ptr().addr();
    let end = start + size_of_val(values);
    let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
    let address = values.as_ptr().with_addr(start).cast_mut().cast();
    // SAFETY: the pages from `start` to `end` are inside the memory of the values. This advice does
    // not change their content (madvise(2)). Without huge pages it is an error without effect.
    unsafe {
        libc::madvise(address, end.saturating_sub(start), libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages<T>(_: &[T]) {}

#[cfg(test)]
mod tests {
    #[test]
    fn values_are_zero_and_can_be_filled() {
        for len in [0, 1, super::LARGE / 4 - 1, super::LARGE / 4, super::LARGE + 12_345] {
            let mut values = super::zeros::<f32>(len);
            assert!(values.len() == len && values.iter().all(|value| *value == 0.0));
            values.fill(1.0);
            assert!(values.iter().all(|value| *value == 1.0));
        }
    }
}
