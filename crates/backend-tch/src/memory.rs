//! What the C library does with memory that libtorch gives back.

/// Lets the C library keep memory that was freed. By default it returns each large block to the system at once and fetches it
/// again for the next operation, which costs a training step of AlexNet about a tenth of its time in page faults.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: `mallopt` takes two integers and touches no memory of ours. The manual of the C library marks it as unsafe beside
    // other threads (`const:mallopt`): it takes the lock of the main heap, but threads that allocate read the settings without
    // one. Each setting is one aligned word, the allocator works with any value of it, and they are written once: a thread that
    // allocates meanwhile goes by the old value or by the new one. Zero blocks by `mmap` means that all come from the heap, and
    // -1 that the heap is never trimmed.
    ONCE.call_once(|| unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    });
}

/// Elsewhere the system's allocator decides.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep() {}
