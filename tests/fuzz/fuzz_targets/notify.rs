#![no_main]
//! Notify datagrams: see bodies/notify.rs.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = supd_fuzz::notify::check(data);
});
