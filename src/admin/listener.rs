//! Accepting with limits: so many connections at once, and each must get somewhere.
//!
//! A connection on which nothing was written for [`SILENCE`] is ended, whatever it sends meanwhile: a client that trickles its request byte by
//! byte never gets an answer, so it never moves that clock. An idle kept-alive connection ends the same way; scrapers open a new one.

use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

/// Connections at once: far more than scrapers and probes open; the next one waits in the kernel's queue.
const CONNECTIONS: usize = 64;

/// The longest time without a byte of an answer.
const SILENCE: Duration = Duration::from_secs(20);

/// After a failed accept (no descriptors left, mostly): the time until the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A listener that keeps the limits.
pub(super) struct Limited {
    listener: TcpListener,
    room: Arc<Semaphore>,
    silence: Duration,
}

/// A connection that keeps the limits.
pub(super) struct Connection {
    stream: TcpStream,
    silent: Pin<Box<Sleep>>,
    silence: Duration,
    _room: OwnedSemaphorePermit,
}

impl Limited {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self::with_limits(listener, CONNECTIONS, SILENCE)
    }

    pub(super) fn with_limits(listener: TcpListener, connections: usize, silence: Duration) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(connections)), silence }
    }

    async fn connection(&self) -> io::Result<(Connection, SocketAddr)> {
        let room = self.room.clone().acquire_owned().await.map_err(io::Error::other)?;
        let (stream, peer) = self.listener.accept().await?;
        stream.set_nodelay(true)?;
        Ok((Connection { stream, silent: Box::pin(tokio::time::sleep(self.silence)), silence: self.silence, _room: room }, peer))
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
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.silent.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
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
        self.poll_silence(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_silence(cx)?;
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
        self.poll_silence(cx)?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
