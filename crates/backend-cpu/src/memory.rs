//! What the C library does with memory that the engine gives back.

/// Returns freed memory to the system. Otherwise each thread's heap keeps what was freed in it, out of reach for the others.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: `malloc_trim` takes the number of bytes to leave at the end of the heap and may be called at any time from any
    // thread (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Elsewhere the system's allocator decides.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
