//! supd owns a server's ports; a new release takes over and the old one comes back, without one
//! request lost.
//!
//! # The map
//! | folder | what lives there | may import |
//! |---|---|---|
//! | [`model`] | the words of the design as types | std |
//! | [`codec`] | bytes ↔ model, total, never panics: unit file, Varlink, notify, ledger, history | model |
//! | [`machine`] | every decision: events in, effects out | model |
//! | [`os`] | hands: one thing of the kernel a file | model |
//! | [`store`] | what is on disk: unit files, pinned programs, releases, ledger, history | model, codec, os |
//! | [`daemon`] | the shell of supd: inbox, effects performed, control socket | all of these but ctl |
//! | [`ctl`] | supctl: one verb, one file; rendering | model, codec, os, store |
//!
//! Beside src: `units` has worked examples, which the tests run; `man` the manual, whose pages supctl.1 and
//! supd-protocol.7 are made from the code and a `.in` file each; `tests` and `packaging` are what they say.
//!
//! # What is absent on purpose
//! - `machine` does no I/O, reads no clock, logs nothing and has no `unsafe`; `os` decides nothing.
//! - No async runtime and no threads: one mio loop, one ordered inbox. (In supctl, the demo's clients
//!   are threads, whoever writes a folder into a pipe, each direction of what connect carries, and who looks
//!   and asks for top.)
//! - Nothing stands in the path of the data: no byte of a connection passes through supd.
//! - `unsafe` is denied but for the few files of `os` that say `#![allow(unsafe_code)]`.
#![deny(unsafe_code)]

pub mod codec;
pub mod ctl;
pub mod daemon;
pub mod machine;
pub mod model;
pub mod os;
pub mod store;
