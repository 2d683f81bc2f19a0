//! Sockets.
pub mod backend;
mod buffer;
pub mod connect;
pub mod epoll;
pub mod errand;
pub mod listen;
mod options;
mod slots;
pub mod uring;
