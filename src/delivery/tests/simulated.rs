//! Fakes of the ports. Time stands still until [`World::run`] moves it on to the next thing that waits for it.

use super::super::circuit::CircuitSettings;
use super::super::engine::{self, Drained, Parts};
use super::super::handover::{Assignment, Intake, Return, Ticket, ToEngine, ToIntake};
use super::super::ports::{Appended, CallbackRequest, Clock, Outbox, Refused, Transport};
use super::super::settings::{Settings, StartFrom};
use crate::domain::address::AddressPolicy;
use crate::domain::class::Class;
use crate::domain::headers::name;
use crate::domain::record::{Header, NewRecord, Position, Record};
use crate::domain::registry::{
    AccountEntry, BindingEntry, CallbackTemplateEntry, DomainEntry, Entries, RecordingTemplateEntry, Registry, Rules,
};
use crate::domain::registry::{Format, Keep, Storage};
use crate::domain::tier::Tiers;
use crate::domain::time::UnixMillis;
use crate::domain::verdict::Outcome;
use crate::metrics::{Health, Metrics};
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub(super) const EPOCH: UnixMillis = UnixMillis(1_795_435_200_000);

pub(super) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) fn settings() -> Settings {
    Settings {
        tiers: Tiers::new("callbackd", &["5s", "1m"].map(str::to_owned)).unwrap(),
        prefix: "callbackd".into(),
        dead_letter_topic: "callbackd.dead-letter".into(),
        max_in_flight: 16,
        max_in_flight_bytes: 1 << 20,
        endpoint_concurrency: 4,
        circuit: CircuitSettings { failures: 5, pause: secs(5), max_pause: secs(600) },
        drain_timeout: secs(25),
        revoke_grace: secs(3),
        start_from: StartFrom::Earliest,
        replay_limit: 3,
    }
}

/// Domains `<name>.example`, each with its own template and URL `https://<name>.example/<path>`.
pub(super) fn registry(names: &[&str], path: &str) -> Registry {
    build(names, path, &[])
}

/// The same, with the domains spread over this many accounts.
pub(super) fn registry_of_accounts(names: &[String], accounts: usize) -> Registry {
    let accounts: Vec<String> = (0..accounts).map(|n| format!("account-{n}")).collect();
    build(&names.iter().map(String::as_str).collect::<Vec<_>>(), "cb", &accounts)
}

fn build(names: &[&str], path: &str, accounts: &[String]) -> Registry {
    let account_of = |n: usize| (!accounts.is_empty()).then(|| accounts[n % accounts.len()].clone());
    let callback = |name: &&str| CallbackTemplateEntry {
        name: (*name).into(),
        recording_file: Some(format!("https://{name}.example/{path}")),
        ..Default::default()
    };
    let entries = Entries {
        recording_templates: vec![RecordingTemplateEntry {
            name: "rec".into(),
            account: None,
            formats: vec![Format::Mp4],
            interval: secs(1800),
            keep: Keep::Forever,
        }],
        callback_templates: names.iter().map(callback).collect(),
        accounts: accounts.iter().map(|id| AccountEntry { id: id.clone(), storage: Storage::Active }).collect(),
        domains: (0..)
            .zip(names)
            .map(|(n, name)| DomainEntry { name: format!("{name}.example"), account: account_of(n), region: None })
            .collect(),
        bindings: names
            .iter()
            .map(|name| BindingEntry {
                domain: format!("{name}.example"),
                path: None,
                recording_template: Some("rec".into()),
                callback_template: Some((*name).into()),
                from: None,
                until: None,
            })
            .collect(),
        ..Default::default()
    };
    let rules = Rules { templates_per_account: 1000, addresses: AddressPolicy::default() };
    Registry::build(entries, &rules).unwrap_or_else(|problems| panic!("{problems:?}"))
}

pub(super) fn record(topic: &str, offset: i64, timestamp: UnixMillis, value: &str, headers: &[(&str, String)]) -> Record {
    Record {
        position: Position { topic: topic.into(), partition: 0, offset },
        timestamp,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: headers.iter().map(|(n, v)| Header { name: (*n).into(), value: Some(Bytes::from(v.clone())) }).collect(),
    }
}

