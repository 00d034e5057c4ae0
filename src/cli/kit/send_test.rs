//! `callbackd send-test`: one test callback by the binding in force now; request and answer are printed.

use super::arguments::SendTestArguments;
use crate::app::test_callback::{Answer, TestCallback};
use crate::cli::failure::complain;
use crate::cli::{Exit, Failure, load};
use crate::domain::verdict::{Failure as AttemptFailure, Outcome, Verdict};
use crate::source::show_duration;
use std::io::{self, Write};
use std::time::Duration;

pub(crate) fn send_test(arguments: &SendTestArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let (loaded, registry) = load::both(&arguments.config.config)?;
    let callback = TestCallback::new(&registry.registry, &arguments.domain, arguments.path.as_deref(), arguments.event_type)
        .map_err(|cause| Failure::Failed(anyhow::anyhow!("nothing was sent: {cause}")))?;
    callback.notes().iter().for_each(|note| complain(format_args!("note: {note}")));
    write!(out, "{}\n\n", callback.shown())?;
    out.flush()?;
    let answer = callback.send(&loaded.settings)?;
    tell(&answer, out)?;
    Ok(if answer.verdict == Verdict::Delivered { Exit::Done } else { Exit::Failed })
}

fn tell(answer: &Answer, out: &mut dyn Write) -> io::Result<()> {
    // To the millisecond: more would only be noise.
    let took = show_duration(Duration::from_millis(u64::try_from(answer.took.as_millis()).unwrap_or(u64::MAX)));
    match &answer.outcome {
        Outcome::Answered { status, retry_after } => {
            writeln!(out, "answered {status} after {took}")?;
            if let Some(text) = retry_after {
                writeln!(out, "retry-after: {}", text.escape_default())?;
            }
        }
        Outcome::Failed(failure) => {
            writeln!(out, "no answer after {took}: {}", cause(*failure))?;
            if let Some(refusal) = answer.refusal {
                writeln!(out, "{refusal}")?;
            }
        }
    }
    match answer.verdict {
        Verdict::Delivered => writeln!(out, "delivered"),
        Verdict::Retry { .. } => writeln!(out, "NOT delivered: the daemon would try such a callback again, by its template's schedule"),
        Verdict::Rejected => writeln!(out, "NOT delivered: for this status the daemon would make it a dead letter at once"),
    }
}

/// What happened, and what to look at.
const fn cause(failure: AttemptFailure) -> &'static str {
    match failure {
        AttemptFailure::Timeout => {
            "the template's time-out passed; is the receiver up, does a firewall drop the connection, does it answer before it works?"
        }
        AttemptFailure::Connect => "no connection came about; is the host up, and is there a route to it?",
        AttemptFailure::Refused => "the connection was refused: nothing listens at that port",
        AttemptFailure::Dns => "the host's name could not be resolved: no name server answered",
        AttemptFailure::NoSuchName => "the host's name could not be resolved: it does not exist, or has no address",
        AttemptFailure::Tls => {
            "the TLS handshake failed: an expired, self-signed or foreign certificate, or no TLS there (egress.ca_file adds trusted roots)"
        }
        AttemptFailure::Protocol => "the connection broke, or what came was not HTTP",
        AttemptFailure::Blocked => "the URL, or an address of its name, may not be dialled",
        AttemptFailure::Internal => "callbackd itself failed: please report it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::address::Refusal;

    fn told(outcome: Outcome, verdict: Verdict, refusal: Option<Refusal>) -> String {
        let mut out = Vec::new();
        tell(&Answer { outcome, verdict, refusal, took: Duration::from_micros(12_345) }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_answer_is_told_with_its_verdict() {
        let answered = |status, text: Option<&str>| Outcome::Answered { status, retry_after: text.map(str::to_owned) };
        assert_eq!(told(answered(200, None), Verdict::Delivered, None), "answered 200 after 12ms\ndelivered\n");
        let told_later = told(answered(503, Some("3\u{1b}")), Verdict::Retry { pause: None }, None);
        assert!(told_later.contains("retry-after: 3\\u{1b}\n") && told_later.contains("NOT delivered"), "{told_later}");
        let blocked = told(Outcome::Failed(AttemptFailure::Blocked), Verdict::Retry { pause: None }, Some(Refusal::Address));
        assert!(blocked.contains("may not be dialled") && blocked.contains("egress.allow_networks"), "{blocked}");
    }
}
