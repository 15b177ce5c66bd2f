//! What supd keeps on disk.
