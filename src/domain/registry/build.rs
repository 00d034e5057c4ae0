//! From entries to a snapshot: names, references, histories.

use super::super::id::DomainName;
use super::super::signature::KeyRing;
use super::super::time::UnixMillis;
use super::check::Found;
use super::{
    Account, BindingEntry, CallbackTemplate, CallbackTemplateEntry, CallbackUrl, Domain, Endpoint, EntityKind, Entries, Keep, MixEntry,
    Problem, RecordingTemplate, RecordingTemplateEntry, Registry, Rules, Schedule, Span, Storage, digest,
};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The vendor's longest keep time.
const LONGEST_KEEP: Duration = Duration::from_secs(129_600_000);

pub(super) fn empty() -> Registry {
    let entries = Entries::default();
    Registry {
        domains: HashMap::new(),
        callback_templates: HashMap::new(),
        rates: HashMap::new(),
        endpoints: 0,
        entries: counts(&entries),
        digest: digest::of(&entries),
    }
}

pub(super) fn build(entries: Entries, rules: &Rules) -> Result<Registry, Vec<Problem>> {
    let entries_of_kind = counts(&entries);
    let digest = digest::of(&entries);
    let mut build = Build { rules, problems: Vec::new() };
    let accounts = build.accounts(&entries);
    let recording = build.recording_templates(entries.recording_templates, &accounts);
    let callback = build.callback_templates(entries.callback_templates, &accounts);
    let mut domains = build.domains(&entries.domains, &accounts);
    build.bindings(&entries.bindings, &mut domains, &recording, &callback);
    build.mixes(&entries.mixes, &mut domains);
    if !build.problems.is_empty() {
        build.problems.sort_by_key(|problem| (problem.kind, problem.index));
        return Err(build.problems);
    }
    let mut rates: HashMap<Endpoint, f64> = HashMap::new();
    for template in callback.values() {
        for (url, rate) in template.urls().filter_map(|url| Some((url, template.rate?))) {
            rates.entry(url.endpoint.clone()).and_modify(|lowest| *lowest = lowest.min(rate)).or_insert(rate);
        }
    }
    let endpoints = callback.values().flat_map(|template| template.urls()).map(|url| &url.endpoint).collect::<HashSet<_>>().len();
    Ok(Registry { domains, callback_templates: callback, rates, endpoints, entries: entries_of_kind, digest })
}

fn counts(entries: &Entries) -> [(EntityKind, usize); 6] {
    EntityKind::ALL.map(|kind| {
        let count = match kind {
            EntityKind::Account => entries.accounts.len(),
            EntityKind::RecordingTemplate => entries.recording_templates.len(),
            EntityKind::CallbackTemplate => entries.callback_templates.len(),
            EntityKind::Domain => entries.domains.len(),
            EntityKind::Binding => entries.bindings.len(),
            EntityKind::Mix => entries.mixes.len(),
        };
        (kind, count)
    })
}

fn no_account(id: &str) -> String {
    format!("there is no account {id:?}: add it to accounts, or mend the id")
}

fn no_domain(name: &str) -> String {
    format!("there is no domain {name:?}: add it to domains, or mend the name")
}

/// The problem of a row that names a missing template. Past rows count, too: a template that one names cannot be deleted (design §8).
fn no_template(kind: &str, name: &str) -> String {
    format!(
        "there is no {kind} template {name:?}: mend the name, or add it; a template stays as long as a row names it, one that ended too"
    )
}

type Accounts = HashMap<Arc<str>, Storage>;
type Templates<T> = HashMap<Arc<str>, Arc<T>>;

struct Build<'a> {
    rules: &'a Rules,
    problems: Vec<Problem>,
}

