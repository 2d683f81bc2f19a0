//! handshake_out
