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
//!
//! Whether librdkafka knows a property is not judged here, for that needs its client: whoever has one gets the place of the property from
//! [`Loaded::property_problem`].

mod effective;
mod properties;
mod read;
mod settings;

pub use crate::source::{Environment, Problem};
pub use effective::{effective, per_process_notes};
pub use settings::{
    AdminSettings, AdminToken, CircuitSettings, DeliverySettings, EgressSettings, KafkaSettings, LogFormat, LogLevel, LogSettings,
    MetricsSettings, Property, PropertyValue, RegistrySettings, Role, Settings,
};

use crate::source::{Document, key_part};
use std::collections::BTreeMap;
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
    /// File (or variable) and line of what others judge, by its key: each Kafka property and their table, `egress.ca_file`.
    places: BTreeMap<String, (String, Option<usize>)>,
}

impl Loaded {
    /// A problem of the Kafka property `name`, or of all of them when it is empty, at the place where it was written.
    #[must_use]
    pub fn property_problem(&self, name: &str, message: String) -> Problem {
        let problem = self.problem(property_key(name), &property_key(""), message);
        match reference_by_level(&problem.file) {
            Some(variable) => {
                Problem { message: format!("{}; a reference is a value, {variable}='{{ file = \"…\" }}'", problem.message), ..problem }
            }
            None => problem,
        }
    }

    /// A problem of `egress.ca_file`, at the place where it was written.
    #[must_use]
    pub fn ca_file_problem(&self, message: String) -> Problem {
        self.problem(CA_FILE.to_owned(), CA_FILE, message)
    }

    fn problem(&self, key: String, or_at: &str, message: String) -> Problem {
        let (file, line) = self.places.get(&key).or_else(|| self.places.get(or_at)).cloned().unwrap_or_default();
        Problem { file, line, key, message }
    }
}

/// What a variable such as `CALLBACKD_KAFKA__PROPERTIES__SASL_PASSWORD__FILE` was meant to be about.
fn reference_by_level(variable: &str) -> Option<&str> {
    ["__FILE", "__ENV", "__VALUE"].iter().find_map(|level| variable.strip_suffix(level)).filter(|rest| rest.starts_with(VARIABLE_PREFIX))
}

const CA_FILE: &str = "egress.ca_file";

/// The path of the Kafka property `name`, or of the table when it is empty.
fn property_key(name: &str) -> String {
    let table = "kafka.properties";
    if name.is_empty() { table.to_owned() } else { format!("{table}.{}", key_part(name)) }
}

/// A configuration that was read to its end, right or wrong.
#[derive(Clone, Debug)]
pub struct Examined {
    /// What it says, with the default in the place of what is wrong: good for finding more problems, not for running.
    pub loaded: Loaded,
    /// Everything that is wrong with it, by file and line.
    pub problems: Vec<Problem>,
    /// Whether `loaded` names the registry that was meant: problems elsewhere leave it known.
    pub registry_is_known: bool,
}

impl Examined {
    /// Adds a problem that was found elsewhere; not one of a key that has a problem already.
    pub fn add(&mut self, problem: Problem) {
        if self.problems.iter().all(|known| known.key != problem.key) {
            self.problems.push(problem);
            self.problems.sort();
        }
    }

    /// Whether a property of Kafka is left out because its file cannot be read: what the client says of the others may follow from that.
    #[must_use]
    pub fn lacks_a_file_of_kafka(&self) -> bool {
        properties::FILES.iter().any(|name| self.problems.iter().any(|problem| problem.key == property_key(name)))
    }

    /// The configuration, if nothing is wrong with it.
    ///
    /// # Errors
    /// Every problem at once, by file and line.
    pub fn finish(self) -> Result<Loaded, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.loaded) } else { Err(self.problems) }
    }
}

/// Reads the configuration file at `path`, lays the variables of `environment` over it and checks the whole.
///
/// # Errors
/// Every problem at once, by file and line; a file that cannot be read or is not TOML stands alone.
pub fn load(path: &Path, environment: &Environment) -> Result<Loaded, Vec<Problem>> {
    examine(path, environment).map_err(|problem| vec![problem])?.finish()
}

/// As [`load`], but tells also what the configuration says apart from its problems.
///
/// # Errors
/// The file cannot be read or is not TOML.
pub fn examine(path: &Path, environment: &Environment) -> Result<Examined, Problem> {
    Ok(read::read(Document::read(path).0?, environment))
}

/// As [`load`], from `text` as the content of the file at `path`.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, environment: &Environment) -> Result<Loaded, Vec<Problem>> {
    read::read(Document::parse(path, text).map_err(|problem| vec![problem])?, environment).finish()
}

#[cfg(test)]
mod tests;
