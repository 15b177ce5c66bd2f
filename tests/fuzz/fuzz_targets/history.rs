#![no_main]
//! The history: see bodies/history.rs.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = supd_fuzz::history::check(data);
});
