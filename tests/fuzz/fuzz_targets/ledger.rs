#![no_main]
//! The ledger: see bodies/ledger.rs.

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    _ = supd_fuzz::ledger::check(data);
});
