//! Memory for the arrays of large parameters.

/// The size in bytes from which an array gets huge pages.
const LARGE: usize = 4 << 20;

/// Returns an empty vector with space for `len` numbers. The space of a large vector is in huge pages
/// if the system has them: it is then filled several times as fast, because the system provides its
/// pages when they are first written, one at a time, and pages usually have 4 KiB.
pub fn with_capacity(len: usize) -> Vec<f32> {
    let values = Vec::with_capacity(len);
    if size_of::<f32>() * len >= LARGE {
        advise_huge_pages(&values);
    }
    values
}

#[cfg(target_os = "linux")]
fn advise_huge_pages(values: &Vec<f32>) {
    /// A multiple of the page size of each processor.
    const PAGE: usize = 64 << 10;
    let start = values.as_ptr().addr();
    let end = start + size_of::<f32>() * values.capacity();
    let (start, end) = (start.next_multiple_of(PAGE), end / PAGE * PAGE);
    let address = values.as_ptr().with_addr(start).cast_mut().cast();
    // SAFETY: the pages from `start` to `end` are inside the memory of the vector. This advice does
    // not change their content (madvise(2)). Without huge pages it is an error without effect.
    unsafe {
        libc::madvise(address, end.saturating_sub(start), libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise_huge_pages(_: &Vec<f32>) {}

#[cfg(test)]
mod tests {
    #[test]
    fn a_vector_has_the_capacity_and_can_be_filled() {
        for len in [0, 1, super::LARGE / 4 - 1, super::LARGE / 4, super::LARGE + 12_345] {
            let mut values = super::with_capacity(len);
            assert!(values.is_empty() && values.capacity() >= len);
            values.resize(len, 1.0);
            assert!(values.iter().all(|value| *value == 1.0));
        }
    }
}
