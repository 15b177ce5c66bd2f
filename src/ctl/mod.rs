//! supctl: one verb, one file. Only here may anything block, and nothing does without a bound.
//!
//! [`main`] reads the command line, a verb asks supd (`client`) and shows what comes of it
//! (`render`); what does not end well is a [`Failure`], which says what happened, why, and what
//! to type next.

mod abort;
mod act;
mod args;
mod cat;
mod check;
mod cli;
mod client;
mod completions;
mod connect;
mod context;
mod daemon_reload;
mod demo;
mod deploy;
mod drain;
mod events;
mod failure;
mod history;
mod import;
mod install;
mod is_active;
mod kill;
mod left;
mod logs;
mod main_pid;
mod promote;
mod reexec;
mod releases;
mod reload;
mod render;
mod restart;
mod rollback;
mod share;
mod shutdown;
mod signals;
mod source;
mod start;
mod status;
mod stop;
mod swap;
mod top;
mod undeploy;
mod wait;

#[cfg(test)]
mod tests;

pub use cli::command;
pub use failure::Failure;
pub use import::of_texts as imported;

use cli::Cli;
use std::io::{self, Write};
use std::process::ExitCode;

/// The whole of supctl.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::from(run(Cli::of_process()))
}

/// Does what the command line says, and tells what did not end well. Returns the exit status.
fn run(Cli { global, verb }: Cli) -> u8 {
    let colour = global.colour_errors();
    let context = global.context();
    let failure = match verb.run(&context) {
        Ok(status) => return status,
        Err(failure) => failure.with_root(&context.socket, std::env::args_os().skip(1)),
    };
    let mut text = failure.lines(colour).join("\n");
    text.push('\n');
    let _nobody_reads_it = io::stderr().lock().write_all(text.as_bytes());
    if let Some(signal) = failure.signal {
        // Die of it as if it had not been caught: a shell then knows that a script is to end.
        let _it_does_not_return = signal_hook::low_level::emulate_default_handler(signal);
    }
    failure.status.code()
}
