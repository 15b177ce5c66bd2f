//! What supd keeps on disk.

pub mod requirements;
pub mod text;
pub mod units;
