//! A name server on loopback: real packets over UDP, answers as a test says. The daemon's own tests use it too.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is said of one name and family.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These addresses, those of the family asked for, for so many seconds.
    Addresses(u32, Vec<IpAddr>),
    /// The name is another one, which has these addresses.
    Alias(u32, &'static str, Vec<IpAddr>),
    /// These addresses to those who ask for this family; to others nothing at all.
    Only(RecordType, u32, Vec<IpAddr>),
    /// There is no such name.
    NoSuchName,
    /// The server cannot tell.
    Failure,
    /// Nothing at all.
    Silence,
}

/// A running name server; it ends when it is dropped.
pub(crate) struct NameServer {
    /// Where it listens, over UDP.
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Answers each question with `reply(name, n)`: the name without the dot at its end, and how often it was asked for in this family before.
    pub(crate) fn start(reply: impl Fn(&str, usize) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 4096];
            // An empty packet is the end.
            while let Ok((length @ 1.., from)) = socket.recv_from(&mut packet) {
                if let Some(answer) = answered(&packet[..length], &log, &reply) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, asked, thread: Some(thread) }
    }

    /// How often it was asked for `name`, in both families.
    pub(crate) fn asked_for(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == name).count()
    }

    /// All names that it was asked for.
    pub(crate) fn names(&self) -> Vec<String> {
        self.asked.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let woken = UdpSocket::bind(("127.0.0.1", 0)).and_then(|socket| socket.send_to(&[], self.address));
        if woken.is_ok() {
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

fn answered(packet: &[u8], log: &Mutex<Vec<(String, RecordType)>>, reply: &dyn Fn(&str, usize) -> Reply) -> Option<Vec<u8>> {
    let question = Message::from_vec(packet).ok()?;
    let query = question.queries.first()?.clone();
    let (name, family) = (query.name().to_ascii().to_lowercase().trim_end_matches('.').to_owned(), query.query_type());
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|asked| **asked == (name.clone(), family)).count();
        log.push((name.clone(), family));
        before
    };
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    let addresses = |of: &Name, ttl: u32, all: Vec<IpAddr>| {
        let data = all.into_iter().map(RData::from).filter(|data| data.record_type() == family);
        data.map(|data| Record::from_rdata(of.clone(), ttl, data)).collect::<Vec<_>>()
    };
    match reply(&name, before) {
        Reply::Addresses(ttl, all) => answer.answers = addresses(query.name(), ttl, all),
        Reply::Alias(ttl, other, all) => {
            let other = Name::from_ascii(other).unwrap();
            answer.answers = vec![Record::from_rdata(query.name().clone(), ttl, RData::CNAME(CNAME(other.clone())))];
            answer.answers.extend(addresses(&other, ttl, all));
        }
        Reply::Only(which, ttl, all) if which == family => answer.answers = addresses(query.name(), ttl, all),
        Reply::NoSuchName => answer.metadata.response_code = ResponseCode::NXDomain,
        Reply::Failure => answer.metadata.response_code = ResponseCode::ServFail,
        Reply::Only(..) | Reply::Silence => return None,
    }
    answer.queries = vec![query];
    answer.to_vec().ok()
}
