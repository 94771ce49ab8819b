//! What the C library does with memory that libtorch gives back.

/// Lets the C library keep memory that was freed. By default it returns each large block to the system at once and fetches it
/// again for the next operation, which costs a training step of AlexNet about a tenth of its time in page faults.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep() {
    // SAFETY: `mallopt` takes two integers and may be called at any time from any thread (mallopt(3)). Zero blocks by `mmap`
    // means that all come from the heap, and -1 that the heap is never trimmed.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    }
}

/// Elsewhere the system's allocator decides.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep() {}
