//! From a located document to the registry's entries: types and references, row by row. A value that does not fit is noted and left out;
//! rows keep their places, so that the domain's problems can be told by line.

use super::LoadOptions;
use crate::domain::id::DomainName;
use crate::domain::policy::Success;
use crate::domain::registry::{
    AccountEntry, BindingEntry, CallbackTemplateEntry, ClientCertificateEntry, DomainEntry, Entries, Format, HeaderEntry, Keep, KeyEntry,
    MixEntry, PolicyKind, RecordingTemplateEntry, Region, Storage,
};
use crate::domain::signature::in_force;
use crate::domain::time::UnixMillis;
use crate::source::{Fields, Item, Reading, show_duration};
use std::collections::HashMap;
use std::time::Duration;
use zeroize::Zeroizing;

/// The version of the file format; a file may name it.
const VERSION: i64 = 1;
/// Keys below this many bytes are warned about: anyone who sees one callback can search for them offline.
const SHORT_KEY: usize = 20;
/// How long one recorded file gets by default: the vendor's value.
const INTERVAL: Duration = Duration::from_secs(1800);

/// Reads all rows.
pub(super) fn read(reading: &Reading<'_>, options: &LoadOptions) -> Entries {
    let root = reading.root();
    if let Some(version) = root.get("version") {
        version.only(VERSION, "the version of registry files that this program reads");
    }
    let entries = Entries {
        accounts: root.rows("accounts").iter().map(account).collect(),
        recording_templates: root.rows("recording_templates").iter().map(recording_template).collect(),
        callback_templates: root.rows("callback_templates").iter().map(|row| callback_template(row, options)).collect(),
        domains: root.rows("domains").iter().map(domain).collect(),
        bindings: root.rows("bindings").iter().map(binding).collect(),
        mixes: root.rows("mixes").iter().map(mix).collect(),
    };
    root.done();
    warn_of_mixes(reading, &entries);
    entries
}

fn account(row: &Fields<'_>) -> AccountEntry {
    let id = row.required_text("id");
    let storage = row.required("storage").and_then(|item| item.choice(&Storage::ALL, Storage::as_str)).unwrap_or(Storage::Active);
    row.done();
    AccountEntry { id, storage }
}

fn recording_template(row: &Fields<'_>) -> RecordingTemplateEntry {
    let formats = row.required("formats").and_then(|item| item.list()).unwrap_or_default();
    let entry = RecordingTemplateEntry {
        name: row.required_text("name"),
        account: row.text("account"),
        formats: formats.iter().filter_map(|item| item.choice(&Format::ALL, Format::as_str)).collect(),
        interval: row.get("interval").and_then(|item| item.duration()).unwrap_or(INTERVAL),
        keep: row.get("keep").and_then(|item| keep(&item)).unwrap_or(Keep::Forever),
    };
    row.done();
    entry
}

fn keep(item: &Item<'_>) -> Option<Keep> {
    if item.is_text() && item.text() == Some("forever") {
        return Some(Keep::Forever);
    }
    item.duration_or("\"forever\"").map(Keep::For)
}

fn callback_template(row: &Fields<'_>, options: &LoadOptions) -> CallbackTemplateEntry {
    let urls = row.fields("urls");
    let retry = row.fields("retry");
    let entry = CallbackTemplateEntry {
        name: row.required_text("name"),
        account: row.text("account"),
        policy: row.get("policy").and_then(|item| item.choice(&PolicyKind::ALL, PolicyKind::as_str)).unwrap_or_default(),
        recording_file: urls.text("recording_file"),
        recording_status: urls.text("recording_status"),
        recording_exception: urls.text("recording_exception"),
        keys: row.rows("keys").iter().map(key).collect(),
        delays: retry.get("delays").and_then(|item| delays(&item)),
        attempts: retry.get("attempts").and_then(|item| item.integer(1..=1000)).and_then(|number| u32::try_from(number).ok()),
        max_age: retry.get("max_age").and_then(|item| item.duration()),
        max_wait: retry.get("max_wait").and_then(|item| item.duration()),
        jitter: retry.get("jitter").and_then(|item| item.number()),
        success: row.get("success").and_then(|item| success(&item)),
        timeout: row.get("timeout").and_then(|item| item.duration()),
        connect_timeout: row.get("connect_timeout").and_then(|item| item.duration()),
        rate: row.get("rate").and_then(|item| item.number()),
        client_certificate: row.get("client_certificate").and_then(|item| client_certificate(&item)),
        headers: row.fields("headers").all().filter_map(|(name, item)| header(name, &item)).collect(),
    };
    urls.done();
    retry.done();
    row.done();
    let policy = entry.policy.policy();
    let timeout = entry.timeout.unwrap_or(policy.timeout);
    if timeout > options.drain_timeout {
        let (timeout, drain) = (show_duration(timeout), show_duration(options.drain_timeout));
        row.warning(
            "timeout",
            format!("{timeout} exceeds delivery.drain_timeout ({drain}): a stop may cut attempts short; raise the one or lower the other"),
        );
    }
    warn_of_keys(row, &entry, (options.clock)());
    let first = entry.delays.as_ref().unwrap_or(&policy.delays).first().copied();
    if let Some(first) = first.filter(|first| *first < options.smallest_tier) {
        let (first, smallest) = (show_duration(first), show_duration(options.smallest_tier));
        row.warning("retry.delays", format!("the first delay, {first}, rounds up to the smallest delay tier, {smallest}: write that, or add a tier to delivery.delay_tiers"));
    }
    entry
}

