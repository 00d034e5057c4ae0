//! Judging: what an attempt's outcome means (design §7). One pure function, [`judge`], and the class of an outcome for
//! metrics and headers, [`AttemptResult::of`].
//!
//! The status alone decides, and only the policy says which statuses are good or final; `Retry-After` can postpone a
//! retry and never prevents one. Attempts and age are not judged here: see [`super::retry`].

use super::policy::Policy;
use super::time::UnixMillis;
use std::time::Duration;

/// Why no usable answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Connect or total time-out.
    Timeout,
    /// No connection came about.
    Connect,
    /// The host refused the connection: the way to it is well.
    Refused,
    /// The name could not be resolved.
    Dns,
    /// The name does not exist: its servers answer, so the way to them is well.
    NoSuchName,
    /// The TLS handshake failed.
    Tls,
    /// The connection broke, or the answer was not HTTP.
    Protocol,
    /// The address guard refused the URL or its addresses.
    Blocked,
    /// A panic of ours while the record was handled.
    Internal,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Status and headers were read.
    Answered {
        /// The status, 100–999.
        status: u16,
        /// The header `Retry-After` as sent, if it was there and is at most 64 bytes.
        retry_after: Option<String>,
    },
    /// No usable answer.
    Failed(Failure),
}

/// The label `result` of `callbackd_attempts_total`, a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttemptResult {
    /// By the policy.
    Success,
    /// 3xx: never followed.
    Redirect,
    /// 4xx but 429.
    ClientError,
    /// A status that is no success by the policy and in no other class (1xx, another 2xx, 6xx and above).
    UnexpectedStatus,
    /// 429.
    RateLimited,
    /// 5xx.
    ServerError,
    /// See [`Failure::Timeout`].
    Timeout,
    /// See [`Failure::Connect`].
    Connect,
    /// See [`Failure::Dns`].
    Dns,
    /// See [`Failure::Tls`].
    Tls,
    /// See [`Failure::Protocol`].
    Protocol,
    /// See [`Failure::Blocked`].
    Blocked,
    /// See [`Failure::Internal`].
    Internal,
}

/// What to do after an attempt.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver took it.
    Delivered,
    /// Try again by the policy's schedule, and not before `pause` from now (at most 1 h) when the receiver asked for one.
    Retry {
        /// From `Retry-After` on 429 and 503.
        pause: Option<Duration>,
    },
    /// A final status: no retry.
    Rejected,
}

/// The longest pause of an endpoint that one answer can ask for (design §7).
pub const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The verdict on `outcome` under `policy`; `now` turns a `Retry-After` date into a pause.
///
/// A status that the policy calls both a success and final is a success.
pub fn judge(policy: &Policy, outcome: &Outcome, now: UnixMillis) -> Verdict {
    match outcome {
        Outcome::Answered { status, .. } if policy.success.includes(*status) => Verdict::Delivered,
        Outcome::Answered { status, .. } if policy.final_statuses.contains(status) => Verdict::Rejected,
        Outcome::Answered { status: 429 | 503, retry_after: Some(text) } => Verdict::Retry { pause: retry_after_pause(text, now) },
        Outcome::Answered { .. } | Outcome::Failed(_) => Verdict::Retry { pause: None },
    }
}

/// The pause that a `Retry-After` header asks for, seconds or an HTTP date in any of its three forms (RFC 9110 §10.2.3), at
/// most [`MAX_PAUSE`]. `None` when the text is neither, or asks for no time at all: `0`, a date that is past.
#[must_use]
pub fn retry_after_pause(text: &str, now: UnixMillis) -> Option<Duration> {
    let text = text.trim_matches([' ', '\t']);
    let pause = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let date = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        UnixMillis(0).plus(date).since(now)
    };
    (!pause.is_zero()).then_some(pause.min(MAX_PAUSE))
}

