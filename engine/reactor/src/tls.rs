//! Placeholder until the TLS module lands; the lead's worker.rs is written against these signatures.
use maitred_relay::snapshot::{Address, ClientTls, ServerTls};
use std::sync::Arc;
pub struct TlsServerConfig;
pub struct TlsClientConfig;
pub struct TlsSession;
impl TlsServerConfig { pub fn build(_: &ClientTls) -> Result<Arc<Self>, String> { Err("no TLS yet".into()) } }
impl TlsClientConfig { pub fn build(_: &ServerTls, _: &Address) -> Result<Arc<Self>, String> { Ok(Arc::new(Self)) } }
impl TlsSession {
    pub fn accept(_: &Arc<TlsServerConfig>, _is_direct: bool) -> Self { Self }
    pub fn connect(_: &Arc<TlsClientConfig>) -> Result<Self, String> { Err("no TLS yet".into()) }
    pub fn feed(&mut self, _: &[u8], _: &mut Vec<u8>) -> Result<(), String> { Ok(()) }
    pub fn encrypt(&mut self, _: &[u8], _: &mut Vec<u8>) {}
    pub fn take_output(&mut self, _: &mut Vec<u8>) {}
    pub fn is_handshaking(&self) -> bool { false }
    pub fn peer_ended(&self) -> bool { false }
    pub fn close_notify(&mut self, _: &mut Vec<u8>) {}
    pub fn peer_common_name(&self) -> Option<String> { None }
    pub fn server_end_point_hash(&self) -> Option<Vec<u8>> { None }
}
