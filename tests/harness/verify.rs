//! Foreign judges: the public Standard Webhooks libraries of Python and Node, run over many requests at once.

use super::receiver::Request;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The keys that one template signs with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    /// The newest active vendor key, for `sign`.
    pub(crate) sign: Option<String>,
    /// The bytes of each active Standard Webhooks secret, newest first.
    pub(crate) secrets: Vec<Vec<u8>>,
}

/// One request with what it should be.
pub(crate) struct Case<'a> {
    pub(crate) original: &'a [u8],
    pub(crate) request: &'a Request,
    pub(crate) keys: &'a Keys,
}

/// A judge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Judge {
    /// Signatures by Python's library, `sign`, and the body beside the original.
    Python,
    /// Signatures by Node's library.
    Node,
}

/// Panics with the first refusals; every case must pass.
pub(crate) fn all_pass(judge: Judge, cases: &[Case<'_>]) {
    let verdicts = verdicts(judge, cases);
    let refused: Vec<String> = verdicts
        .iter()
        .zip(cases)
        .filter(|(why, _)| !why.is_empty())
        .map(|(why, case)| {
            format!(
                "{why}\n  original {}\n  body     {}\n  headers  {:?}",
                String::from_utf8_lossy(&case.original[..case.original.len().min(600)]),
                String::from_utf8_lossy(&case.request.body[..case.request.body.len().min(700)]),
                case.request.headers
            )
        })
        .collect();
    assert!(
        refused.is_empty(),
        "{judge:?} refuses {} of {}, for example:\n{}",
        refused.len(),
        cases.len(),
        refused[..refused.len().min(5)].join("\n")
    );
}

/// Why each case is refused; empty when it passes.
pub(crate) fn verdicts(judge: Judge, cases: &[Case<'_>]) -> Vec<String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let (program, arguments, present) = match judge {
        Judge::Python => {
            let python = root.join(".cache/venv/bin/python");
            (python.clone(), vec![root.join("tests/verifiers/verify.py")], python)
        }
        Judge::Node => {
            let modules = root.join(".cache/node");
            let library = modules.join("node_modules/standardwebhooks");
            (PathBuf::from("node"), vec![root.join("tests/verifiers/verify.mjs"), modules], library)
        }
    };
    assert!(present.exists(), "{} is missing: `make verifiers` installs it", present.display());
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{judge:?} cannot be run: {e}"));
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<String> = cases.iter().map(line).collect();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let verdicts: Vec<String> = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(|line| {
            let verdict: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
            let why = verdict["why"].as_str().unwrap().to_string();
            assert_eq!(verdict["ok"].as_bool(), Some(why.is_empty()));
            why
        })
        .collect();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success(), "{judge:?} ended badly");
    assert_eq!(verdicts.len(), cases.len(), "{judge:?} gave too few verdicts");
    verdicts
}

fn line(case: &Case<'_>) -> String {
    let secrets: Vec<String> = case.keys.secrets.iter().map(|s| format!("whsec_{}", STANDARD.encode(s))).collect();
    serde_json::json!({
        "original": STANDARD.encode(case.original),
        "body": STANDARD.encode(&case.request.body),
        "id": case.request.header("webhook-id"),
        "timestamp": case.request.header("webhook-timestamp"),
        "signature": case.request.header("webhook-signature"),
        "secrets": secrets,
        "sign_key": case.keys.sign,
        "now": case.request.unix,
    })
    .to_string()
}
