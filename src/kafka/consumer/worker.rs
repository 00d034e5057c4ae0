//! A thread that does one request after the other, for what waits for a broker.

use crate::kafka::client::ClientError;
use std::convert::Infallible;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Ends with the request that it is at, when [`Self::end`] is called or this is dropped.
pub(super) struct Worker<R> {
    requests: Sender<R>,
    thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<Infallible>,
}

impl<R: Send + 'static> Worker<R> {
    pub(super) fn start(name: String, mut work: impl FnMut(R) + Send + 'static) -> Result<Self, ClientError> {
        let (requests, asked) = mpsc::channel::<R>();
        let (alive, ended) = mpsc::channel();
        let run = move || {
            let _alive = alive;
            asked.into_iter().for_each(&mut work);
        };
        let thread = thread::Builder::new().name(name).spawn(run).map_err(|e| ClientError::Create(e.to_string()))?;
        Ok(Self { requests, thread, ended })
    }

    /// Has `request` done. Dropped by a thread that has panicked: the panic has been printed.
    pub(super) fn ask(&self, request: R) {
        let _ = self.requests.send(request);
    }

    /// Ends the thread. One that takes longer than `patience` ends by itself: it is not waited for.
    pub(super) fn end(self, patience: Duration) {
        drop(self.requests);
        if self.ended.recv_timeout(patience) != Err(RecvTimeoutError::Timeout) {
            // A panic of it has been printed.
            let _ = self.thread.join();
        }
    }
}
