//! Returns memory that the engine has freed to the operating system.

/// Returns freed memory to the operating system. Otherwise the heap of each thread keeps its freed
/// memory, and other threads cannot use it.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn release_freed_memory() {
    // SAFETY: `malloc_trim` takes the number of bytes to leave at the end of the heap and may be
    // called at any time from any thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Does nothing; on other systems the allocator decides.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn release_freed_memory() {}
