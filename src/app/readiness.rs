//! Tells in the log when the process becomes ready, and why when it no longer is: what somebody at a terminal waits for.
//!
//! `/readyz` says the same to whoever asks. A start that takes long is told once; a drain is told by the engine.

use crate::metrics::HealthCheck;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// A start that is not ready by then says what it waits for: joining a new group takes a broker about three seconds.
const START: Duration = Duration::from_secs(10);

/// What was told last.
pub(super) struct Readiness {
    /// `None`: nothing yet.
    ready: Option<bool>,
    began: Instant,
}

/// What is to be told now.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Ready,
    NotReady(String),
}

impl Readiness {
    pub(super) fn new() -> Self {
        Self { ready: None, began: Instant::now() }
    }

    /// Tells what has changed since the last look.
    pub(super) fn look(&mut self, checks: &[HealthCheck]) {
        match self.news(checks, self.began.elapsed()) {
            Some(News::Ready) => info!("ready"),
            Some(News::NotReady(because)) => warn!(because, "not ready"),
            None => {}
        }
    }

    fn news(&mut self, checks: &[HealthCheck], age: Duration) -> Option<News> {
        let problems: Vec<String> =
            checks.iter().filter_map(|check| check.problem.as_ref().map(|problem| format!("{}: {problem}", check.name))).collect();
        let ready = problems.is_empty();
        if self.ready == Some(ready) || (!ready && self.ready.is_none() && age < START) {
            return None;
        }
        self.ready = Some(ready);
        Some(if ready { News::Ready } else { News::NotReady(problems.join("; ")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once_and_a_start_that_takes_long_says_why() {
        let check = |name: &str, problem: Option<&str>| HealthCheck { name: name.into(), problem: problem.map(Into::into) };
        let well = [check("clock", None), check("kafka_fresh", None)];
        let ill = [check("clock", Some("is off")), check("kafka_fresh", Some("has not joined"))];
        let not_ready = || Some(News::NotReady("clock: is off; kafka_fresh: has not joined".into()));
        let mut readiness = Readiness::new();
        assert_eq!(readiness.news(&ill, START / 2), None, "it has only begun");
        for (checks, news) in
            [(&ill, not_ready()), (&ill, None), (&well, Some(News::Ready)), (&well, None), (&ill, not_ready()), (&well, Some(News::Ready))]
        {
            assert_eq!(readiness.news(checks, START), news);
        }
    }
}
