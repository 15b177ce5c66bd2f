//! supctl: one verb, one file.

pub mod demo;
