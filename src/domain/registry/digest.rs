//! The registry's digest: a SHA-256 over a canonical form.
//!
//! Canonical: rows of each kind in the order of their names, whatever their order in the source; every field with its length before it, so
//! that no two registries share a form. Bytes of keys, secrets and header values stay out: the digest is exported, and short
//! secrets could be searched for. Key ids and header names are in.

use super::super::policy::Success;
use super::super::time::UnixMillis;
use super::{CallbackTemplateEntry, Entries, Keep};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

struct Form(Sha256);

impl Form {
    fn text(&mut self, text: &str) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text.as_bytes());
    }

    fn number(&mut self, number: u64) {
        self.0.update(number.to_be_bytes());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.0.update([u8::from(value.is_some())]);
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.number(texts.len() as u64);
        texts.for_each(|text| self.text(text));
    }

    fn instant(&mut self, at: UnixMillis) {
        self.0.update(at.0.to_be_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.0.update(duration.as_nanos().to_be_bytes());
    }

    fn rows<'e, T, K: Ord>(&mut self, rows: &'e [T], key: impl Fn(&'e T) -> K, write: impl Fn(&mut Self, &'e T)) {
        let mut sorted: Vec<&T> = rows.iter().collect();
        sorted.sort_by_cached_key(|row| key(row));
        self.number(rows.len() as u64);
        for row in sorted {
            write(self, row);
        }
    }

    fn callback_template(&mut self, row: &CallbackTemplateEntry) {
        self.text(&row.name);
        self.option(row.account.as_deref(), Self::text);
        self.text(row.policy.as_str());
        self.option(row.recording_file.as_deref(), Self::text);
        self.option(row.recording_status.as_deref(), Self::text);
        self.option(row.recording_exception.as_deref(), Self::text);
        self.number(row.keys.len() as u64);
        for key in &row.keys {
            self.text(&key.id);
            self.option(key.not_before, Self::instant);
            self.option(key.expires, Self::instant);
        }
        self.option(row.delays.as_ref(), |form, delays| {
            form.number(delays.len() as u64);
            delays.iter().for_each(|delay| form.duration(*delay));
        });
        self.option(row.attempts, |form, attempts| form.number(attempts.into()));
        self.option(row.max_age, Self::duration);
        self.option(row.max_wait, Self::duration);
        self.option(row.jitter, |form, jitter| form.number(jitter.to_bits()));
        self.option(row.success.as_ref(), |form, success| match success {
            Success::Any2xx => form.text("2xx"),
            Success::Listed(list) => {
                form.number(list.len() as u64);
                list.iter().for_each(|status| form.number((*status).into()));
            }
        });
        self.option(row.timeout, Self::duration);
        self.option(row.connect_timeout, Self::duration);
        self.option(row.rate, |form, rate| form.number(rate.to_bits()));
        self.texts(row.headers.iter().map(|header| header.name.as_str()));
        // The certificate is no secret. Absent, it leaves no trace: registries without one keep the digests they had.
        if let Some(client) = &row.client_certificate {
            self.text("client certificate");
            self.text(&String::from_utf8_lossy(&client.certificate));
        }
    }
}

/// The first 48 bits of the digest of `entries`.
pub(super) fn of(entries: &Entries) -> u64 {
    let mut form = Form(Sha256::new());
    form.text("callbackd registry 1");
    form.rows(
        &entries.accounts,
        |row| row.id.as_str(),
        |form, row| {
            form.text(&row.id);
            form.text(row.storage.as_str());
        },
    );
    form.rows(
        &entries.recording_templates,
        |row| row.name.as_str(),
        |form, row| {
            form.text(&row.name);
            form.option(row.account.as_deref(), Form::text);
            form.texts(row.formats.iter().map(|format| format.as_str()));
            form.duration(row.interval);
            form.option(
                match row.keep {
                    Keep::Forever => None,
                    Keep::For(time) => Some(time),
                },
                Form::duration,
            );
        },
    );
    form.rows(&entries.callback_templates, |row| row.name.as_str(), Form::callback_template);
    form.rows(
        &entries.domains,
        |row| row.name.as_str(),
        |form, row| {
            form.text(&row.name);
            form.option(row.account.as_deref(), Form::text);
            form.option(row.region, |form, region| form.text(region.as_str()));
        },
    );
    form.rows(
        &entries.bindings,
        |row| (row.domain.as_str(), row.path.as_deref(), row.from),
        |form, row| {
            form.text(&row.domain);
            form.option(row.path.as_deref(), Form::text);
            form.option(row.recording_template.as_deref(), Form::text);
            form.option(row.callback_template.as_deref(), Form::text);
            form.option(row.from, Form::instant);
            form.option(row.until, Form::instant);
        },
    );
    form.rows(
        &entries.mixes,
        |row| (row.domain.as_str(), row.path.as_str(), row.stream.as_str()),
        |form, row| {
            form.text(&row.domain);
            form.text(&row.path);
            form.text(&row.stream);
            form.texts(row.inputs.iter().map(String::as_str));
        },
    );
    let digest: [u8; 32] = form.0.finalize().into();
    digest[..6].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}
