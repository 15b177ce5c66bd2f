//! What supd keeps on disk.

pub mod requirements;
pub mod units;
