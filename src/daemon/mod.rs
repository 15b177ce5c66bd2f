//! The shell of supd: boot, the loop, effects performed, outcomes returned as events.

pub mod aftermath;
pub mod boot;
pub mod cat;
pub mod cgroups;
mod checks;
pub mod chores;
pub mod cli;
pub mod clients;
pub mod connect;
pub mod control;
pub mod counter;
pub mod crashes;
mod death;
pub mod fdstore;
pub mod flusher;
pub mod gather;
pub mod hands;
mod held;
mod hint;
mod history;
pub mod installs;
pub mod intercept;
pub mod jobs;
pub mod keeping;
pub mod last_resort;
pub mod launch;
pub mod leave;
pub mod leftovers;
pub mod listeners;
pub mod lock;
mod log_request;
pub mod logging;
pub mod logs;
pub mod metrics;
mod mirror;
pub mod notifier;
pub mod one_unit;
pub mod outcomes;
mod overruled;
mod parcels;
pub mod perform;
pub mod pinner;
pub mod pinning;
pub mod probe;
pub mod reactor;
mod record;
pub mod recorder;
mod reexec;
pub mod reload;
pub mod remains;
pub mod requests;
mod room;
mod run_dirs;
pub mod sources;
mod steer;
pub mod survivors;
pub mod sweeper;
pub mod taking;
#[cfg(test)]
mod testbed;
pub mod thrift;
pub mod trials;
mod unfinished;
pub mod units;
pub mod upward;
mod verdict;
pub mod view;
pub mod watches;
pub mod workers;

use crate::model::{ExitStatus, SHUT_DOWN};
use crate::os::places::Given;
use cli::{Asked, Cli};
use leave::End;
use std::io::Write;
use std::process::ExitCode;

/// The program supd.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os().skip(1)) {
        Ok(Asked::Run(cli)) => cli,
        Ok(Asked::CheckHandover) => match reexec::check() {
            Ok(text) => return show(&text),
            Err(why) => {
                eprintln!("supd: cannot go on with what it was shown: {why}");
                return ExitCode::FAILURE;
            }
        },
        Ok(Asked::CheckLeft(given)) => return show_left(&given),
        Ok(Asked::Show(text)) => return show(&text),
        Err(why) => {
            eprintln!("supd: {why}");
            return ExitCode::from(2);
        }
    };
    // Before anything is open.
    let handover = reexec::inherit();
    logging::start(cli.log_level);
    let handover = handover.unwrap_or_else(|why| {
        log::error!("{why}: it goes on as if the supd before had died");
        None
    });
    // What it made is removed when all is over.
    let prepared = match one_unit::prepare(cli) {
        Ok(prepared) => prepared,
        Err(Ok(faulty)) => {
            one_unit::tell(&faulty);
            return ExitCode::from(ExitStatus::BadUnitFile as u8);
        }
        Err(Err(why)) => {
            log::error!("cannot start: {why}");
            return ExitCode::FAILURE;
        }
    };
    match boot::boot(&prepared.cli, handover.as_ref()).map(reactor::Reactor::run) {
        Ok(Ok(End::Asked)) => ExitCode::SUCCESS,
        Ok(Ok(End::ShutDown)) => ExitCode::from(SHUT_DOWN),
        Ok(Ok(End::Unit(status))) => ExitCode::from(status),
        Ok(Err(error)) => {
            log::error!("cannot go on: {error}");
            ExitCode::FAILURE
        }
        Err(why) => {
            log::error!("cannot start: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whoever asks takes a failure for "there is something": it fails where that cannot be known, too.
fn show_left(given: &Given) -> ExitCode {
    match remains::check(given) {
        Ok(left) if left.is_empty() => ExitCode::SUCCESS,
        Ok(left) => {
            show(&(left.join("\n") + "\n"));
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("supd: cannot tell what is left: {why}");
            ExitCode::FAILURE
        }
    }
}

fn show(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
