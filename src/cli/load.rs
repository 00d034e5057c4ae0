//! Reading what the commands are about: configuration, and the registry that it names.

use super::Failure;
use crate::app;
use crate::config::{self, Examined, Loaded, Settings};
use crate::egress;
use crate::kafka::client::{self, ClientError};
use crate::registry::{self, LoadedRegistry};
use crate::source::{Environment, Problem};
use std::path::Path;

/// The configuration at `path` with the process's environment over it.
pub(super) fn configuration(path: &Path) -> Result<Loaded, Vec<Problem>> {
    examine(path)?.finish()
}

/// As [`configuration`], for a command that reads the registry next: one that is refused brings the registry's problems along, so that
/// people see all of them in one run.
pub(super) fn configuration_and_more(path: &Path) -> Result<Loaded, Vec<Problem>> {
    let examined = examine(path)?;
    let more = if !examined.problems.is_empty() && examined.registry_is_known {
        registry(&examined.loaded.settings).err().unwrap_or_default()
    } else {
        Vec::new()
    };
    examined.finish().map_err(|problems| problems.into_iter().chain(more).collect())
}

/// The registry that `settings` name.
pub(super) fn registry(settings: &Settings) -> Result<LoadedRegistry, Vec<Problem>> {
    registry::load_file(&settings.registry.file, &app::load_options(settings))
}

/// Configuration and registry, for a command that only needs them to be right.
pub(super) fn both(path: &Path) -> Result<(Loaded, LoadedRegistry), Failure> {
    let loaded = configuration_and_more(path)?;
    let registry = registry(&loaded.settings)?;
    Ok((loaded, registry))
}

/// The configuration, judged by librdkafka and the TLS library too.
fn examine(path: &Path) -> Result<Examined, Vec<Problem>> {
    let mut examined = config::examine(path, &Environment::of_process()).map_err(|problem| vec![problem])?;
    for error in client::problems(&app::client_settings(&examined.loaded.settings)) {
        let (name, message) = match &error {
            ClientError::Create(_) if examined.lacks_a_file_of_kafka() => continue,
            ClientError::Property { name, cause } => (name.as_str(), (*cause).to_owned()),
            ClientError::Create(cause) => ("", format!("librdkafka refuses them: {cause}")),
        };
        examined.add(examined.loaded.property_problem(name, message));
    }
    if let Some(path) = &examined.loaded.settings.egress.ca_file
        && let Ok(pem) = std::fs::read(path)
        && let Err(cause) = egress::check_roots(&pem)
    {
        let message = format!("{}: {cause}: list certificates in PEM form, each whole", path.display());
        examined.add(examined.loaded.ca_file_problem(message));
    }
    Ok(examined)
}
