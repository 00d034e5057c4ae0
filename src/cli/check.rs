//! `callbackd check`: everything that is wrong, or a summary of what there is.

use super::arguments::CheckArguments;
use super::failure::complain;
use super::{Exit, Failure, load};
use crate::config::{Settings, effective, per_process_notes};
use crate::domain::registry::{EntityKind, Registry};
use std::fmt::Display;
use std::io::Write;

pub(super) fn check(arguments: &CheckArguments, out: &mut dyn Write) -> Result<Exit, Failure> {
    let path = &arguments.config.config;
    let loaded = load::configuration_and_more(path)?;
    let settings = &loaded.settings;
    // The effective configuration is worth seeing also when the registry is wrong.
    if arguments.print {
        writeln!(out, "{}", effective(settings))?;
    }
    loaded.warnings.iter().for_each(|warning| complain(format_args!("warning: {warning}")));
    let registry = load::registry(settings)?;
    registry.warnings.iter().for_each(|warning| complain(format_args!("warning: {warning}")));
    let warnings = loaded.warnings.len() + registry.warnings.len();
    // Comments, so that what `--print` prints can be read back as it is.
    for note in per_process_notes(settings) {
        writeln!(out, "# {note}")?;
    }
    writeln!(out, "# {}: no problems, {}; {}", path.display(), counted(warnings, "warning"), found(settings, &registry.registry))?;
    Ok(Exit::Done)
}

/// What there is, in a few words.
fn found(settings: &Settings, registry: &Registry) -> String {
    let mut parts: Vec<String> = registry
        .entries()
        .into_iter()
        .filter(|(kind, number)| *number > 0 || matches!(kind, EntityKind::Domain | EntityKind::CallbackTemplate | EntityKind::Binding))
        .map(|(kind, number)| counted(number, &kind.as_str().replace('_', " ")))
        .collect();
    parts.push(counted(settings.kafka.source_topics.len(), "source topic"));
    parts.push(counted(settings.delivery.tiers.iter().count(), "delay tier"));
    parts.join(", ")
}

/// `1 domain`, `2 domains`.
pub(super) fn counted<N: Copy + Display + From<u8> + PartialEq>(number: N, what: &str) -> String {
    if number == N::from(1) { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::super::arguments::ConfigArguments;
    use super::*;

    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new(config: &str, registry: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("callbackd.toml"), config).unwrap();
            std::fs::write(dir.path().join("registry.toml"), registry).unwrap();
            Self(dir)
        }

        fn check(&self, print: bool) -> (Result<Exit, Failure>, String) {
            let mut out = Vec::new();
            let arguments = CheckArguments { config: ConfigArguments { config: self.0.path().join("callbackd.toml") }, print };
            let result = check(&arguments, &mut out);
            (result, String::from_utf8(out).unwrap())
        }
    }

    const REGISTRY: &str = r#"
        [[callback_templates]]
        name = "shop"
        urls = { recording_file = "https://shop.example/cb" }
        keys = [{ id = "k", value = "canary-0123456789-canary" }]
        [[domains]]
        name = "push.shop.example"
        [[bindings]]
        domain = "push.shop.example"
        callback_template = "shop"
    "#;

    #[test]
    fn what_is_right_is_summed_up_in_one_line() {
        let scene = Scene::new("[kafka]\nbrokers = [\"127.0.0.1:9092\"]\n", REGISTRY);
        let (result, out) = scene.check(false);
        assert_eq!(result.unwrap(), Exit::Done);
        let last = out.lines().last().unwrap();
        assert!(
            last.contains("no problems") && last.contains("1 callback template, 1 domain, 1 binding, 1 source topic, 5 delay tiers"),
            "{out}"
        );
    }

    #[test]
    fn what_is_printed_is_toml_that_reads_back_and_holds_no_secret() {
        let config = "[kafka]\nbrokers = [\"127.0.0.1:9092\"]\n[kafka.properties]\n\"sasl.password\" = \"canary-password\"\n";
        let scene = Scene::new(config, REGISTRY);
        let (result, out) = scene.check(true);
        assert_eq!(result.unwrap(), Exit::Done);
        assert!(out.parse::<toml::Table>().is_ok_and(|table| table.contains_key("delivery")), "{out}");
        assert!(!out.contains("canary"), "{out}");
    }

    #[test]
    fn problems_of_the_registry_are_exit_code_78_with_file_and_line() {
        let scene = Scene::new(
            "[kafka]\nbrokers = [\"127.0.0.1:9092\"]\n",
            &REGISTRY.replace("callback_template = \"shop\"", "callback_template = \"gone\"\nfron = 1"),
        );
        let failure = scene.check(false).0.unwrap_err();
        assert_eq!(failure.exit(), Exit::Invalid);
        let lines = failure.lines();
        assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("registry.toml:")), "{lines:?}");
    }

    #[test]
    fn a_wrong_configuration_does_not_hide_the_registrys_problems() {
        let scene = Scene::new("[kafka]\nbrokers = [\"127.0.0.1:9092\"]\ngroup = 5\n", &format!("{REGISTRY}fron = 1"));
        let (result, out) = scene.check(true);
        let lines = result.unwrap_err().lines();
        assert!(lines.len() == 2 && lines[0].contains("callbackd.toml:3: kafka.group"), "{lines:?}");
        assert!(lines[1].contains("registry.toml:") && lines[1].contains("fron"), "{lines:?}");
        assert_eq!(out, "", "a wrong configuration has no effect to be printed");
    }

    #[test]
    fn a_property_that_librdkafka_does_not_know_is_a_problem_with_its_line() {
        let config = "[kafka.properties]\n\"client.id\" = \"c\"\n\"sasl.passwort\" = \"canary\"\n\"security.protocol\" = \"canary\"\n";
        let scene = Scene::new(config, REGISTRY);
        let failure = scene.check(true).0.unwrap_err();
        assert_eq!(failure.exit(), Exit::Invalid);
        let lines = failure.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(
            lines[0].ends_with(
                "callbackd.toml:3: kafka.properties.\"sasl.passwort\": no such property: librdkafka's CONFIGURATION.md lists them"
            ),
            "{lines:?}"
        );
        assert!(lines[1].contains("callbackd.toml:4: kafka.properties.\"security.protocol\": "), "{lines:?}");
        assert!(!lines.concat().contains("canary"), "{lines:?}");
    }
}
