//! What supd keeps on disk.

pub mod files;
pub mod ledger;
pub mod pins;
pub mod runtime;
