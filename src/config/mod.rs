//! Configuration: TOML and environment, checked into plain settings.
//!
//! ```text
//!  callbackd.toml ─► source::Document ◄─ CALLBACKD_ variables
//!                          │
//!                     read (types, ranges, owned Kafka properties) ─► Settings ─► effective (for people, redacted)
//! ```
//!
//! What was written is judged at once and as a whole: [`load`] yields every problem with file, line and key. Settings hold typed
//! values only; nobody reads configuration text after this. The registry has a file and a room of its own.

mod effective;
mod properties;
mod read;
mod settings;

pub use crate::source::{Environment, Problem};
pub use effective::{effective, per_process_notes};
pub use settings::{
    AdminSettings, AdminToken, CircuitSettings, DeliverySettings, EgressSettings, KafkaSettings, LogFormat, LogLevel, LogSettings,
    MetricsSettings, Property, PropertyValue, RegistrySettings, RegistrySource, Role, Settings, StartFrom,
};

use crate::source::Document;
use std::path::Path;

/// Variables with this prefix and `__` between levels override the file: `CALLBACKD_DELIVERY__MAX_IN_FLIGHT=64`.
pub const VARIABLE_PREFIX: &str = "CALLBACKD_";

/// Settings, and what is legal but doubtful about them.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings in force.
    pub settings: Settings,
    /// For people, with file, line and key.
    pub warnings: Vec<String>,
}

/// Reads the configuration file at `path`, lays the variables of `environment` over it and checks the whole.
///
/// # Errors
/// Every problem at once, by file and line; a file that cannot be read or is not TOML stands alone.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Vec<Problem>> {
    let document = Document::read(path).0.map_err(|problem| vec![problem])?;
    read::read(document, environment)
}

/// As [`load`], from `text` as the content of the file at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Loaded, Vec<Problem>> {
    let document = Document::parse(path, text).map_err(|problem| vec![problem])?;
    read::read(document, environment)
}

#[cfg(test)]
mod tests;