impl AttemptResult {
    /// Every result, in the order of the list in the observability reference.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Redirect,
        Self::ClientError,
        Self::UnexpectedStatus,
        Self::RateLimited,
        Self::ServerError,
        Self::Timeout,
        Self::Connect,
        Self::Dns,
        Self::Tls,
        Self::Protocol,
        Self::Blocked,
        Self::Internal,
    ];

    /// The class of `outcome` under `policy`: success by the policy first, then the class of the status.
    #[must_use]
    pub fn of(policy: &Policy, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Answered { status, .. } if policy.success.includes(*status) => Self::Success,
            Outcome::Answered { status: 429, .. } => Self::RateLimited,
            Outcome::Answered { status: 300..=399, .. } => Self::Redirect,
            Outcome::Answered { status: 400..=499, .. } => Self::ClientError,
            Outcome::Answered { status: 500..=599, .. } => Self::ServerError,
            Outcome::Answered { .. } => Self::UnexpectedStatus,
            Outcome::Failed(failure) => Self::of_failure(*failure),
        }
    }

    /// The class of `failure`, which no policy changes.
    #[must_use]
    pub const fn of_failure(failure: Failure) -> Self {
        match failure {
            Failure::Timeout => Self::Timeout,
            Failure::Connect | Failure::Refused => Self::Connect,
            Failure::Dns | Failure::NoSuchName => Self::Dns,
            Failure::Tls => Self::Tls,
            Failure::Protocol => Self::Protocol,
            Failure::Blocked => Self::Blocked,
            Failure::Internal => Self::Internal,
        }
    }

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Redirect => "redirect",
            Self::ClientError => "client_error",
            Self::UnexpectedStatus => "unexpected_status",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Blocked => "blocked",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AttemptResult as R;
    use super::*;
    use std::ops::RangeInclusive;

    /// 2026-11-23 12:00:00 UTC.
    const NOW: UnixMillis = UnixMillis(1_795_435_200_000);
    const RETRY: Verdict = Verdict::Retry { pause: None };

    fn answered(status: u16, retry_after: Option<&str>) -> Outcome {
        Outcome::Answered { status, retry_after: retry_after.map(str::to_owned) }
    }

    /// Every status, by policy: the table is read row by row, and no row may be missing or double.
    type Row = (RangeInclusive<u16>, Verdict, AttemptResult);

    const CSS: [Row; 8] = [
        (100..=199, RETRY, R::UnexpectedStatus),
        (200..=200, Verdict::Delivered, R::Success),
        (201..=299, RETRY, R::UnexpectedStatus),
        (300..=399, RETRY, R::Redirect),
        (400..=428, RETRY, R::ClientError),
        (429..=429, RETRY, R::RateLimited),
        (430..=499, RETRY, R::ClientError),
        (500..=599, RETRY, R::ServerError),
    ];

    const STANDARD: [Row; 9] = [
        (100..=199, RETRY, R::UnexpectedStatus),
        (200..=299, Verdict::Delivered, R::Success),
        (300..=399, RETRY, R::Redirect),
        (400..=409, RETRY, R::ClientError),
        (410..=410, Verdict::Rejected, R::ClientError),
        (411..=428, RETRY, R::ClientError),
        (429..=429, RETRY, R::RateLimited),
        (430..=499, RETRY, R::ClientError),
        (500..=599, RETRY, R::ServerError),
    ];

    fn check_table(policy: &Policy, rows: &[Row]) {
        let mut next = 100;
        for (statuses, verdict, result) in rows {
            assert_eq!(*statuses.start(), next, "the table leaves out or repeats a status");
            next = statuses.end() + 1;
            for status in statuses.clone() {
                assert_eq!(judge(policy, &answered(status, None), NOW), *verdict, "{status}");
                assert_eq!(R::of(policy, &answered(status, None)), *result, "{status}");
                let pause = matches!(status, 429 | 503).then_some(Duration::from_secs(120));
                let asked = if *verdict == RETRY { Verdict::Retry { pause } } else { *verdict };
                assert_eq!(judge(policy, &answered(status, Some("120")), NOW), asked, "{status} with Retry-After");
            }
        }
        assert_eq!(next, 600);
    }

    #[test]
    fn every_status_under_css() {
        check_table(&Policy::css(), &CSS);
    }

    #[test]
    fn every_status_under_standard() {
        check_table(&Policy::standard(), &STANDARD);
    }

    #[test]
    fn statuses_of_no_known_class_are_retried_as_unexpected() {
        for status in [600, 777, 999] {
            assert_eq!(judge(&Policy::css(), &answered(status, None), NOW), RETRY);
            assert_eq!(R::of(&Policy::standard(), &answered(status, None)), R::UnexpectedStatus);
        }
    }

    #[test]
    fn every_failure_is_retried_under_both_policies() {
        // What each counts as, and which comes next: a new one does not compile until it has its place.
        let row = |failure| match failure {
            Failure::Timeout => (R::Timeout, Some(Failure::Connect)),
            Failure::Connect => (R::Connect, Some(Failure::Refused)),
            Failure::Refused => (R::Connect, Some(Failure::Dns)),
            Failure::Dns => (R::Dns, Some(Failure::NoSuchName)),
            Failure::NoSuchName => (R::Dns, Some(Failure::Tls)),
            Failure::Tls => (R::Tls, Some(Failure::Protocol)),
            Failure::Protocol => (R::Protocol, Some(Failure::Blocked)),
            Failure::Blocked => (R::Blocked, Some(Failure::Internal)),
            Failure::Internal => (R::Internal, None),
        };
        for policy in [Policy::css(), Policy::standard()] {
            let all: Vec<Failure> = std::iter::successors(Some(Failure::Timeout), |failure| row(*failure).1).collect();
            assert_eq!(all.len(), 9);
            for failure in all {
                assert_eq!(judge(&policy, &Outcome::Failed(failure), NOW), RETRY, "{failure:?}");
                assert_eq!(R::of(&policy, &Outcome::Failed(failure)), row(failure).0, "{failure:?}");
            }
        }
    }

    #[test]
    fn the_success_list_of_the_template_decides_and_beats_a_final_status() {
        let policy = Policy { success: super::super::policy::Success::Listed(vec![204, 410]), ..Policy::standard() };
        for (status, verdict, result) in
            [(200, RETRY, R::UnexpectedStatus), (204, Verdict::Delivered, R::Success), (410, Verdict::Delivered, R::Success)]
        {
            assert_eq!(judge(&policy, &answered(status, None), NOW), verdict, "{status}");
            assert_eq!(R::of(&policy, &answered(status, None)), result, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_a_date_and_capped_at_an_hour() {
        for (text, seconds) in [
            ("1", Some(1)),
            ("120", Some(120)),
            (" 120\t", Some(120)),
            ("007", Some(7)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("86400", Some(3600)),
            ("18446744073709551616", Some(3600)),
            ("9999999999999999999999999999999999999999999999999999999999999999", Some(3600)),
            ("Mon, 23 Nov 2026 12:02:00 GMT", Some(120)),
            ("Monday, 23-Nov-26 12:02:00 GMT", Some(120)),
            ("Mon Nov 23 12:02:00 2026", Some(120)),
            ("Tue, 24 Nov 2026 12:00:00 GMT", Some(3600)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(3600)),
            ("Mon, 23 Nov 2026 12:00:00 GMT", None),
            ("Mon, 23 Nov 2026 11:59:59 GMT", None),
            ("Thu, 01 Jan 1970 00:00:00 GMT", None),
            ("0", None),
            ("", None),
            (" ", None),
            ("-1", None),
            ("+1", None),
            ("1.5", None),
            ("1e3", None),
            ("0x10", None),
            ("60s", None),
            ("6 0", None),
            ("60, 120", None),
            ("١٢", None),
            ("soon", None),
            ("Mon, 32 Nov 2026 12:02:00 GMT", None),
            ("2026-11-23T12:02:00Z", None),
        ] {
            assert_eq!(retry_after_pause(text, NOW), seconds.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn results_are_the_labels_of_the_list_each_once() {
        let labels: Vec<&str> = R::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(
            labels.join(", "),
            "success, redirect, client_error, unexpected_status, rate_limited, server_error, timeout, connect, dns, tls, protocol, blocked, internal"
        );
    }
}
