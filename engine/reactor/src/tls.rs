//! One TLS session, either side: encrypted bytes in, plain bytes out, and back.
//!
//! Touches no socket and no clock but the one that certificates are checked against; an idle session
//! holds no buffer. Called by `worker`, between a back end's bytes and the relay's.

use std::sync::Arc;

use maitred_wire::Dialect;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{AlertDescription, CertificateError, CommonState, Error};

use crate::certificate;
pub use crate::tls_config::{TlsClientConfig, TlsServerConfig};

/// A session and what it has not handed over yet.
pub struct TlsSession {
    side: Side,
    /// Received bytes that are not a whole record yet.
    partial: Vec<u8>,
    /// Encrypted bytes that wait for `take_output`: handshake, tickets, alerts.
    output: Vec<u8>,
    /// Plain bytes that were written before the handshake was through.
    early: Vec<u8>,
    /// The application protocol must have been agreed upon.
    is_direct: bool,
    peer_ended: bool,
    /// Why the session is over. Invariant: rustls is not asked again after an error of its own.
    failure: Option<String>,
    /// For channel binding; None on the client side, where it is the peer's.
    own_hash: Option<Arc<[u8]>>,
}

// Why: boxed, for the two differ in size and most sessions of a proxy are of one kind.
enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Room to leave for what encryption adds to one record. The exact amount is asked for when it is too little.
const RECORD_EXTRA: usize = 64;
const RECORD_BYTES: usize = 16 * 1024;

impl TlsSession {
    /// A session with a client that just connected or asked for TLS, and will speak `dialect` in it.
    /// `is_direct`: it began with TLS at once, so it must name the application protocol.
    ///
    /// # Panics
    /// Never: `TlsServerConfig::build` has made such a session before.
    pub fn accept(config: &TlsServerConfig, dialect: Dialect, is_direct: bool) -> Self {
        let connection = config.connection(dialect).expect("the configuration was tried when it was built");
        Self::new(Side::Server(Box::new(connection)), is_direct, config.end_point_hash())
    }

    /// A session with the server that `config` is for; its first bytes wait in `take_output`.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn connect(config: &TlsClientConfig) -> Result<Self, String> {
        let connection = config.connection().map_err(|error| error.to_string())?;
        let mut session = Self::new(Side::Client(Box::new(connection)), config.is_direct(), None);
        session.feed(&[], &mut Vec::new())?;
        Ok(session)
    }

    fn new(side: Side, is_direct: bool, own_hash: Option<Arc<[u8]>>) -> Self {
        Self {
            side,
            partial: Vec::new(),
            output: Vec::new(),
            early: Vec::new(),
            is_direct,
            peer_ended: false,
            failure: None,
            own_hash,
        }
    }

    /// Take encrypted bytes, append what they hold to `plaintext`. There may be output afterwards.
    ///
    /// # Errors
    /// In words. The session is over; its output may hold an alert that tells the peer why.
    pub fn feed(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let handshaking = self.is_handshaking();
        self.partial.extend_from_slice(ciphertext);
        let mut turn = Turn { output: &mut self.output, plaintext, peer_ended: &mut self.peer_ended };
        let result = match &mut self.side {
            Side::Server(connection) => turn.run(connection.as_mut(), &mut self.partial),
            Side::Client(connection) => turn.run(connection.as_mut(), &mut self.partial),
        };
        if let Err(error) = result {
            return self.fail(explain(&error, matches!(self.side, Side::Server(_))));
        }
        if handshaking && !self.is_handshaking() {
            self.handshake_done()?;
        }
        Ok(())
    }

    fn fail(&mut self, failure: String) -> Result<(), String> {
        self.partial = Vec::new();
        self.early = Vec::new();
        self.failure = Some(failure.clone());
        Err(failure)
    }

    fn handshake_done(&mut self) -> Result<(), String> {
        if self.is_direct && self.alpn().is_none() {
            return self.fail(
                "a session that begins with TLS at once must name the application protocol by ALPN"
                    .to_owned(),
            );
        }
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            let mut out = Vec::new();
            self.encrypt(&early, &mut out);
            self.output = out;
        }
        Ok(())
    }

    /// Append `plaintext` to `out`, encrypted, behind any output that still waits.
    ///
    /// What is written during the handshake is kept, and becomes output when that is through.
    pub fn encrypt(&mut self, plaintext: &[u8], out: &mut Vec<u8>) {
        if self.failure.is_some() {
            return;
        }
        if self.is_handshaking() {
            self.early.extend_from_slice(plaintext);
            return;
        }
        self.take_output(out);
        match &mut self.side {
            Side::Server(connection) => write(connection.as_mut(), &mut self.partial, plaintext, out),
            Side::Client(connection) => write(connection.as_mut(), &mut self.partial, plaintext, out),
        }
    }

    /// Move what the session itself has to say to `out`.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        if !self.output.is_empty() {
            out.append(&mut self.output);
            self.output = Vec::new();
        }
    }

    /// Nothing may be sent or understood yet.
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// The peer said that it will send no more.
    pub fn peer_ended(&self) -> bool {
        self.peer_ended
    }

    /// Append the words that end our side of the session.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.take_output(out);
        if self.failure.is_some() {
            return;
        }
        match &mut self.side {
            Side::Server(connection) => farewell(connection.as_mut(), &mut self.partial, out),
            Side::Client(connection) => farewell(connection.as_mut(), &mut self.partial, out),
        }
    }

    /// The common name of the peer's certificate. On the server side only verified ones are asked for.
    pub fn peer_common_name(&self) -> Option<String> {
        certificate::common_name(self.common().peer_certificates()?.first()?)
    }

    /// The data of channel binding `tls-server-end-point`, the same on both sides.
    pub fn server_end_point_hash(&self) -> Option<Vec<u8>> {
        match &self.side {
            Side::Server(_) => self.own_hash.as_deref().map(<[u8]>::to_vec),
            Side::Client(connection) => certificate::end_point_hash(connection.peer_certificates()?.first()?),
        }
    }

    /// The application protocol agreed upon.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    /// Version and cipher, as operators read them: `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub fn description(&self) -> Option<String> {
        let common = self.common();
        let version = match common.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLSv1.2",
            _ => "TLSv1.3",
        };
        Some(format!("{version} {:?}", common.negotiated_cipher_suite()?.suite()))
    }

    /// True when the handshake was shortened by a ticket.
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Server(connection) => connection,
            Side::Client(connection) => connection,
        }
    }
}

