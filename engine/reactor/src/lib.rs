//! Sockets.
pub mod backend;
