//! The command line: what people and scripts type, and what they get back.
//!
//! ```text
//!  arguments ─► Cli ─► one function per command ─► Exit, or a Failure that is told here, in one place
//! ```
//!
//! Results go to standard output, everything else to standard error; a reader that has gone (`… | head`) ends a command quietly. Every
//! failure says what, where and what to do. Colours and progress only on a terminal; `NO_COLOR` is respected.
//!
//! Deliberately not here: decisions. A command reads its arguments, calls the room that knows, and prints.

mod arguments;
mod broker;
mod check;
mod failure;
mod healthcheck;
mod kit;
mod load;
mod logging;
mod replay;
mod run;
mod topics;

pub use arguments::{Cli, Command};
pub use failure::{Exit, Failure};

use crate::demo;
use crate::kafka::record;
use clap::Parser as _;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

/// Runs the command that the process was started with; the exit code as `Exit`, or 2 for wrong usage (clap says what).
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    print_no_expected_panic();
    failure::told(dispatch(&cli)).into()
}

/// Panics that are expected and caught where they happen, perhaps by the thousand, are not printed.
fn print_no_expected_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !record::expects_a_panic() {
            print(panic);
        }
    }));
}

fn dispatch(cli: &Cli) -> Result<Exit, Failure> {
    let out = &mut io::stdout();
    match &cli.command {
        Command::Run(arguments) => run::run(&arguments.config),
        Command::Demo(arguments) => {
            let options = demo::Options { seconds: arguments.seconds, rate: arguments.rate, keep: arguments.keep };
            let terminal = io::stdout().is_terminal();
            Ok(if demo::run(options, out, terminal)? { Exit::Done } else { Exit::Failed })
        }
        Command::Check(arguments) => check::check(arguments, out),
        Command::Topics(arguments) => topics::topics(&arguments.command, out),
        Command::Replay(arguments) => replay::replay(arguments, out),
        Command::SendTest(arguments) => kit::send_test(arguments, out),
        Command::Sign(arguments) => kit::sign(arguments, out),
        Command::Verify(arguments) => kit::verify(arguments, out),
        Command::Receive(arguments) => kit::receive(arguments),
        Command::Healthcheck(arguments) => healthcheck::healthcheck(&arguments.config, out),
    }
}
