//! What TLS reads from, measured.
//!
//! A receiver may send records that hold nothing of an answer (session tickets, key updates, padding) without end, and each of them costs
//! computing. The TLS library counts few of them, and reads on until something of the answer comes or the socket is empty: were it given the
//! socket itself, one poll might never return. Counting what it yields was not enough, since of these it yields nothing.
//!
//! Two measures, both of bytes as they come from the socket:
//! - what comes beyond the answer's own bytes, in a handshake or in an exchange: at most [`ALLOWANCE`], then the stream is broken;
//! - what comes without any of the answer's own: after [`TURN`] the others have their turn.
//!
//! Plain HTTP has nothing but the answer's own bytes, which the connection counts: it goes past the meter.

use socket2::SockRef;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes beyond the answer's own that a handshake may have, and each exchange after it. Handshakes have 2 to 20 KiB of certificates; an
/// exchange has 22 bytes a record, a ticket or two of some hundred bytes, and at most one record of 16 KiB that is not complete yet.
pub(super) const ALLOWANCE: usize = 64 * 1024;

/// Bytes without any of the answer's own after which a poll ends: two reads of the TLS library, and of tickets a millisecond's work at most.
pub(super) const TURN: usize = 8 * 1024;

/// A TCP stream for TLS to read from.
pub(super) struct Metered {
    tcp: TcpStream,
    /// Bytes that may still come beyond the answer's own; 0: too many came.
    left: usize,
    /// Bytes since the answer's last ones, or since the others had their turn.
    turn: usize,
    reading: Reading,
}

/// How it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// As the runtime says that there is something.
    Awaiting,
    /// From the kernel, once.
    Once,
    /// Not until the look is over.
    No,
}

impl Metered {
    /// `tcp` before its handshake.
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, left: ALLOWANCE, turn: 0, reading: Reading::Awaiting }
    }

    /// Begins an exchange: it has an allowance of its own.
    pub(super) fn begin(&mut self) {
        self.left = ALLOWANCE;
    }

    /// Counts `bytes` of the answer, of what was read.
    pub(super) fn yielded(&mut self, bytes: usize) {
        self.left += bytes;
        self.turn = 0;
    }

    /// Whether more came than is allowed.
    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// From here until [`Self::end_look`] one read is made at most: of what lies in the kernel, whether the runtime has heard of it or not.
    pub(super) fn begin_look(&mut self) {
        self.reading = Reading::Once;
    }

    /// Reads as the runtime says, again.
    pub(super) fn end_look(&mut self) {
        self.reading = Reading::Awaiting;
    }

    fn poll_tcp(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.reading {
            Reading::Awaiting => Pin::new(&mut self.tcp).poll_read(cx, buffer),
            Reading::Once => {
                self.reading = Reading::No;
                look(&self.tcp, buffer.initialize_unfilled()).map_ok(|count| buffer.advance(count))
            }
            Reading::No => Poll::Pending,
        }
    }
}

/// Reads into `buffer` what lies in the kernel, without waiting and without asking the runtime, which hears of it at its own time only: a
/// system call. 0: the end.
pub(super) fn look(tcp: &TcpStream, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    match (&*SockRef::from(tcp)).read(buffer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        read => Poll::Ready(read),
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.turn >= TURN {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(this.poll_tcp(cx, buffer))?;
        let count = buffer.filled().len() - before;
        this.turn += count;
        this.left = this.left.saturating_sub(count);
        if this.left == 0 { Poll::Ready(Err(io::ErrorKind::InvalidData.into())) } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(cx, bytes)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{ALLOWANCE, Metered, TURN, look};
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead as _, ReadBuf};
    use tokio::net::{TcpListener, TcpStream};

    /// A stream, and the other end of it, with `bytes` on their way.
    async fn stream(bytes: usize) -> (TcpStream, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut other = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        other.write_all(&vec![b'x'; bytes]).unwrap();
        (tcp, other)
    }

    /// As the TLS library reads; `None`: nothing for now.
    fn read(metered: &mut Metered) -> Option<std::io::Result<usize>> {
        let mut bytes = [0; 4096];
        let mut buffer = ReadBuf::new(&mut bytes);
        match Pin::new(metered).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer) {
            Poll::Ready(read) => Some(read.map(|()| buffer.filled().len())),
            Poll::Pending => None,
        }
    }

    /// Waits until the runtime has heard of what came.
    async fn arrived(metered: &Metered) {
        metered.tcp.readable().await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_beyond_the_answer_is_bounded_and_what_is_the_answers_is_not_counted() {
        let (tcp, _other) = stream(2 * ALLOWANCE).await;
        let mut metered = Metered::new(tcp);
        arrived(&metered).await;
        let mut total = 0;
        while total < ALLOWANCE {
            match read(&mut metered) {
                Some(Ok(count)) => {
                    total += count;
                    metered.yielded(count);
                }
                other => panic!("{total}: {other:?}"),
            }
        }
        assert!(!metered.is_spent());
        metered.begin();
        let mut total = 0;
        loop {
            match read(&mut metered) {
                Some(Ok(count)) => total += count,
                None => {}
                Some(Err(_)) => break,
            }
        }
        assert!(metered.is_spent() && (ALLOWANCE - 4096..ALLOWANCE).contains(&total), "{total}");
        metered.begin();
        assert!(!metered.is_spent(), "each exchange has its own");
    }

    #[tokio::test]
    async fn after_some_bytes_without_any_of_the_answer_the_others_have_their_turn() {
        let (tcp, _other) = stream(3 * TURN).await;
        let mut metered = Metered::new(tcp);
        arrived(&metered).await;
        let (mut total, mut turns) = (0, Vec::new());
        poll_fn(|cx| {
            let mut bytes = [0; 4096];
            loop {
                let mut buffer = ReadBuf::new(&mut bytes);
                match Pin::new(&mut metered).poll_read(cx, &mut buffer) {
                    Poll::Ready(read) => {
                        read.unwrap();
                        total += buffer.filled().len();
                    }
                    // Were nobody woken, the test would wait here for ever.
                    Poll::Pending if total < 3 * TURN => {
                        turns.push(total);
                        return Poll::Pending;
                    }
                    Poll::Pending => return Poll::Ready(()),
                }
            }
        })
        .await;
        assert_eq!(turns, [TURN, 2 * TURN]);
    }

    #[tokio::test]
    async fn a_look_reads_once_and_what_the_runtime_has_not_heard_of() {
        let (tcp, mut other) = stream(0).await;
        let mut metered = Metered::new(tcp);
        assert!(read(&mut metered).is_none());
        other.write_all(&[b'x'; TURN]).unwrap();
        assert!(read(&mut metered).is_none(), "the runtime had no turn");
        metered.begin_look();
        assert_eq!(read(&mut metered).unwrap().unwrap(), 4096);
        assert!(read(&mut metered).is_none());
        metered.end_look();
        arrived(&metered).await;
        assert_eq!(read(&mut metered).unwrap().unwrap(), 4096);
        assert!(look(&metered.tcp, &mut [0; 8]).is_pending());
    }
}
