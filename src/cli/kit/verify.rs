//! `callbackd verify`: whichever signatures are there, and why one does not verify.

use super::arguments::VerifyArguments;
use super::{VENDOR, WEBHOOK, keys, message, moment, reasons, standard_input};
use crate::cli::failure::complain;
use crate::cli::{Exit, Failure};
use crate::domain::signature::shown_secret;
use crate::domain::verification::{Finding, Message, SharedKey, Verification, verify as judge};
use std::io::{self, IsTerminal as _, Write};

pub(crate) fn verify(arguments: &VerifyArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let shared = keys::to_verify(&arguments.keys)?;
    if arguments.show_secret {
        writeln!(out, "{}", *shown_secret(shared.signing().secret()))?;
        out.flush()?;
        if arguments.headers.is_empty() && io::stdin().is_terminal() {
            return Ok(Exit::Done);
        }
    }
    let input = standard_input("the callback")?;
    if arguments.show_secret && arguments.headers.is_empty() && input.is_empty() {
        return Ok(Exit::Done);
    }
    let found = found(&shared, &arguments.headers, &input, moment(arguments.at))?;
    tell(&found, out)?;
    if found.is_verified() {
        return Ok(Exit::Done);
    }
    complain("callbackd: not verified");
    if found.fails_by_time_alone() {
        complain("--at UNIX judges by another time than now");
    }
    if !arguments.headers.is_empty() && message::begins_with_a_header(&input) {
        complain("standard input begins with header lines, which count as body when --header is given");
    }
    Ok(Exit::Failed)
}

fn found(shared: &SharedKey, headers: &[(String, String)], input: &[u8], now: i64) -> Result<Verification, Failure> {
    if !headers.is_empty() {
        return Ok(judge(shared, Message { headers, body: input }, now));
    }
    let (headers, body) = message::split(input).map_err(|cause| anyhow::anyhow!("{cause}"))?;
    Ok(judge(shared, Message { headers: &headers, body }, now))
}

/// A line for each family, and the verdict.
fn tell(found: &Verification, out: &mut dyn Write) -> io::Result<()> {
    let silent = |finding: &Finding| matches!(finding, Finding::Absent);
    if silent(&found.webhook) && silent(&found.vendor) {
        return writeln!(out, "NOT verified: {}", reasons(found));
    }
    match &found.webhook {
        Finding::Absent => writeln!(out, "{WEBHOOK}: not there, so nothing covers the body as a whole")?,
        webhook @ (Finding::Unjudged | Finding::Verified(_) | Finding::Refused(_)) => writeln!(out, "{WEBHOOK}: {webhook}")?,
    }
    writeln!(out, "{VENDOR}: {}", found.vendor)?;
    writeln!(out, "{}", if found.is_verified() { "verified" } else { "NOT verified" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    const MESSAGE: &str = "webhook-id: evt_1\nwebhook-timestamp: 1642089598\n\
        webhook-signature: v1,wGBiFkrTknPtsrRD8qSJSqsRphQAezbPbYJAb9zefpE=\n\n\
        {\"event_type\":100,\"app\":\"push.example.com\",\"t\":1642090198,\"sign\":\"5874b523f56f96b887bebb1f8a1773e8\"}";

    fn told(headers: &[(&str, &str)], input: &str) -> (bool, String) {
        let shared = SharedKey::new(Some(Zeroizing::new(b"adasda131312".to_vec())), None).unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found = found(&shared, &headers, input.as_bytes(), 1_642_089_600).unwrap();
        let mut out = Vec::new();
        tell(&found, &mut out).unwrap();
        (found.is_verified(), String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_message_with_its_headers_before_it_is_judged_as_a_whole() {
        let (verified, told) = told(&[], MESSAGE);
        assert!(verified, "{told}");
        assert_eq!(
            told,
            "webhook-signature: verified, signed 2 s ago\nt and sign: verified, good for 598 s more; it covers no other part of the body\nverified\n"
        );
    }

    #[test]
    fn a_body_alone_is_judged_by_t_and_sign_and_what_that_leaves_open_is_said() {
        let (verified, told) = told(&[], MESSAGE.split_once("\n\n").unwrap().1);
        assert!(verified && told.starts_with("webhook-signature: not there, so nothing covers the body"), "{told}");
    }

    #[test]
    fn with_headers_given_all_of_the_input_is_body() {
        let (_, body) = MESSAGE.split_once("\n\n").unwrap();
        let headers = [
            ("webhook-id", "evt_1"),
            ("webhook-timestamp", "1642089598"),
            ("Webhook-Signature", "v1,wGBiFkrTknPtsrRD8qSJSqsRphQAezbPbYJAb9zefpE="),
        ];
        assert!(told(&headers, body).0);
        let (verified, told) = told(&headers, MESSAGE);
        assert!(!verified && told.contains("NOT verified"), "{told}");
    }

    #[test]
    fn what_is_not_signed_at_all_says_so_in_one_line() {
        for (input, said) in [("{}", "nothing is signed"), ("", "the value is empty"), ("{\"a\":", "not JSON at byte 5")] {
            let (verified, told) = told(&[], input);
            assert!(!verified && told.lines().count() == 1 && told.contains(said), "{told}");
        }
    }
}
