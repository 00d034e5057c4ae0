//! A TCP relay that can be shut: what comes then stays where it is, on old connections and on new ones.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// Of one port to another. Its threads end with the connections that they serve; the accepting one stays until the process ends.
pub(crate) struct Valve {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Valve {
    /// An open one to `port` of 127.0.0.1, where nobody needs to listen yet.
    pub(crate) fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let valve = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let state = Arc::clone(&valve.state);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                // Refused or reset: the client sees its connection end.
                let _ = client.and_then(|client| relay(client, port, &state));
            }
        });
        valve
    }

    /// Nothing passes from now on.
    pub(crate) fn shut(&self) {
        *self.state.0.lock().unwrap() = true;
    }

    /// What waited passes, and all that comes.
    pub(crate) fn open(&self) {
        *self.state.0.lock().unwrap() = false;
        self.state.1.notify_all();
    }
}

fn relay(client: TcpStream, port: u16, state: &Arc<(Mutex<bool>, Condvar)>) -> io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port))?;
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let state = Arc::clone(state);
        std::thread::spawn(move || {
            let mut piece = [0; 64 * 1024];
            while let Ok(count @ 1..) = from.read(&mut piece) {
                drop(state.1.wait_while(state.0.lock().unwrap(), |shut| *shut).unwrap());
                if to.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            // Either may be gone already.
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
    Ok(())
}