/// Without a key in force nothing is sent, however right everything else is.
fn warn_of_keys(row: &Fields<'_>, entry: &CallbackTemplateEntry, now: UnixMillis) {
    if entry.keys.is_empty() || entry.keys.iter().any(|key| in_force(key.not_before, key.expires, now)) {
        return;
    }
    let next = entry.keys.iter().filter_map(|key| key.not_before).filter(|from| *from > now).min();
    let until = next.and_then(|next| jiff::Timestamp::from_millisecond(next.0).ok());
    let until = until.map_or_else(String::new, |next| format!(" until {next}"));
    row.warning(
        "keys",
        format!(
            "no key of the template {:?} is in force now: its callbacks wait{until}, and are never sent unsigned; add a key, or mend not_before and expires",
            entry.name
        ),
    );
}

fn delays(item: &Item<'_>) -> Option<Vec<Duration>> {
    Some(item.list()?.iter().filter_map(Item::duration).collect())
}

fn success(item: &Item<'_>) -> Option<Success> {
    if item.is_text() {
        if item.text() == Some("2xx") {
            return Some(Success::Any2xx);
        }
        item.problem("must be \"2xx\" or a list of statuses such as [200, 204]");
        return None;
    }
    let statuses = item.list()?;
    let statuses = statuses.iter().filter_map(|status| status.integer(200..=299)).filter_map(|status| u16::try_from(status).ok());
    Some(Success::Listed(statuses.collect()))
}

fn key(row: &Fields<'_>) -> KeyEntry {
    let value = row.reference();
    if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
        if value.len() < SHORT_KEY {
            row.warning(
                "",
                format!(
                    "the key has {} bytes: below {SHORT_KEY}, it can be searched for by anyone who sees a callback; take a longer one",
                    value.len()
                ),
            );
        }
        if value.first().is_some_and(u8::is_ascii_whitespace) || value.last().is_some_and(u8::is_ascii_whitespace) {
            row.warning("", "the key begins or ends with white space, which counts; remove it unless it is meant");
        }
    }
    let entry = KeyEntry {
        id: row.required_text("id"),
        value: value.unwrap_or_default(),
        secret: row.get("secret").and_then(|item| item.secret()),
        not_before: row.get("not_before").and_then(|item| item.instant()),
        expires: row.get("expires").and_then(|item| item.instant()),
    };
    row.done();
    entry
}

fn client_certificate(item: &Item<'_>) -> Option<ClientCertificateEntry> {
    let table = item.fields()?;
    let certificate = table.required("certificate").and_then(|item| item.public());
    let key = table.required("key").and_then(|item| item.secret());
    table.done();
    Some(ClientCertificateEntry { certificate: certificate?, key: key? })
}

fn header(name: &str, item: &Item<'_>) -> Option<HeaderEntry> {
    // A plain text need not be a secret; a reference says that it is.
    let value = if item.is_table() { item.secret()? } else { Zeroizing::new(item.public()?) };
    Some(HeaderEntry { name: name.into(), value })
}

fn domain(row: &Fields<'_>) -> DomainEntry {
    let entry = DomainEntry {
        name: row.required_text("name"),
        account: row.text("account"),
        region: row.get("region").and_then(|item| item.choice(&Region::ALL, Region::as_str)),
    };
    row.done();
    entry
}

/// An event's path is a name without slashes around it, and is compared as it is.
fn warn_of_slashes(row: &Fields<'_>, path: &str) {
    let name = path.trim_matches('/');
    if name != path {
        let instead = if name.is_empty() { "leave it out".to_owned() } else { format!("write {name:?}") };
        row.warning(
            "path",
            format!("the slashes of {path:?} count: only events whose path has them are met; {instead}, unless that is meant"),
        );
    }
}

fn binding(row: &Fields<'_>) -> BindingEntry {
    let path = row.text("path");
    path.iter().for_each(|path| warn_of_slashes(row, path));
    let entry = BindingEntry {
        domain: row.required_text("domain"),
        path,
        recording_template: row.text("recording_template"),
        callback_template: row.text("callback_template"),
        from: row.get("from").and_then(|item| item.instant()),
        until: row.get("until").and_then(|item| item.instant()),
    };
    row.done();
    entry
}

fn mix(row: &Fields<'_>) -> MixEntry {
    let path = row.required_text("path");
    warn_of_slashes(row, &path);
    let entry = MixEntry {
        domain: row.required_text("domain"),
        path,
        stream: row.required_text("stream"),
        inputs: row.required("inputs").and_then(|item| item.texts()).unwrap_or_default(),
    };
    row.done();
    entry
}

/// Mixes of differing regions make broken files; inputs whose region is not given cannot be judged.
fn warn_of_mixes(reading: &Reading<'_>, entries: &Entries) {
    if entries.mixes.is_empty() {
        return;
    }
    let regions: HashMap<DomainName, Option<Region>> =
        entries.domains.iter().filter_map(|domain| Some((DomainName::parse(&domain.name)?, domain.region))).collect();
    for (at, mix) in entries.mixes.iter().enumerate() {
        let of_inputs: Vec<Option<Region>> =
            mix.inputs.iter().filter_map(|input| regions.get(&DomainName::parse(input)?).copied()).collect();
        let mut known = of_inputs.iter().flatten();
        let first = known.next();
        if known.any(|region| Some(region) != first) {
            reading.warning(
                &format!("mixes[{at}].inputs"),
                "their regions differ: such a mix makes broken files, and its events carry a notice",
            );
        } else if of_inputs.len() > 1 && of_inputs.contains(&None) {
            reading.warning(&format!("mixes[{at}].inputs"), "not every input's domain has a region: whether they differ cannot be told");
        }
    }
}
