//! One HTTP/1.1 connection, driven inside the future of the attempt that uses it.
//!
//! hyper splits a connection into a sender and a driver that is usually spawned. Here the attempt polls the driver itself: no task for each
//! connection, and no wake-up from one task to another. Since whatever the sender's and the body's channels yield is put there by the driver
//! in the same poll, those two are polled with a waker that does nothing, and outside of tokio's budget: an exhausted budget would wake that
//! waker, and the answer would be waited for in vain. Whoever may have to wait polls the driver with the true waker.
//!
//! ```text
//!  idle ──still_idle──► exchange ──head──► poll_body ──complete──► is_idle ──► idle
//!    └─ended, or unrequested bytes─► dropped      └─too much, or broken─► dropped
//! ```

use super::stream::{Socket, Stream};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::task::coop::unconstrained;

/// Bytes of a response's body that are read; whatever is longer costs its connection.
pub(super) const MAX_BODY: u64 = 16 * 1024;

/// Bytes after which hyper refuses a head that is still incomplete; with the read that crosses it, a head takes less than twice that.
/// More than 100 headers it refuses by itself.
const MAX_BUFFER: usize = 64 * 1024;

/// The connection broke, or what came was not HTTP.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether any byte came since the request was handed over.
    pub(super) heard: bool,
}

/// An established connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: http1::Connection<TokioIo<Stream>, Full<Bytes>>,
    /// The driver has finished and must not be polled again.
    ended: bool,
    /// Shared with the [`Stream`] inside the driver.
    heard: Arc<AtomicBool>,
}

impl Connection {
    pub(super) async fn new(socket: Socket) -> Result<Box<Self>, Broken> {
        let heard = Arc::new(AtomicBool::new(false));
        let io = TokioIo::new(Stream::new(socket, Arc::clone(&heard)));
        let handshake = http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(io).await;
        let (sender, driver) = handshake.map_err(|_| Broken { heard: false })?;
        Ok(Box::new(Self { sender, driver, ended: false, heard }))
    }

    fn poll_driver(&mut self, cx: &mut Context<'_>) {
        self.ended = self.ended || Pin::new(&mut self.driver).poll(cx).is_ready();
    }

    /// Whether the connection waits for a request: the last answer is complete and allowed another.
    pub(super) fn is_idle(&self) -> bool {
        !self.ended && self.sender.is_ready()
    }

    /// Whether an idle connection can still be used: asks the socket once, without waiting. Not so when the receiver closed it or sent
    /// anything unrequested, which would answer the next request. What the runtime has not heard of yet is not seen.
    pub(super) fn still_idle(&mut self) -> bool {
        if !self.ended {
            let mut look = pin!(unconstrained(poll_fn(|cx| Pin::new(&mut self.driver).poll(cx))));
            let ended = look.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            self.ended = ended;
        }
        self.is_idle()
    }

    /// Sends `request` and reads status and headers of its answer.
    pub(super) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Broken> {
        self.heard.store(false, Ordering::Relaxed);
        let mut answer = pin!(unconstrained(self.sender.send_request(request)));
        let answered = poll_fn(|cx| {
            if !self.ended {
                self.ended = Pin::new(&mut self.driver).poll(cx).is_ready();
            }
            match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answered) => Poll::Ready(answered.ok()),
                Poll::Pending if self.ended => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        answered.ok_or_else(|| Broken { heard: self.heard.load(Ordering::Relaxed) })
    }

    /// Reads on to the end of `body`, counting in `seen`; an error when the connection broke or the body is longer than [`MAX_BODY`].
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, body: &mut Incoming, seen: &mut u64) -> Poll<Result<(), Broken>> {
        let mut driven = false;
        loop {
            if body.is_end_stream() {
                return Poll::Ready(Ok(()));
            }
            if seen.saturating_add(body.size_hint().lower()) > MAX_BODY {
                return Poll::Ready(Err(Broken { heard: true }));
            }
            let mut frame = pin!(unconstrained(poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx))));
            match frame.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Ok(frame))) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    *seen = seen.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
                    driven = false;
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken { heard: true })),
                Poll::Pending if self.ended => return Poll::Ready(Err(Broken { heard: true })),
                Poll::Pending if driven => return Poll::Pending,
                Poll::Pending => {
                    self.poll_driver(cx);
                    driven = true;
                }
            }
        }
    }

    /// [`Self::poll_body`] as far as it goes without waiting.
    pub(super) fn skim(&mut self, body: &mut Incoming, seen: &mut u64) -> Poll<Result<(), Broken>> {
        let mut look = pin!(unconstrained(poll_fn(|cx| self.poll_body(cx, body, seen))));
        look.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }
}
