//! `callbackd sign`: a callback as the daemon would send it, printed.

use super::arguments::SignArguments;
use super::{keys, moment, standard_input};
use crate::cli::{Exit, Failure};
use crate::domain::body::render;
use crate::domain::event::sealed;
use crate::domain::id::EventId;
use crate::domain::record::{Position, Record};
use crate::domain::signature::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, seal, webhook_signature};
use crate::domain::time::UnixMillis;
use crate::domain::verification::SharedKey;
use bytes::Bytes;
use std::io::Write;

pub(crate) fn sign(arguments: &SignArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let shared = keys::to_sign(&arguments.keys)?;
    let value = Bytes::from(standard_input("the event")?);
    print(&shared, &value, arguments.id.clone(), moment(arguments.at), out)?;
    Ok(Exit::Done)
}

/// Signs `value` at `now` (Unix seconds) as event `id`, else as the one that its bytes make it.
fn print(shared: &SharedKey, value: &Bytes, id: Option<EventId>, now: i64, out: &mut dyn Write) -> Result<(), Failure> {
    let found =
        sealed(value).map_err(|error| anyhow::anyhow!("standard input is no event: {} (what is signed is a JSON object)", error.detail))?;
    let id = id.unwrap_or_else(|| {
        let position = Position { topic: "standard input".into(), partition: 0, offset: 0 };
        let timestamp = UnixMillis::from_secs(now);
        EventId::of(&Record { position, timestamp, key: None, value: Some(value.clone()), headers: Vec::new() })
    });
    let seal = seal(shared.signing(), now);
    let body = render(value, &found.cuts, Some((seal.t, &seal.sign)));
    let signature = webhook_signature(&[shared.signing()], &id, now, &body);
    writeln!(out, "content-type: application/json\n{WEBHOOK_ID}: {id}\n{WEBHOOK_TIMESTAMP}: {now}\n{WEBHOOK_SIGNATURE}: {signature}\n")?;
    // No newline of our own: it would be one that is not signed.
    out.write_all(&body)?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn signed(value: &'static str, id: Option<&str>) -> Result<String, Failure> {
        let shared = SharedKey::new(Some(Zeroizing::new(b"adasda131312".to_vec())), None).unwrap();
        let mut out = Vec::new();
        let id = id.map(|id| EventId::parse(id.as_bytes()).unwrap());
        print(&shared, &Bytes::from_static(value.as_bytes()), id, 1_642_089_598, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_is_printed_is_headers_an_empty_line_and_the_body_as_sent() {
        // The HMAC is OpenSSL's: printf '%s' 'evt_1.1642089598.{…}' | openssl dgst -sha256 -hmac adasda131312 -binary | base64
        assert_eq!(
            signed(r#"{"event_type":100,"t":1,"sign":"old","app":"push.example.com"}"#, Some("evt_1")).unwrap(),
            "content-type: application/json\nwebhook-id: evt_1\nwebhook-timestamp: 1642089598\n\
             webhook-signature: v1,wGBiFkrTknPtsrRD8qSJSqsRphQAezbPbYJAb9zefpE=\n\n\
             {\"event_type\":100,\"app\":\"push.example.com\",\"t\":1642090198,\"sign\":\"5874b523f56f96b887bebb1f8a1773e8\"}"
        );
    }

    #[test]
    fn without_an_id_it_is_that_of_the_bytes_as_in_the_daemon() {
        assert!(signed(r#"{"app":"d"}"#, None).unwrap().contains("webhook-id: -xWsT0Z3ACR_wTPzZxQgJw\n"));
    }

    #[test]
    fn what_is_no_json_object_is_not_signed() {
        for value in ["", "[]", "{", "t=1"] {
            let failure = signed(value, None).unwrap_err();
            assert!(failure.exit() == Exit::Failed && failure.lines()[0].contains("no event"), "{value}: {:?}", failure.lines());
        }
    }
}
