//! Source: TOML text as located values, and every problem with its file, line and key.
//!
//! ```text
//!  file ─► Document (values with lines) ─► Fields: typed reads ─► settings, registry entries
//!  environment ─► overrides ┘                    └─► Problems, all at once
//! ```
//!
//! Configuration and registry read through this. serde stops at the first fault and knows no key of a missing value, so values are read by
//! hand: each read names its key and type, notes a problem when they do not fit and lets the reader go on. [`Fields::done`] reports what no
//! read asked for.
//!
//! Invariants: a problem never shows a value that may be a secret; a reference (`{ file = … }`, `{ env = … }`) is resolved where it
//! is read, relative to the file that holds it; files that were read are remembered, so that they can be watched.

mod document;
mod environment;
mod fields;
mod file;
mod item;
mod listening;
mod pieces;
mod problem;
mod reading;
mod secret;
mod secret_file;
mod units;

pub use document::Document;
pub use environment::Environment;
pub use fields::{Fields, key_part};
pub use file::{Seen, cannot_be_read};
pub use item::Item;
pub use listening::cannot_listen;
pub use problem::Problem;
pub use reading::Reading;
pub use secret::Secret;
pub use secret_file::{SecretFile, read_secret};
pub use units::{parse_duration, parse_instant, parse_size, show_duration, show_size};

#[cfg(test)]
mod tests;