/// Both sides' `process_tls_records`, which rustls does not put in a trait.
trait Records {
    type Data;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn has_output(&self) -> bool;
}

impl Records for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

impl Records for UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
    fn has_output(&self) -> bool {
        self.wants_write()
    }
}

/// One pass over the bytes at hand.
struct Turn<'a> {
    output: &'a mut Vec<u8>,
    plaintext: &'a mut Vec<u8>,
    peer_ended: &'a mut bool,
}

impl Turn<'_> {
    /// Go on until more bytes are needed; what was understood leaves `partial`.
    fn run<C: Records>(&mut self, connection: &mut C, partial: &mut Vec<u8>) -> Result<(), Error> {
        let mut used = 0;
        let result = loop {
            let UnbufferedStatus { discard, state, .. } = connection.process(&mut partial[used..]);
            let step = state.map(|state| self.step(state));
            used += discard;
            match step {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => {
                    // Why: an error leaves an alert behind, which the peer should see.
                    self.collect_alert(connection, &mut partial[used..]);
                    break Err(error);
                }
            }
        };
        if used == partial.len() {
            // Why: an idle session holds no buffer.
            *partial = Vec::new();
        } else {
            partial.drain(..used);
        }
        result
    }

    /// Act on one state; false when nothing more comes of the bytes at hand.
    fn step<D>(&mut self, state: ConnectionState<'_, '_, D>) -> bool {
        match state {
            ConnectionState::ReadTraffic(mut records) => {
                while let Some(Ok(record)) = records.next_record() {
                    self.plaintext.extend_from_slice(record.payload);
                }
                true
            }
            ConnectionState::EncodeTlsData(mut encode) => {
                append(self.output, 0, |room| {
                    encode.encode(room).map_err(|error| match error {
                        EncodeError::InsufficientSize(size) => Some(size),
                        EncodeError::AlreadyEncoded => None,
                    })
                });
                true
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                true
            }
            ConnectionState::PeerClosed => {
                *self.peer_ended = true;
                true
            }
            _ => false,
        }
    }

    /// Invariant: rustls hands out all that it wants to write before it looks at bytes again.
    fn collect_alert<C: Records>(&mut self, connection: &mut C, rest: &mut [u8]) {
        while connection.has_output() {
            let Ok(state) = connection.process(rest).state else { return };
            self.step(state);
        }
    }
}

