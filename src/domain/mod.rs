//! The rules of callbackd, pure: no IO, no async, no clock, no randomness, no logging.
//! Time and jitter are passed in; everything here can be tested with plain values.
//! It imports nothing else of this crate.

pub mod address;
pub mod binding;
pub mod body;
pub mod circuit;
pub mod class;
pub mod dead_letter;
pub mod event;
pub mod headers;
pub mod id;
pub mod offsets;
pub mod policy;
#[cfg(test)]
mod protocol_page;
pub mod record;
pub mod registry;
pub mod requeue;
pub mod retry;
pub mod signature;
pub mod skew;
pub mod tier;
pub mod time;
pub mod verdict;
pub mod verification;
