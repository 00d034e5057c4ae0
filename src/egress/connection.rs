//! One HTTP/1.1 connection, driven inside the future of the attempt that uses it: no task for each connection, and no wake-up from one task
//! to another. A callback is one write and, as a rule, one read.
//!
//! ```text
//!  idle ──still_idle──► exchange ──head──► poll_body ──complete──► is_idle ──► idle
//!    └─ended, or unrequested bytes─► dropped      └─too much, or broken─► dropped
//! ```
//!
//! Nothing is read ahead: whatever lies in the buffer when an answer is complete was not asked for, and costs the connection. What is only
//! looked at (`still_idle`, `skim`) is polled with a waker that does nothing; a caller that may have to wait polls again with the real one.
//!
//! The runtime tells at no cost whether an idle connection is quiet, as of its last turn. Only the kernel knows what came since then, and it is
//! asked after a rest of [`LOOK_AFTER`] or more: connections in steady use rest for less, and cost no system call.

use super::stream::Socket;
use super::target::Target;
use super::wire::{self, Body, Head, Malformed, Parsed};
use crate::delivery::ports::HeaderLines;
use bytes::Bytes;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::coop::unconstrained;
use tokio::time::Instant;

/// The most bytes of an answer's body that are read, framing included; a longer body costs its connection.
pub(super) const MAX_BODY: u64 = 16 * 1024;

/// An incomplete head of this many bytes is refused, and so are interim answers of more than that together.
const MAX_HEAD: usize = 64 * 1024;

/// Bytes read at once to begin with: answers to callbacks have a few hundred.
const READ: usize = 1024;

/// Bodies up to this long are written together with their head, in one go; longer ones are not copied for it.
const MAX_COPY: usize = 16 * 1024;

/// After a shorter rest the runtime's word is enough that nothing came: about the time that a packet takes there and back at the nearest
/// receivers. What may come in so short a time may as well come while the request is on its way, which no look can see.
const LOOK_AFTER: Duration = Duration::from_micros(100);

/// Buffers larger than this are not kept while a connection is idle: thousands may be.
const MAX_IDLE_BUFFER: usize = 4 * 1024;

/// The connection broke, or what came was not HTTP.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether any byte came since the request was handed over.
    pub(super) heard: bool,
}

impl From<Malformed> for Broken {
    fn from(_: Malformed) -> Self {
        Self { heard: true }
    }
}

/// An established connection.
pub(super) struct Connection {
    socket: Socket,
    /// The request on its way: its head, with its body where that is short.
    out: Vec<u8>,
    /// What was read and not yet taken: the first `filled` bytes.
    read: Vec<u8>,
    filled: usize,
    /// How far the answer's body has been read.
    body: Body,
    /// Whether the answer so far allows another request.
    keep: bool,
    /// Since when it is idle, if it is.
    rested: Instant,
}

impl Connection {
    pub(super) fn new(socket: Socket) -> Box<Self> {
        let body = Body::Length(0);
        Box::new(Self { socket, out: Vec::new(), read: Vec::new(), filled: 0, body, keep: true, rested: Instant::now() })
    }

    /// Whether the connection waits for a request: the last answer is complete and allowed another, and nothing came behind it.
    pub(super) fn is_idle(&self) -> bool {
        self.keep && self.body.is_over() && self.filled == 0
    }

    /// Whether an idle connection can still be used at `now`: looks once, without waiting. False when the receiver closed it, or sent
    /// anything unrequested, which would be taken for the next answer.
    pub(super) fn still_idle(&mut self, now: Instant) -> bool {
        if self.is_idle() {
            let rested = now.saturating_duration_since(self.rested);
            self.keep = if rested < LOOK_AFTER { self.skim_more().is_pending() } else { self.read_by(Socket::look).is_pending() };
        }
        self.is_idle()
    }

    /// Frees the memory that a connection does not need that is idle from `now` on.
    pub(super) fn rest(&mut self, now: Instant) {
        self.rested = now;
        for buffer in [&mut self.out, &mut self.read] {
            if buffer.capacity() > MAX_IDLE_BUFFER {
                *buffer = Vec::new();
            }
        }
    }

