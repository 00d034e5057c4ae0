//! Accepting with limits: at most [`CONNECTIONS`] connections at once, and none that gets no answer for [`SILENCE`].
//!
//! A connection on which nothing was written for [`SILENCE`] is ended, whatever it sends meanwhile: a client that trickles its request byte
//! by byte never gets an answer, so it never moves that clock. An idle kept-alive connection ends the same way; scrapers open a new one.
//! When all are taken, the next connection ends the oldest: whoever opens many and asks nothing does not keep a probe waiting, whose
//! request is answered within milliseconds.

use axum::serve::Listener;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

/// Connections at once: far more than scrapers and probes open.
const CONNECTIONS: usize = 64;

/// The longest time without a byte of an answer.
const SILENCE: Duration = Duration::from_secs(20);

/// After a failed accept (no descriptors left, mostly): the time until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener that keeps the limits.
pub(super) struct Limited {
    listener: TcpListener,
    connections: usize,
    silence: Duration,
    /// Of each open connection, the oldest first: dropping it ends the connection.
    open: VecDeque<oneshot::Sender<()>>,
}

/// A connection that keeps the limits.
pub(super) struct Connection {
    stream: TcpStream,
    silent: Pin<Box<Sleep>>,
    silence: Duration,
    /// Resolves when its place is taken by another.
    displaced: oneshot::Receiver<()>,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with_limits(listener, CONNECTIONS, SILENCE)
    }

    pub(super) fn with_limits(listener: TcpListener, connections: usize, silence: Duration) -> Self {
        Self { listener, connections, silence, open: VecDeque::new() }
    }

    async fn connection(&mut self) -> io::Result<(Connection, SocketAddr)> {
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        self.open.retain(|open| !open.is_closed());
        if self.open.len() >= self.connections {
            self.open.pop_front();
        }
        let (open, displaced) = oneshot::channel();
        self.open.push_back(open);
        // Connections accepted before get their turn, and displaced ones end, before the next is accepted.
        tokio::task::yield_now().await;
        Ok((Connection { stream, silent: Box::pin(tokio::time::sleep(self.silence)), silence: self.silence, displaced }, peer))
    }
}

impl Listener for Limited {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            match self.connection().await {
                Ok(accepted) => return accepted,
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connection {
    /// An error when it has been silent for too long, or its place was taken.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.silent.as_mut().poll(cx).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if Pin::new(&mut self.displaced).poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn written(&mut self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(result, Poll::Ready(Ok(n)) if n > 0) {
            let until = Instant::now() + self.silence;
            self.silent.as_mut().reset(until);
        }
        result
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
