//! A TLS receiver that sends session tickets as often as a test likes. No TLS library does, so the records are sealed here, with the keys of
//! a true handshake. The daemon's own tests use it too.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use tokio_rustls::rustls::{
    ConnectionTrafficSecrets, ContentType, ProtocolVersion, ServerConfig, ServerConnection, Stream, SupportedCipherSuite,
};

/// The smallest ticket: for two hours, of one byte, without a nonce or extensions.
const TICKET: &[u8] = &[4, 0, 0, 14, 0, 0, 28, 32, 0, 0, 0, 0, 0, 0, 1, b'x', 0, 0];

/// Tickets that fit into one record of 16 KiB.
const PER_RECORD: usize = 16_000 / TICKET.len();

/// A connection on which a request was read, by hand from there on.
pub(crate) struct Tickets {
    tcp: TcpStream,
    seal: Box<dyn MessageEncrypter>,
    /// The next record's number.
    next: u64,
}

impl Tickets {
    /// Shakes hands by `config` over TLS 1.3, sends no ticket, and reads a request, which ends with a brace.
    pub(crate) fn accept(mut tcp: TcpStream, mut config: ServerConfig) -> io::Result<(Self, Vec<u8>)> {
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        let mut tls = ServerConnection::new(Arc::new(config)).map_err(io::Error::other)?;
        let (mut request, mut piece) = (Vec::new(), [0; 4096]);
        while !request.ends_with(b"}") {
            let count = Stream::new(&mut tls, &mut tcp).read(&mut piece)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            request.extend_from_slice(&piece[..count]);
        }
        let Some(SupportedCipherSuite::Tls13(suite)) = tls.negotiated_cipher_suite() else { panic!("not TLS 1.3") };
        let (next, secrets) = tls.dangerous_extract_secrets().map_err(io::Error::other)?.tx;
        let seal = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => suite.aead_alg.encrypter(key, iv),
            _ => panic!("no cipher of TLS 1.3"),
        };
        Ok((Self { tcp, seal, next }, request))
    }

    /// Sends `bytes` of an answer.
    pub(crate) fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send(ContentType::ApplicationData, bytes).map(drop)
    }

    /// Sends a record full of tickets; how many bytes it has.
    pub(crate) fn tickets(&mut self) -> io::Result<usize> {
        self.send(ContentType::Handshake, &TICKET.repeat(PER_RECORD))
    }

    fn send(&mut self, typ: ContentType, bytes: &[u8]) -> io::Result<usize> {
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_2, payload: OutboundChunks::Single(bytes) };
        let record = self.seal.encrypt(message, self.next).map_err(io::Error::other)?.encode();
        self.next += 1;
        self.tcp.write_all(&record)?;
        Ok(record.len())
    }
}
