//! Configures how the C library handles memory that libtorch frees.

/// Makes the C library keep freed memory. By default it returns each large block to the operating
/// system immediately and requests it again for the next operation. The page faults cost about a
/// tenth of the time of a training step of AlexNet.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_freed_memory() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: `mallopt` takes two integers and does not access memory of this program. The manual
    // of the C library marks it as unsafe with concurrent threads (`const:mallopt`): it locks the
    // main heap, but threads that allocate read the settings without a lock. Each setting is one
    // aligned word, the allocator works with any value of it, and it is written once, so a thread
    // that allocates at the same time uses either the old or the new value. M_MMAP_MAX = 0 means
    // that all blocks come from the heap, M_TRIM_THRESHOLD = -1 that the heap is never trimmed.
    ONCE.call_once(|| unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
    });
}

/// Does nothing; on other systems the allocator decides.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_freed_memory() {}
