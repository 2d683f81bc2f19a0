//! handshake_in
