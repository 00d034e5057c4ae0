//! A callback's byte stream: TCP, or TLS over it. One type for both, so that the pool and the connection have one too.

use super::meter::{self, Metered};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An established stream.
pub(super) enum Socket {
    /// `http`.
    Plain(TcpStream),
    /// `https`; boxed because TLS state is ten times larger.
    Tls(Box<TlsStream<Metered>>),
}

impl Socket {
    /// Begins an exchange: see [`meter`].
    pub(super) fn begin(&mut self) {
        if let Self::Tls(tls) = self {
            tls.get_mut().0.begin();
        }
    }

    /// Whether TLS came to more than an exchange is allowed.
    pub(super) fn is_spent(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.get_ref().0.is_spent())
    }

    /// Reads into `buffer`, which is not empty; 0: the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len()),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_read(cx, &mut buffer).map_ok(|()| {
                let count = buffer.filled().len();
                tls.get_mut().0.yielded(count);
                count
            }),
        }
    }

    /// [`Self::poll_read`] of what is there, without waiting, and whether the runtime has heard of it or not: a system call.
    pub(super) fn look(&mut self, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => meter::look(tcp, buffer),
            Self::Tls(tls) => {
                tls.get_mut().0.begin_look();
                let mut buffer = ReadBuf::new(buffer);
                let looked = Pin::new(&mut **tls).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
                tls.get_mut().0.end_look();
                looked.map_ok(|()| buffer.filled().len())
            }
        }
    }

    /// Writes some of `bytes`.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_write(cx, bytes),
        }
    }

    /// Sends what TLS has buffered.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(&mut **tls).poll_flush(cx),
        }
    }
}
