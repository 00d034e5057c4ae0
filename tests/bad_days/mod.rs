//! Bad days, each by its name: what the daemon must live through without losing an event, on a real broker with real processes.
//!
//! A day is one file, or one with its kin. Where the broker itself is harmed the test has one of its own; everywhere else the shared one
//! serves. What is asserted is the same each time: every event accepted by its receiver, none dead-lettered that should not be,
//! offsets at the end, and repeats only where the promise allows them.

mod a_fenced_broker;
mod a_partition_without_a_leader;
mod a_receiver_answers_badly;
mod a_reload_under_load;
mod a_revoke_without_an_answer;
mod a_topic_is_made_anew;
mod clock_jumps;
mod descriptor_limit;
mod disk_full_broker;
mod large_records;
mod leaders_change;
mod one_domain_floods_a_partition;
mod poison_records;
mod poisoned_groups;
mod receivers_that_attack;
mod retention_deletes_unread;
mod sigterm_on_a_bad_day;
mod static_members;
mod the_broker_is_gone;
mod what_may_repeat_is_told;

use crate::harness::kafka::New;
use crate::harness::receiver::{Answer, Receiver, Request};
use crate::harness::scene::{Scene, event};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// No circuit opens: for days that are about something else.
const NO_CIRCUIT: &str = "circuit = { failures = 1000 }";

/// Retried soon and often: no event of a test dies by its policy.
const PATIENT: &str = "retry = { delays = [\"300ms\"], attempts = 1000 }";

/// Events of one domain, with the ids `<domain>-<number>` (dots become dashes).
fn events(domain: &str, numbers: Range<usize>) -> Vec<New> {
    numbers.map(|n| New::value(event(domain, n)).header("callbackd-id", id(domain, n))).collect()
}

/// The same with so many bytes more in each.
fn large_events(domain: &str, numbers: Range<usize>, bytes: usize) -> Vec<New> {
    let value = |n| large_event(domain, n, bytes);
    events(domain, numbers.clone()).into_iter().zip(numbers).map(|(new, n)| New { value: Some(value(n).into()), ..new }).collect()
}

/// An event with so many bytes more.
fn large_event(domain: &str, number: usize, bytes: usize) -> String {
    event(domain, number).replacen('{', &format!("{{\"filler\":\"{}\",", "x".repeat(bytes)), 1)
}

fn id(domain: &str, number: usize) -> String {
    format!("{}-{number}", domain.replace('.', "-"))
}

/// A registry in which each domain has a callback template, and so an endpoint, of its own.
fn registry_of<'a>(rows: impl IntoIterator<Item = (&'a str, String)>, more: &str) -> String {
    let mut text = String::from("[[recording_templates]]\nname = \"rec\"\nformats = [\"mp4\"]\n\n");
    for (domain, url) in rows {
        let template = domain.replace('.', "-");
        writeln!(text, "[[callback_templates]]\nname = {template:?}\nurls = {{ recording_file = {url:?} }}\n{more}\n").unwrap();
        writeln!(text, "[[domains]]\nname = {domain:?}\n").unwrap();
        writeln!(text, "[[bindings]]\ndomain = {domain:?}\nrecording_template = \"rec\"\ncallback_template = {template:?}\n").unwrap();
    }
    text
}

/// How often each id was answered with 200.
#[derive(Clone, Default)]
struct Accepted(Arc<Mutex<HashMap<String, usize>>>);

impl Accepted {
    fn note(&self, request: &Request, answer: &Answer) {
        let accepts = match answer {
            Answer::Status(status) | Answer::With(status, _) | Answer::Slow(_, status) | Answer::ThenDead(status) => *status == 200,
            Answer::Bytes(bytes) => bytes.starts_with(b"HTTP/1.1 200 "),
            Answer::Hang | Answer::Close => false,
        };
        if accepts {
            *self.0.lock().unwrap().entry(request.id().to_string()).or_default() += 1;
        }
    }

    /// Different ids.
    fn ids(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Different ids that start so.
    fn ids_of(&self, domain: &str) -> usize {
        let start = format!("{}-", domain.replace('.', "-"));
        self.0.lock().unwrap().keys().filter(|id| id.starts_with(&start)).count()
    }

    /// Acceptances beyond the first of an id.
    fn repeats(&self) -> usize {
        self.0.lock().unwrap().values().map(|n| n - 1).sum()
    }

    fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap().contains_key(id)
    }

    /// Waits for so many different ids.
    fn wait(&self, n: usize, deadline: Duration) {
        let start = Instant::now();
        while self.ids() < n {
            assert!(start.elapsed() < deadline, "after {deadline:?} {} of {n} events are accepted", self.ids());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A receiver that does as `script` says, and what it accepted.
fn accepting(script: impl Fn(&Request, usize) -> Answer + Send + Sync + 'static) -> (Receiver, Accepted) {
    let accepted = Accepted::default();
    let noted = accepted.clone();
    let receiver = Receiver::start_without_bodies(move |request, nth| {
        let answer = script(request, nth);
        noted.note(request, &answer);
        answer
    });
    (receiver, accepted)
}

/// Waits until the source and every tier are committed to their ends: nothing is left anywhere.
fn wait_quiet(scene: &Scene) {
    scene.wait_committed_to_the_end();
    scene.tiers.iter().for_each(|tier| scene.wait_tier_committed(tier));
    scene.wait_committed_to_the_end();
}

/// Nothing was dead-lettered.
fn assert_no_letters(scene: &Scene) {
    let letters = scene.dead_letters();
    let reasons: Vec<_> = letters.iter().take(5).map(|l| (l.header("callbackd-reason"), l.header("callbackd-detail"))).collect();
    assert!(letters.is_empty(), "{} dead letters, for example {reasons:?}", letters.len());
}
