//! The names of our record headers, all of them.

/// What every name of ours begins with; a foreign header of this prefix does not pass through.
pub const PREFIX: &str = "callbackd-";
/// The event id, the only one that is read on source topics too.
pub const ID: &str = crate::domain::id::ID_HEADER;
/// The push domain; absent when it could not be read.
pub const DOMAIN: &str = "callbackd-domain";
/// Attempts counted so far, 0–1000.
pub const ATTEMPTS: &str = "callbackd-attempts";
/// Start of the first attempt, Unix milliseconds; absent when none was made.
pub const FIRST_ATTEMPT_MS: &str = "callbackd-first-attempt-ms";
/// The source record's timestamp, Unix milliseconds.
pub const SOURCE_MS: &str = "callbackd-source-ms";
/// When the next attempt is due, Unix milliseconds; in tiers only.
pub const DUE_MS: &str = "callbackd-due-ms";
/// The latest attempt's outcome; absent when none was made.
pub const LAST_OUTCOME: &str = "callbackd-last-outcome";
/// Outcomes and the seconds between them, `503+0,timeout+61`; absent when none was made.
pub const HISTORY: &str = "callbackd-history";
/// Our first append of this chain, Unix milliseconds.
pub const SINCE_MS: &str = "callbackd-since-ms";
/// Why it is a dead letter, of the closed list.
pub const REASON: &str = "callbackd-reason";
/// More about the reason: the field at fault, or what was assumed; ≤ 128 bytes.
pub const DETAIL: &str = "callbackd-detail";
/// The source record, `topic/partition/offset`.
pub const ORIGIN: &str = "callbackd-origin";
/// How often the event was replayed, 0–1000.
pub const REPLAYS: &str = "callbackd-replays";

/// Every name.
pub const ALL: [&str; 13] =
    [ID, DOMAIN, ATTEMPTS, FIRST_ATTEMPT_MS, SOURCE_MS, DUE_MS, LAST_OUTCOME, HISTORY, SINCE_MS, REASON, DETAIL, ORIGIN, REPLAYS];