/// Let `fill` write behind the end of `out`, with as much room as it turns out to need.
fn append(
    out: &mut Vec<u8>,
    guess: usize,
    mut fill: impl FnMut(&mut [u8]) -> Result<usize, Option<InsufficientSizeError>>,
) {
    let start = out.len();
    let mut room = guess;
    loop {
        out.resize(start + room, 0);
        match fill(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return;
            }
            Err(Some(size)) if size.required_size > room => room = size.required_size,
            Err(_) => {
                out.truncate(start);
                return;
            }
        }
    }
}

fn too_small(error: EncryptError) -> Option<InsufficientSizeError> {
    match error {
        EncryptError::InsufficientSize(size) => Some(size),
        EncryptError::EncryptExhausted => None,
    }
}

fn write<C: Records>(connection: &mut C, partial: &mut [u8], plaintext: &[u8], out: &mut Vec<u8>) {
    loop {
        match connection.process(partial).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let records = plaintext.len() / RECORD_BYTES + 1;
                let guess = plaintext.len() + records * RECORD_EXTRA;
                append(out, guess, |room| traffic.encrypt(plaintext, room).map_err(too_small));
                return;
            }
            Ok(ConnectionState::EncodeTlsData(mut encode)) => append(out, 0, |room| {
                encode.encode(room).map_err(|error| match error {
                    EncodeError::InsufficientSize(size) => Some(size),
                    EncodeError::AlreadyEncoded => None,
                })
            }),
            Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
            // Why: the session failed or ended before; nobody is left to read it.
            _ => return,
        }
    }
}

fn farewell<C: Records>(connection: &mut C, partial: &mut [u8], out: &mut Vec<u8>) {
    if let Ok(ConnectionState::WriteTraffic(mut traffic)) = connection.process(partial).state {
        append(out, RECORD_EXTRA, |room| traffic.queue_close_notify(room).map_err(too_small));
    }
}

/// A TLS fault in words; `by_client` when the peer is a client of ours.
fn explain(error: &Error, by_client: bool) -> String {
    let peer = if by_client { "client" } else { "server" };
    match error {
        Error::InvalidCertificate(cause) => explain_certificate(cause, peer),
        Error::NoCertificatesPresented => {
            format!("the {peer} showed no certificate, but must")
        }
        Error::AlertReceived(alert) => explain_alert(*alert, peer),
        Error::InvalidMessage(_) => format!("the {peer} sent bytes that are not TLS"),
        Error::PeerIncompatible(cause) => {
            format!("nothing in common with the {peer} ({cause:?}): look at its versions and ciphers")
        }
        Error::NoApplicationProtocol => {
            format!("the {peer} asked for other application protocols than ours")
        }
        Error::DecryptError => format!("bytes from the {peer} were damaged on their way"),
        other => format!("the session with the {peer} failed: {other}"),
    }
}

fn explain_alert(alert: AlertDescription, peer: &str) -> String {
    let cause = match alert {
        AlertDescription::UnknownCA => "does not know the authority of our certificate",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => {
            "does not accept our certificate"
        }
        AlertDescription::CertificateExpired => "finds our certificate expired",
        AlertDescription::CertificateRequired => "asks for a certificate, and we showed none",
        AlertDescription::ProtocolVersion => "speaks none of our TLS versions",
        AlertDescription::HandshakeFailure => {
            "has no cipher or key in common with us, or misses a certificate"
        }
        AlertDescription::NoApplicationProtocol => "does not speak our application protocol",
        AlertDescription::UnrecognisedName => "does not know the host name that we asked for",
        other => return format!("the {peer} gave up ({other:?})"),
    };
    format!("the {peer} {cause}")
}

fn explain_certificate(cause: &CertificateError, peer: &str) -> String {
    let words = match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "has expired: renew it".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet: compare the clocks".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "is signed by none of our authorities: add the one that signed it".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "is for {}, not for {}: use a host that it names, or another mode",
            if presented.is_empty() { "nobody".to_owned() } else { presented.join(", ") },
            expected.to_str()
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is made for another purpose".to_owned()
        }
        CertificateError::BadEncoding => "cannot be read: it must be X.509 version 3".to_owned(),
        CertificateError::BadSignature => "has a wrong signature".to_owned(),
        other => format!("is not acceptable ({other:?})"),
    };
    format!("the {peer}'s certificate {words}")
}