impl Build<'_> {
    fn found(&mut self, kind: EntityKind, index: usize) -> Found<'_> {
        Found { problems: &mut self.problems, kind, index }
    }

    fn accounts(&mut self, entries: &Entries) -> Accounts {
        let mut first = HashMap::new();
        let mut accounts = Accounts::new();
        for (index, entry) in entries.accounts.iter().enumerate() {
            let mut found = self.found(EntityKind::Account, index);
            found.name("id", &entry.id);
            if let Some(other) = first.insert(&*entry.id, index) {
                found.clash("id", format!("the account {:?} is listed twice, remove one", entry.id), Some(other));
            }
            accounts.insert(entry.id.as_str().into(), entry.storage);
        }
        accounts
    }

    /// What both kinds of templates share: a legal, unique name and an owner who exists and owns no more than allowed.
    fn templates<'e>(&mut self, kind: EntityKind, heads: impl Iterator<Item = (&'e str, Option<&'e str>)>, accounts: &Accounts) {
        let limit = self.rules.templates_per_account;
        let mut first = HashMap::new();
        let mut owned: HashMap<Option<&str>, usize> = HashMap::new();
        for (index, (name, account)) in heads.enumerate() {
            let mut found = self.found(kind, index);
            found.name("name", name);
            if let Some(other) = first.insert(name, index) {
                found.clash("name", format!("the name {name:?} is used twice, rename one"), Some(other));
            }
            if let Some(id) = account
                && !accounts.contains_key(id)
            {
                found.add("account", no_account(id));
            }
            let count = owned.entry(account).or_default();
            *count += 1;
            if *count == limit + 1 {
                let whose = account
                    .map_or_else(|| "templates without an account count as one account, which".into(), |id| format!("account {id:?}"));
                found.add(
                    "",
                    format!("{whose} has more than {limit} templates of this kind: delete some, or raise registry.templates_per_account"),
                );
            }
        }
    }

    fn recording_templates(&mut self, entries: Vec<RecordingTemplateEntry>, accounts: &Accounts) -> Templates<RecordingTemplate> {
        const KIND: EntityKind = EntityKind::RecordingTemplate;
        self.templates(KIND, entries.iter().map(|entry| (&*entry.name, entry.account.as_deref())), accounts);
        let mut templates = Templates::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let mut found = self.found(KIND, index);
            if entry.interval.is_zero() || entry.interval > DAY {
                found.add("interval", "must be above zero and at most 24h");
            }
            if let Keep::For(time) = entry.keep
                && (time.is_zero() || time > LONGEST_KEEP)
            {
                found.add("keep", "must be above zero and at most 1500d, or \"forever\"");
            }
            for (at, format) in entry.formats.iter().enumerate() {
                if entry.formats[..at].contains(format) {
                    found.add(format!("formats[{at}]"), format!("{:?} is listed twice", format.as_str()));
                }
            }
            let name: Arc<str> = entry.name.into();
            let template = RecordingTemplate { name: name.clone(), formats: entry.formats, interval: entry.interval, keep: entry.keep };
            templates.insert(name, Arc::new(template));
        }
        templates
    }

    fn callback_templates(&mut self, entries: Vec<CallbackTemplateEntry>, accounts: &Accounts) -> Templates<CallbackTemplate> {
        const KIND: EntityKind = EntityKind::CallbackTemplate;
        self.templates(KIND, entries.iter().map(|entry| (&*entry.name, entry.account.as_deref())), accounts);
        let mut templates = Templates::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            let addresses = &self.rules.addresses;
            let mut found = Found { problems: &mut self.problems, kind: KIND, index };
            let identity = found.identity(entry.client_certificate.as_ref());
            let mut url = |field: &str, text: &Option<String>| match CallbackUrl::parse(text.as_deref()?, addresses) {
                Ok(url) if entry.client_certificate.is_some() && url.url.scheme() != "https" => {
                    found.add(format!("urls.{field}"), "the template has a client_certificate, which http cannot show: write https");
                    None
                }
                Ok(url) => match url.unsendable() {
                    Some(why) => {
                        found.add(format!("urls.{field}"), why);
                        None
                    }
                    None => Some(Arc::new(CallbackUrl { identity: identity.clone(), ..url })),
                },
                Err(refusal) => {
                    found.add(format!("urls.{field}"), refusal.to_string());
                    None
                }
            };
            let recording_file = url("recording_file", &entry.recording_file);
            let recording_status = url("recording_status", &entry.recording_status);
            let recording_exception = url("recording_exception", &entry.recording_exception);
            if entry.recording_file.is_none() && entry.recording_status.is_none() && entry.recording_exception.is_none() {
                found.add("urls", "give at least one URL: recording_file, recording_status or recording_exception");
            }
            let policy = found.policy(&entry);
            let headers = found.headers(&entry.headers);
            let keys = KeyRing::new(found.keys(entry.keys));
            let name: Arc<str> = entry.name.into();
            let rate = entry.rate;
            let template =
                CallbackTemplate { name: name.clone(), policy, recording_file, recording_status, recording_exception, keys, headers, rate };
            templates.insert(name, Arc::new(template));
        }
        templates
    }

    fn domains(&mut self, entries: &[super::DomainEntry], accounts: &Accounts) -> HashMap<DomainName, Domain> {
        let mut first = HashMap::with_capacity(entries.len());
        let mut domains = HashMap::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let mut found = self.found(EntityKind::Domain, index);
            let account = entry.account.as_deref().and_then(|id| {
                let known = accounts.get_key_value(id);
                if known.is_none() {
                    found.add("account", no_account(id));
                }
                known.map(|(id, storage)| Account { id: id.clone(), storage: *storage })
            });
            let Some(name) = DomainName::parse(&entry.name) else {
                found.add("name", "not a domain name, such as \"push.shop.example\"");
                continue;
            };
            if let Some(other) = first.insert(name.clone(), index) {
                found.clash("name", format!("the domain \"{name}\" is listed twice, remove one"), Some(other));
            }
            let domain =
                Domain { account, region: entry.region, whole: Schedule::default(), paths: HashMap::new(), mixed_regions: HashMap::new() };
            domains.insert(name, domain);
        }
        domains
    }

    fn bindings(
        &mut self,
        entries: &[BindingEntry],
        domains: &mut HashMap<DomainName, Domain>,
        recording: &Templates<RecordingTemplate>,
        callback: &Templates<CallbackTemplate>,
    ) {
        let mut rows: HashMap<(DomainName, Option<&str>), Vec<usize>> = HashMap::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let mut found = self.found(EntityKind::Binding, index);
            let domain = DomainName::parse(&entry.domain).filter(|name| domains.contains_key(name));
            if domain.is_none() {
                found.add("domain", no_domain(&entry.domain));
            }
            if let Some(path) = &entry.path {
                found.stream_word("path", path);
            }
            if let Some(name) = &entry.recording_template
                && !recording.contains_key(name.as_str())
            {
                found.add("recording_template", no_template("recording", name));
            }
            if let Some(name) = &entry.callback_template
                && !callback.contains_key(name.as_str())
            {
                found.add("callback_template", no_template("callback", name));
            }
            if entry.recording_template.is_none() && entry.callback_template.is_none() {
                found.add("", "a binding has a recording_template, a callback_template, or both; `until` unbinds");
            }
            if let (Some(from), Some(until)) = (entry.from, entry.until)
                && from >= until
            {
                found.add("until", "must be later than from");
            } else if let Some(domain) = domain {
                rows.entry((domain, entry.path.as_deref())).or_default().push(index);
            }
        }
        for ((name, path), mut rows) in rows {
            rows.sort_by_key(|index| (entries[*index].from, *index));
            self.overlaps(entries, &rows);
            let Some(domain) = domains.get_mut(&name) else { continue };
            let schedule = match path {
                Some(path) => domain.paths.entry(path.into()).or_default(),
                None => &mut domain.whole,
            };
            for entry in rows.iter().map(|index| &entries[*index]) {
                let (from, until) = (entry.from, entry.until);
                let template = entry.recording_template.as_deref().and_then(|name| recording.get(name));
                schedule.recording.extend(template.cloned().map(|template| Span { from, until, template }));
                let template = entry.callback_template.as_deref().and_then(|name| callback.get(name));
                schedule.callback.extend(template.cloned().map(|template| Span { from, until, template }));
            }
        }
    }

    /// Of `rows`, all of one domain and path and sorted by `from`: each that begins before an earlier one ended.
    fn overlaps(&mut self, entries: &[BindingEntry], rows: &[usize]) {
        let end = |index: usize| entries[index].until.unwrap_or(UnixMillis(i64::MAX));
        let Some((&(mut longest), rest)) = rows.split_first() else { return };
        for &row in rest {
            if entries[row].from.is_none_or(|from| from < end(longest)) {
                let (earlier, later) = (longest.min(row), longest.max(row));
                let message =
                    "overlaps in time with another binding of the same domain and path; end one with `until` where the next begins";
                self.found(EntityKind::Binding, later).clash("", message, Some(earlier));
            }
            if end(row) > end(longest) {
                longest = row;
            }
        }
    }

    fn mixes(&mut self, entries: &[MixEntry], domains: &mut HashMap<DomainName, Domain>) {
        let mut first = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let mut found = self.found(EntityKind::Mix, index);
            found.stream_word("path", &entry.path);
            found.stream_word("stream", &entry.stream);
            if entry.inputs.is_empty() {
                found.add("inputs", "list at least one domain");
            }
            let mut regions = Vec::new();
            for (at, input) in entry.inputs.iter().enumerate() {
                match DomainName::parse(input).and_then(|name| domains.get(&name)) {
                    Some(domain) => regions.extend(domain.region),
                    None => found.add(format!("inputs[{at}]"), no_domain(input)),
                }
            }
            let Some((name, domain)) = DomainName::parse(&entry.domain).and_then(|name| Some((name.clone(), domains.get_mut(&name)?)))
            else {
                found.add("domain", no_domain(&entry.domain));
                continue;
            };
            if let Some(other) = first.insert((name, &*entry.path, &*entry.stream), index) {
                found.clash("", "this stream is listed twice, remove one", Some(other));
            }
            if regions.windows(2).any(|pair| pair[0] != pair[1]) {
                domain.mixed_regions.entry(entry.path.as_str().into()).or_default().insert(entry.stream.as_str().into());
            }
        }
    }
}
