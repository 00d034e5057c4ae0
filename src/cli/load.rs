//! Reading what the commands are about: configuration, and the registry that it names.

use super::Failure;
use crate::app;
use crate::config::{self, Loaded, RegistrySource, Settings};
use crate::registry::{self, LoadedRegistry};
use crate::source::{Environment, Problem};
use std::path::Path;

/// The configuration at `path` with the process's environment over it.
pub(super) fn configuration(path: &Path) -> Result<Loaded, Vec<Problem>> {
    config::load(path, &Environment::of_process())
}

/// The registry that `settings`, read from `path`, name.
pub(super) fn registry(path: &Path, settings: &Settings) -> Result<LoadedRegistry, Vec<Problem>> {
    match &settings.registry.source {
        RegistrySource::File(file) => registry::load_file(file, &app::load_options(settings)),
        RegistrySource::Topic => {
            let message = "this version reads the registry from a file: give registry.file".to_owned();
            Err(vec![Problem { file: path.display().to_string(), line: None, key: "registry.topic".into(), message }])
        }
    }
}

/// Both, for a command that needs nothing of them but that they are right.
pub(super) fn both(path: &Path) -> Result<(Loaded, LoadedRegistry), Failure> {
    let loaded = configuration(path)?;
    let registry = registry(path, &loaded.settings)?;
    Ok((loaded, registry))
}
