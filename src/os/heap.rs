//! What the allocator keeps of what was freed.

#![allow(unsafe_code)]

/// Gives the pages back in which nothing lives. glibc does it by itself at the end of the heap only,
/// where mostly something does live; musl does it anyway.
pub fn trim() {
    // SAFETY: it takes a number, and touches free memory only, under the allocator's own lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
