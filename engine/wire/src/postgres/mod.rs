//! PostgreSQL protocol 3.0 and 3.2.
//!
//! Holds no neutral words: those are the crate's. Called through `dialect` alone.

pub mod calls;
pub mod frame;
pub mod handshake_in;
pub mod handshake_out;
pub mod intent;
pub mod judge;
pub mod listing;
pub mod notify;
pub mod prepare;
pub mod probe;
pub mod progress;
pub mod reply;
pub mod spec;
pub mod spelling;
pub mod startup;
pub mod statement;
pub mod words;
