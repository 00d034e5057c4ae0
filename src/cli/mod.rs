//! The command line: what people and scripts type, and what they get back.
//!
//! ```text
//!  arguments ─► Cli ─► one function per command ─► Exit, or a Failure that is told here, in one place
//! ```
//!
//! Results go to standard output, everything else to standard error; a reader that has gone (`… | head`) makes a command silent, and
//! changes neither what it does nor its exit code. Every failure says what, where and what to do. Colours and progress only on a terminal; `NO_COLOR` is respected.
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
mod output;
mod replay;
mod run;
mod topics;

pub use arguments::{Cli, Command};
pub use failure::{Exit, Failure};

use crate::demo;
use crate::kafka::record;
use clap::Parser as _;
use output::Output;
use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

/// Runs the command that the process was started with; the exit code as `Exit`, or 2 for wrong usage (clap says what).
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    print_no_expected_panic();
    let mut out = Output::new(io::stdout());
    let exit = failure::told(dispatch(&cli, &mut out));
    out.ended(exit).into()
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

fn dispatch(cli: &Cli, out: &mut dyn Write) -> Result<Exit, Failure> {
    match &cli.command {
        Command::Run(arguments) => run::run(&arguments.config),
        Command::Demo(arguments) => show(arguments),
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

/// The demo is nothing but what it shows: without a reader it ends, and what it was to prove is not proved.
fn show(arguments: &arguments::DemoArguments) -> Result<Exit, Failure> {
    let options = demo::Options { seconds: arguments.seconds, rate: arguments.rate, keep: arguments.keep };
    match demo::run(options, &mut io::stdout(), io::stdout().is_terminal()) {
        Ok(true) => Ok(Exit::Done),
        Ok(false) => Ok(Exit::Failed),
        Err(error) if error.downcast_ref().is_some_and(output::is_gone) => Ok(Exit::Failed),
        Err(error) => Err(error.into()),
    }
}
