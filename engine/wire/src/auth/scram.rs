//! scram
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier { pub iterations: u32, pub salt: Vec<u8>, pub stored_key: [u8; 32], pub server_key: [u8; 32] }
pub fn salted_password(_password: &str, _salt: &[u8], _iterations: u32) -> [u8; 32] { unimplemented!() }