pub(super) fn event(domain: &str) -> String {
    format!(r#"{{"app":"{domain}.example","appname":"live","stream_id":"s","start_time":1795435100}}"#)
}

#[derive(Default)]
struct Timeline {
    now: Cell<Duration>,
    /// Who is to be woken, by time and a number that tells those of one instant apart.
    sleepers: RefCell<BTreeMap<(Duration, usize), Waker>>,
    slept: Cell<usize>,
}

/// Virtual time.
#[derive(Clone, Default)]
pub(super) struct VirtualClock {
    timeline: Rc<Timeline>,
    /// How far our wall clock is ahead of the broker's, in milliseconds.
    pub(super) ahead: Rc<Cell<i64>>,
    /// That the broker's last report is too old to prove how far.
    pub(super) report_is_old: Rc<Cell<bool>>,
    /// The source of random draws; `None`: always 0.5.
    pub(super) chance: Rc<RefCell<Option<fastrand::Rng>>>,
}

impl VirtualClock {
    /// The time that has passed.
    pub(super) fn timeline_now(&self) -> Duration {
        self.timeline.now.get()
    }

    fn advance(&self) -> bool {
        let mut sleepers = self.timeline.sleepers.borrow_mut();
        let Some(next) = sleepers.keys().next().map(|(at, _)| *at) else { return false };
        self.timeline.now.set(next.max(self.timeline.now.get()));
        let later = sleepers.split_off(&(next + Duration::from_nanos(1), 0));
        let due = std::mem::replace(&mut *sleepers, later);
        drop(sleepers);
        due.into_values().for_each(Waker::wake);
        true
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.broker_now().0 + self.ahead.get())
    }

    fn monotonic(&self) -> Duration {
        self.timeline.now.get()
    }

    fn broker_now(&self) -> UnixMillis {
        EPOCH.plus(self.timeline.now.get())
    }

    fn is_sane(&self) -> bool {
        self.may_judge_age() || self.report_is_old.get()
    }

    fn may_judge_age(&self) -> bool {
        self.ahead.get().abs() <= 60_000
    }

    fn draw(&self) -> f64 {
        self.chance.borrow_mut().as_mut().map_or(0.5, fastrand::Rng::f64)
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> {
        let until = self.monotonic() + duration;
        poll_fn(move |context| {
            if self.timeline.now.get() >= until {
                return Poll::Ready(());
            }
            self.timeline.slept.set(self.timeline.slept.get() + 1);
            self.timeline.sleepers.borrow_mut().insert((until, self.timeline.slept.get()), context.waker().clone());
            Poll::Pending
        })
    }
}

type Answer = Box<dyn Fn(&str, usize) -> (Duration, Outcome)>;

/// Answers as the test says, after as long as it says.
struct Receivers {
    clock: VirtualClock,
    requests: Rc<RefCell<Vec<(Duration, String)>>>,
    bodies: Rc<RefCell<Vec<Bytes>>>,
    answer: Answer,
}

impl Transport for Receivers {
    async fn send(&self, request: CallbackRequest) -> Outcome {
        let url = request.url.url.to_string();
        self.requests.borrow_mut().push((self.clock.monotonic(), url.clone()));
        self.bodies.borrow_mut().push(request.body);
        let (after, outcome) = (self.answer)(&url, self.requests.borrow().len());
        self.clock.sleep(after).await;
        outcome
    }
}

struct Topics {
    clock: VirtualClock,
    appended: Rc<RefCell<Vec<NewRecord>>>,
    refuses: Rc<Cell<bool>>,
}

impl Outbox for Topics {
    async fn append(&self, record: NewRecord) -> Result<Appended, Refused> {
        self.clock.sleep(Duration::from_millis(2)).await;
        if self.refuses.get() {
            return Err(Refused { topic: record.topic, cause: "MessageSizeTooLarge".into() });
        }
        self.appended.borrow_mut().push(record);
        Ok(Appended { timestamp: Some(self.clock.broker_now()) })
    }
}

/// An engine and everything around it.
pub(super) struct World {
    pub(super) clock: VirtualClock,
    pub(super) settings: Settings,
    pub(super) registry: Arc<ArcSwap<Registry>>,
    pub(super) requests: Rc<RefCell<Vec<(Duration, String)>>>,
    pub(super) bodies: Rc<RefCell<Vec<Bytes>>>,
    pub(super) appended: Rc<RefCell<Vec<NewRecord>>>,
    pub(super) refuses: Rc<Cell<bool>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) drain_at: Option<Duration>,
    to_engine: Option<UnboundedSender<ToEngine>>,
    inbox: Option<UnboundedReceiver<ToEngine>>,
    senders: Option<[Sender<ToIntake>; 3]>,
    from_engine: [Receiver<ToIntake>; 3],
    pub(super) returned: Vec<Return>,
    /// When which class was told to rest, and to go on.
    rested: Vec<(Duration, usize, bool)>,
}

