//! What holds for whatever bytes there are: one function a target. The fuzzer calls it with what it
//! makes up, tests/fuzz/replay.rs with what is kept in corpus/. It says whether the bytes were good
//! for anything, so that a corpus of mere garbage is noticed.

mod dice;
pub mod history;
pub mod ledger;
pub mod notify;
pub mod unitfile;
pub mod unpack;
pub mod varlink;
