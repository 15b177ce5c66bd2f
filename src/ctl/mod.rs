//! supctl: one verb, one file.
