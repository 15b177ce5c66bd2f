#![no_main]
//! Archives: see bodies/unpack.rs.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = supd_fuzz::unpack::check(data);
});