    /// Reads more bytes into the buffer; 0: the connection's end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.read_by(|socket, buffer| socket.poll_read(cx, buffer))
    }

    /// [`Self::poll_more`] of what the runtime knows to be there.
    fn skim_more(&mut self) -> Poll<io::Result<usize>> {
        let mut look = pin!(unconstrained(poll_fn(|cx| self.poll_more(cx))));
        look.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Reads some more behind what is there, by `read`.
    fn read_by(&mut self, read: impl FnOnce(&mut Socket, &mut [u8]) -> Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if self.filled == self.read.len() {
            self.read.resize((self.filled * 2).max(READ), 0);
        }
        let polled = read(&mut self.socket, &mut self.read[self.filled..]);
        if let Poll::Ready(Ok(count)) = polled {
            self.filled += count;
        }
        polled
    }

    /// Forgets the first `taken` bytes that were read.
    fn forget(&mut self, taken: usize) {
        self.read.copy_within(taken..self.filled, 0);
        self.filled -= taken;
    }

    /// Sends `body` to `target` and reads status and headers of the answer.
    pub(super) async fn exchange(&mut self, target: &Target, headers: &HeaderLines, body: &Bytes) -> Result<Head, Broken> {
        self.out.clear();
        wire::write_head(&mut self.out, target, headers, body.len());
        let mut apart: &[u8] = &[];
        if body.len() <= MAX_COPY {
            self.out.extend_from_slice(body);
        } else {
            apart = body;
        }
        let (mut written, mut heard, mut worth, mut interim) = (0, false, false, 0);
        // Until the answer says otherwise; a dropped future drops the connection with it.
        self.keep = false;
        self.socket.begin();
        poll_fn(|cx| {
            let sent = self.poll_send(cx, &mut written, apart);
            loop {
                // Empty lines before an answer are passed over; were they kept, each would have all of them looked at again.
                let blank = self.read[..self.filled].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
                if blank > 0 {
                    self.forget(blank);
                    interim += blank;
                    if interim > MAX_HEAD {
                        return Poll::Ready(Err(Broken { heard }));
                    }
                }
                match if worth { wire::parse(&self.read[..self.filled])? } else { Parsed::Partial } {
                    Parsed::Answer(length, head) => {
                        self.forget(length);
                        self.body = head.body;
                        // An answer before the end of the request: what is left of it would be taken for the next one.
                        self.keep = head.keep && matches!(sent, Poll::Ready(Ok(())));
                        return Poll::Ready(Ok(head));
                    }
                    Parsed::Interim(length) => {
                        self.forget(length);
                        interim += length;
                        if interim > MAX_HEAD {
                            return Poll::Ready(Err(Broken { heard }));
                        }
                        continue;
                    }
                    Parsed::Partial if self.filled >= MAX_HEAD => return Poll::Ready(Err(Broken { heard })),
                    Parsed::Partial => worth = false,
                }
                match self.poll_more(cx) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken { heard: heard || self.socket.is_spent() })),
                    // A head that arrives in many pieces is parsed only when its end may be there: parsing it each time would cost its
                    // square.
                    Poll::Ready(Ok(count)) => {
                        worth = !heard || wire::may_end_head(&self.read[..self.filled], count);
                        heard = true;
                    }
                    // A receiver that cannot be written to and sends nothing is gone.
                    Poll::Pending if matches!(sent, Poll::Ready(Err(_))) => return Poll::Ready(Err(Broken { heard })),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// Writes on: of the head and `apart` together, `written` bytes are through.
    fn poll_send(&mut self, cx: &mut Context<'_>, written: &mut usize, apart: &[u8]) -> Poll<io::Result<()>> {
        while *written < self.out.len() + apart.len() {
            let rest = self.out.get(*written..).filter(|rest| !rest.is_empty()).unwrap_or_else(|| &apart[*written - self.out.len()..]);
            match self.socket.poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => *written += count,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.socket.poll_flush(cx)
    }

    /// Reads on to the end of the body, counting in `seen`; an error when the connection broke or the body is longer than [`MAX_BODY`].
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, seen: &mut u64) -> Poll<Result<(), Broken>> {
        loop {
            if let Body::Length(left) = self.body
                && seen.saturating_add(left) > MAX_BODY
            {
                return Poll::Ready(Err(Broken { heard: true }));
            }
            let taken = self.body.take(&self.read[..self.filled])?;
            self.forget(taken);
            *seen = seen.saturating_add(taken as u64);
            if self.body.is_over() {
                return Poll::Ready(Ok(()));
            }
            if *seen > MAX_BODY {
                return Poll::Ready(Err(Broken { heard: true }));
            }
            match self.poll_more(cx) {
                Poll::Ready(Ok(0)) if self.body == Body::ToTheEnd => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken { heard: true })),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// [`Self::poll_body`] as far as it goes without waiting.
    pub(super) fn skim(&mut self, seen: &mut u64) -> Poll<Result<(), Broken>> {
        let mut look = pin!(unconstrained(poll_fn(|cx| self.poll_body(cx, seen))));
        look.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}
