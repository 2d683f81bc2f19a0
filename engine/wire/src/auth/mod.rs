//! Pure password exchanges, shared by both sides of a login.

pub mod postgres_md5;
pub mod scram;
