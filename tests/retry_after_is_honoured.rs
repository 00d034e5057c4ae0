//! `Retry-After` on 429 and 503 pauses, in seconds or as a date; elsewhere and when it is garbage, the policy's delay counts.

use crate::harness::SOON;
use crate::harness::receiver::{Answer, Receiver};
use crate::harness::scene::{Scene, event, simple_registry};
use std::time::{Duration, SystemTime};

/// Milliseconds between the first and the second attempt when the first is answered so.
fn gap(name: &str, first: impl Fn() -> Answer + Send + Sync + 'static) -> u128 {
    let receiver = Receiver::start(move |_, nth| if nth == 1 { first() } else { Answer::Status(200) });
    let mut scene = Scene::new(name, 1);
    scene.registry = simple_registry(&["shop.example"], &receiver.url("/cb"), "retry = { delays = [\"300ms\"], attempts = 3 }");
    let mut daemon = scene.start();
    scene.produce(&[event("shop.example", 1)]);
    receiver.wait_for(2, SOON);
    daemon.wait_metric("callbackd_events_settled_total", &["outcome=\"delivered\""], 1.0);
    daemon.stop();
    let requests = receiver.requests();
    assert_eq!(requests.len(), 2);
    requests[1].at.duration_since(requests[0].at).as_millis()
}

#[test]
fn seconds_on_429_pause_the_endpoint() {
    let gap = gap("retry-after-429", || Answer::With(429, vec![("retry-after", "3".into())]));
    assert!((2900..6000).contains(&gap), "{gap} ms");
}

#[test]
fn a_date_on_503_pauses_the_endpoint() {
    let gap = gap("retry-after-503", || {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(4));
        Answer::With(503, vec![("retry-after", date)])
    });
    assert!((2900..7000).contains(&gap), "{gap} ms: a date has whole seconds");
}

#[test]
fn on_other_statuses_and_as_garbage_it_changes_nothing() {
    let gap_500 = gap("retry-after-500", || Answer::With(500, vec![("retry-after", "30".into())]));
    let garbage = gap("retry-after-garbage", || Answer::With(429, vec![("retry-after", "in a while".into())]));
    for gap in [gap_500, garbage] {
        assert!((200..3000).contains(&gap), "{gap} ms");
    }
}
