#![no_main]
//! The control protocol: see bodies/varlink.rs.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = supd_fuzz::varlink::check(data);
});
