#![no_main]
//! Unit files: see bodies/unitfile.rs.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = supd_fuzz::unitfile::check(data);
});
