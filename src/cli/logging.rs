//! Logs on standard error, as `[log]` says: JSON in production, for people on a terminal.

use crate::config::{LogFormat, LogLevel, LogSettings};
use std::io::{self, IsTerminal as _};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

/// librdkafka's own lines: brokers that come and go fill the log below this.
const CLIENT: &str = "librdkafka";

const fn level(of: LogLevel) -> Level {
    match of {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    }
}

fn filter(of: LogLevel) -> Targets {
    let client = match of {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn | LogLevel::Info | LogLevel::Debug => Level::WARN,
        LogLevel::Trace => Level::TRACE,
    };
    // Other crates' lines below warn are theirs, not ours.
    Targets::new().with_default(level(of).min(Level::WARN)).with_target("callbackd", level(of)).with_target(CLIENT, client)
}

/// Whether lines are JSON.
fn is_json(format: LogFormat, terminal: bool) -> bool {
    match format {
        LogFormat::Auto => !terminal,
        LogFormat::Json => true,
        LogFormat::Pretty => false,
    }
}

/// Sends the process's logs to standard error from now on; a second call changes nothing.
pub(super) fn start(settings: LogSettings) {
    let terminal = io::stderr().is_terminal();
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let filter = filter(settings.level);
    let _ = if is_json(settings.format, terminal) {
        let lines = fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false).with_writer(io::stderr);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(lines))
    } else {
        let lines = fmt::layer().with_ansi(terminal && !no_color).with_target(false).with_writer(io::stderr);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(lines))
    };
}

/// For commands that end by themselves: warnings, for people.
pub(super) fn start_for_tools() {
    start(LogSettings { level: LogLevel::Warn, format: LogFormat::Pretty });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_json_unless_a_person_looks() {
        for (format, terminal, expected) in [
            (LogFormat::Auto, true, false),
            (LogFormat::Auto, false, true),
            (LogFormat::Json, true, true),
            (LogFormat::Pretty, false, false),
        ] {
            assert_eq!(is_json(format, terminal), expected, "{format:?} {terminal}");
        }
    }

    #[test]
    fn the_client_library_is_heard_from_warnings_on_whatever_our_own_level() {
        for (of, ours, theirs) in [
            (LogLevel::Error, Level::ERROR, Level::ERROR),
            (LogLevel::Info, Level::INFO, Level::WARN),
            (LogLevel::Debug, Level::DEBUG, Level::WARN),
            (LogLevel::Trace, Level::TRACE, Level::TRACE),
        ] {
            let filter = filter(of);
            assert!(filter.would_enable("callbackd::delivery::engine", &ours));
            assert!(filter.would_enable(CLIENT, &theirs));
            assert_eq!(filter.would_enable(CLIENT, &Level::INFO), of == LogLevel::Trace);
            assert!(!filter.would_enable("another_crate", &Level::DEBUG) || of == LogLevel::Trace);
        }
    }
}
