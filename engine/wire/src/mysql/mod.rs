//! The MySQL protocol, version 10 of the handshake, as MySQL and MariaDB speak it.
//!
//! Holds no neutral words: those are the crate's. Called through `dialect` alone.

pub mod errors;
pub mod frame;
pub mod intent;
pub mod progress;
pub mod reply;
pub mod settings;
pub mod spec;
pub mod statement;
