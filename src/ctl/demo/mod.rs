//! `supctl demo`
mod act;
mod load;
mod picture;
mod server;
mod timeline;
mod version;
