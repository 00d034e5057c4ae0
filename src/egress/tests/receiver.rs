//! A receiver of callbacks that does what a test tells it, byte by byte, on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};

/// What to do after a request was read (or, for `Reset`, before).
#[derive(Clone)]
pub(super) enum Step {
    /// Write these bytes.
    Write(Vec<u8>),
    /// Write chunks until the other side is gone.
    Endless(&'static [u8]),
    /// Wait for the test's `go`.
    Wait,
    /// Tell the test that this point was reached.
    Tell,
    /// Close the connection.
    Close,
    /// Never answer; ends when the other side closes, and tells the test then.
    Hang,
}

pub(super) fn write(text: &str) -> Step {
    Step::Write(text.as_bytes().to_vec())
}

pub(super) fn ok() -> Vec<Step> {
    vec![write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")]
}

/// A request as it came: on which connection, head and body.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) connection: usize,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    pub(super) go: Arc<Notify>,
    pub(super) told: mpsc::UnboundedReceiver<()>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    /// A receiver that answers the n-th request (from 0) of the c-th connection (from 0) by `script(c, n)`.
    pub(super) async fn start(script: impl Fn(usize, usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start_with(None, script).await
    }

    pub(super) async fn start_with(
        tls: Option<tokio_rustls::TlsAcceptor>,
        script: impl Fn(usize, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (go, seen, script) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let (tell, told) = mpsc::unbounded_channel();
        let receiver = Self { address, go: Arc::clone(&go), told, seen: Arc::clone(&seen) };
        tokio::spawn(async move {
            for connection in 0.. {
                let (tcp, _) = listener.accept().await.unwrap();
                let (go, seen, script, tell, tls) = (Arc::clone(&go), Arc::clone(&seen), Arc::clone(&script), tell.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(tcp, connection, &go, &seen, &*script, &tell).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(tcp).await else { return };
                            serve(stream, connection, &go, &seen, &*script, &tell).await;
                        }
                    }
                });
            }
        });
        receiver
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The connection of each request, in the order of arrival.
    pub(super) fn connections(&self) -> Vec<usize> {
        self.seen().iter().map(|seen| seen.connection).collect()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    go: &Notify,
    seen: &Mutex<Vec<Seen>>,
    script: &(impl Fn(usize, usize) -> Vec<Step> + ?Sized),
    tell: &mpsc::UnboundedSender<()>,
) {
    for request in 0.. {
        let Some((head, body)) = read_request(&mut stream).await else { return };
        seen.lock().unwrap().push(Seen { connection, head, body });
        for step in script(connection, request) {
            match step {
                Step::Write(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Endless(bytes) => {
                    while stream.write_all(bytes).await.is_ok() {}
                    let _ = tell.send(());
                    return;
                }
                Step::Wait => go.notified().await,
                Step::Tell => {
                    let _ = tell.send(());
                }
                Step::Close => {
                    // Gone before the test is told.
                    drop(stream);
                    let _ = tell.send(());
                    return;
                }
                Step::Hang => {
                    let _ = stream.read(&mut [0]).await;
                    let _ = tell.send(());
                    return;
                }
            }
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    };
    let mut body = read.split_off(head_end);
    let head = String::from_utf8(read).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some((head, body))
}
