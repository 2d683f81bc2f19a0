//! Sockets, TLS and the worker loop.
//!
//! The only crate with unsafe code and system calls; it knows no protocol and decides no policy:
//! `relay` does. `binding` calls `engine`; the rest serves `worker`.

mod alarm;
pub mod backend;
mod buffer;
mod certificate;
pub mod connect;
pub mod engine;
pub mod epoll;
pub mod errand;
pub mod listen;
pub mod mail;
mod options;
mod ring;
mod slots;
pub mod socket;
pub mod tls;
mod tls_config;
pub mod uring;
pub mod worker;
