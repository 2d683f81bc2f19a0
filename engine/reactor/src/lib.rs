//! Sockets.
pub mod backend;
mod buffer;
pub mod epoll;
mod slots;
pub mod uring;
