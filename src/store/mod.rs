//! What supd keeps on disk.

pub mod crashes;
pub mod files;
pub mod history;
pub mod ledger;
pub mod pins;
pub mod releases;
pub mod requests;
pub mod requirements;
mod rights;
pub mod runtime;
pub mod text;
pub mod units;
pub mod unpack;
