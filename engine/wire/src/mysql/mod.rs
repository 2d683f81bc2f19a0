//! The MySQL protocol, version 10 of the handshake, as MySQL and MariaDB speak it.
//!
//! Holds no neutral words: those are the crate's. Called through `dialect` alone.

pub mod agreement;
pub mod assign;
pub mod calls;
pub mod collations;
pub mod compress;
pub mod define;
pub mod diagnostics;
pub mod errors;
pub mod explained;
pub mod frame;
pub mod functions;
pub mod greeting;
pub mod handshake_in;
pub mod handshake_out;
pub mod intent;
pub mod judge;
pub mod kill;
pub mod leftovers;
pub mod literal;
pub mod prepare;
pub mod probe;
pub mod progress;
pub mod proof;
pub mod reply;
pub mod settings;
pub mod setup;
pub mod spec;
pub mod startup;
pub mod statement;
pub mod tracking;
pub mod words;
