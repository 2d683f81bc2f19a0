//! The multiplexer.
pub mod snapshot;
