//! One throughput run: CPU time and callbacks between 10 % and 90 % of the arrivals.

use crate::pinned::{OTHERS, Pinned, UNDER_TEST, cpu_in_use};
use crate::receiver::{Done, Receiver, Wanted};
use std::fmt;
use std::time::{Duration, Instant};

/// So long without a tenth of the events arriving, and the run has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// What is measured: the bare loop or the daemon.
pub(crate) trait UnderTest {
    /// Its process.
    fn process(&mut self) -> &mut Pinned;
    /// The CPUs that it may use.
    fn cpus(&self) -> &'static str;
    /// Ends it; how many records it has put into a delay tier.
    fn end(self) -> u64;
}

/// What one run gave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// User and system time of the process for one callback, in µs.
    pub(crate) cpu_micros: f64,
    /// Callbacks a second of wall-clock time.
    pub(crate) per_second: f64,
    /// How much of its CPU it used, 0–1. Well below 1: something else was the limit, and only the CPU time says something.
    pub(crate) busy: f64,
    /// Work of other processes on its CPU, 0–1: noise.
    pub(crate) foreign: f64,
    /// How much of the CPU of broker, receiver and driver was used, 0–1. Near 1: it was the limit.
    pub(crate) others: f64,
    /// The most memory resident, in KiB.
    pub(crate) peak_resident: u64,
    /// Events that arrived once more.
    pub(crate) repeats: u64,
    /// Records put into a delay tier.
    pub(crate) parked: u64,
    /// Whether callbacks were signed.
    pub(crate) signed: bool,
    /// From the first arrival to the last.
    pub(crate) took: Duration,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cpu_micros, per_second, peak_resident, repeats, parked, signed, .. } = self;
        let (busy, foreign, others, mebibytes) = (self.busy * 100.0, self.foreign * 100.0, self.others * 100.0, peak_resident / 1024);
        write!(f, "{cpu_micros:.1} µs a callback, {per_second:.0} callbacks/s, {mebibytes} MiB")?;
        write!(f, ", its CPU {busy:.0} % busy and {foreign:.0} % foreign, the other {others:.0} %")?;
        write!(f, ", {repeats} repeats, {parked} parked, {}", if *signed { "signed" } else { "not signed" })
    }
}

/// Starts a receiver and then, with its port, the process under test; both have ended when this returns.
pub(crate) fn throughput<T: UnderTest>(wanted: &Wanted, start: impl FnOnce(u16) -> T) -> Run {
    let receiver = Receiver::start(wanted);
    let mut under_test = start(receiver.port);
    let cpus = under_test.cpus();
    let in_use = || if cpus == UNDER_TEST { cpu_in_use(UNDER_TEST) } else { cpu_in_use(UNDER_TEST) + cpu_in_use(OTHERS) };
    let mut sample = || {
        let said = next(&receiver, &mut under_test, PATIENCE);
        let (count, micros) = at(&said);
        Sample { count, micros, process: under_test.process().cpu(), its: in_use(), others: cpu_in_use(OTHERS) }
    };
    let (from, until) = (sample(), sample());
    let done = done(&receiver, &mut under_test, PATIENCE);
    let peak_resident = under_test.process().peak_resident();
    let parked = under_test.end();

    let (callbacks, wall) = ((until.count - from.count) as f64, (until.micros - from.micros) as f64 / 1e6);
    let between = |part: fn(&Sample) -> Duration| (part(&until) - part(&from)).as_secs_f64();
    let process = between(|sample| sample.process);
    Run {
        cpu_micros: process * 1e6 / callbacks,
        per_second: callbacks / wall,
        busy: process / wall,
        foreign: (between(|sample| sample.its) - process).max(0.0) / wall,
        others: between(|sample| sample.others) / wall,
        peak_resident,
        repeats: done.repeats,
        parked,
        signed: done.signed,
        took: done.took,
    }
}

/// The state of things when a share of the events has arrived.
struct Sample {
    count: u64,
    micros: u64,
    process: Duration,
    its: Duration,
    others: Duration,
}

/// The receiver's next line, for as long as the process under test runs.
pub(crate) fn next(receiver: &Receiver, under_test: &mut impl UnderTest, patience: Duration) -> String {
    let start = Instant::now();
    loop {
        if let Some(line) = receiver.line(Duration::from_millis(500)) {
            return line;
        }
        under_test.process().assert_running();
        assert!(start.elapsed() < patience, "no progress for {patience:?}:\n{}", under_test.process().log());
    }
}

/// The receiver's last line.
pub(crate) fn done(receiver: &Receiver, under_test: &mut impl UnderTest, patience: Duration) -> Done {
    loop {
        let line = next(receiver, under_test, patience);
        if !line.starts_with("at ") {
            return Done::read(&line).unwrap_or_else(|| panic!("the receiver said {line:?}"));
        }
    }
}

fn at(said: &str) -> (u64, u64) {
    let (count, micros) = said.strip_prefix("at ").and_then(|rest| rest.split_once(' ')).unwrap_or_else(|| panic!("{said:?}"));
    (count.parse().unwrap(), micros.parse().unwrap())
}

/// The median; of an even number, the mean of the middle two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) }
}