impl World {
    pub(super) fn new(registry: Registry) -> Self {
        let (to_engine, inbox) = unbounded_channel();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| channel()).unzip();
        Self {
            clock: VirtualClock::default(),
            settings: settings(),
            registry: Arc::new(ArcSwap::from_pointee(registry)),
            requests: Rc::default(),
            bodies: Rc::default(),
            rested: Vec::new(),
            appended: Rc::default(),
            refuses: Rc::default(),
            metrics: Metrics::new(&["5s".to_owned(), "1m".to_owned()], &["source".to_owned()]).unwrap(),
            drain_at: None,
            to_engine: Some(to_engine),
            inbox: Some(inbox),
            senders: senders.try_into().ok(),
            from_engine: receivers.try_into().unwrap_or_else(|_| panic!("three classes")),
            returned: Vec::new(),
        }
    }

    pub(super) fn assignment(class: Class, topic: &str) -> Arc<Assignment> {
        Assignment::new(class, topic.into(), 0)
    }

    pub(super) fn hand_over(&self, assignment: &Arc<Assignment>, records: Vec<Record>) {
        let ticket = |r: &Record| Ticket { assignment: Arc::clone(assignment), offset: r.position.offset, cost: r.cost() };
        self.tell(ToEngine::Batch(records.into_iter().map(|record| Intake { ticket: ticket(&record), record }).collect()));
    }

    /// Whether intake of `class` has been told to rest.
    pub(super) fn rests(&self, class: Class) -> bool {
        self.rested.iter().rev().find(|(_, of, _)| *of == class.index()).is_some_and(|(_, _, rest)| *rest)
    }

    /// When fresh intake was first told to rest, and when it was last told to go on. Checks that it was told so alternately.
    pub(super) fn rested(&self) -> (Duration, Duration) {
        let times: Vec<_> = self.rested.iter().filter(|(_, class, _)| *class == Class::Fresh.index()).collect();
        assert!(times.iter().enumerate().all(|(n, (_, _, rest))| *rest == n.is_multiple_of(2)), "{times:?}");
        match times[..] {
            [(begun, _, true), .., (over, _, false)] => (*begun, *over),
            _ => panic!("not begun and over: {times:?}"),
        }
    }

    pub(super) fn clock_passed(&self, time: Duration) -> bool {
        self.clock.monotonic() >= time
    }

    pub(super) fn tell(&self, message: ToEngine) {
        self.to_engine.as_ref().unwrap().send(message).unwrap();
    }

    /// Runs the engine for `time`, calling `each` before every step in time; intake leaves when told to, or at the end.
    pub(super) fn run(
        &mut self,
        time: Duration,
        answer: impl Fn(&str, usize) -> (Duration, Outcome) + 'static,
        mut each: impl FnMut(&Self),
    ) -> Option<Drained> {
        let clock = self.clock.clone();
        let parts = Parts {
            transport: Receivers {
                clock: clock.clone(),
                requests: Rc::clone(&self.requests),
                bodies: Rc::clone(&self.bodies),
                answer: Box::new(answer),
            },
            outbox: Topics { clock: clock.clone(), appended: Rc::clone(&self.appended), refuses: Rc::clone(&self.refuses) },
            clock: clock.clone(),
            settings: self.settings.clone(),
            registry: Arc::clone(&self.registry),
            metrics: Arc::clone(&self.metrics),
            health: Health::new(),
            inbox: self.inbox.take().unwrap(),
            intakes: self.senders.take().unwrap(),
        };
        let (drain_at, waiting) = (self.drain_at, clock.clone());
        let drain = async move {
            match drain_at {
                Some(at) => waiting.sleep(at).await,
                None => std::future::pending().await,
            }
        };
        let mut engine = pin!(engine::run(parts, drain));
        let mut context = Context::from_waker(Waker::noop());
        while self.clock.monotonic() < time {
            each(self);
            if let Poll::Ready(drained) = engine.as_mut().poll(&mut context) {
                return Some(drained);
            }
            for (class, inbox) in self.from_engine.iter().enumerate() {
                for message in inbox.try_iter() {
                    match message {
                        ToIntake::Returns(returns) => self.returned.extend(returns),
                        ToIntake::Rest(rest) => self.rested.push((self.clock.timeline_now(), class, rest)),
                        ToIntake::Drain => {}
                        ToIntake::Leave => self.to_engine = None,
                    }
                }
            }
            if self.to_engine.is_some() {
                assert!(self.clock.advance(), "the engine always has a tick ahead");
            }
        }
        None
    }
}

/// The value of a header of ours.
pub(super) fn header<'a>(record: &'a NewRecord, wanted: &str) -> Option<&'a str> {
    assert!(wanted.starts_with(name::PREFIX));
    let found = record.headers.iter().find(|h| &*h.name == wanted)?;
    std::str::from_utf8(found.value.as_deref()?).ok()
}
