//! `supctl connect`

mod carry;
mod door;

use super::act::{error_of, print_json};
use super::args;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::render::text::clean;
use crate::codec::json::{ConnectView, FORMAT};
use crate::codec::varlink::{Answer, Meta, Method};
use crate::model::{ExitStatus, Generation, ListenerName, UnitName};
use crate::os::dial;
use crate::os::pidfd::PidFd;
use carry::{Carrier, Stream};
use door::Door;
use nix::poll::PollFlags;
use serde::Serialize;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Duration;

/// Until somebody comes, the command ends, or supctl is told to; it is looked once in a while.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How long connecting to a UNIX socket may take: its queue is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reach one generation, and no other
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl connect web --generation 9                         a port for it alone, until Ctrl-C
  supctl connect web --generation 9 --listener admin        of several listeners, this one
  supctl connect web --generation 9 --exec bin/smoke        for as long as the command takes
  supctl connect web --generation 9 --exec sh -c 'curl -f http://$SUPD_CONNECT/health'

For a look at a candidate (swap --hold) before anybody else gets there, or at a standby. What comes
to the port, or for a UNIX socket to a path in a folder of your own, supctl carries there; everybody
else goes where they went. The port is one of 127.0.0.1, so anyone on this machine can use it. A
command finds the address in SUPD_CONNECT, and supctl ends as it does.")]
pub(super) struct Connect {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// Which generation
    #[arg(long, value_name = "GEN", value_parser = args::generation)]
    generation: Generation,
    /// Which listener, if it has several that take connections
    #[arg(long, value_name = "NAME", value_parser = args::listener)]
    listener: Option<ListenerName>,
    /// Run this, and end as it does (the rest of the line)
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Opened<'a> {
    format: u32,
    unit: &'a str,
    generation: u64,
    listener: &'a str,
    address: &'a str,
}

/// What supd says.
enum Asked {
    Way(ConnectView, Option<OwnedFd>),
    /// An error.
    No(Answer),
}

impl Connect {
    pub(super) fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        let view = match self.ask(&client, true)? {
            Asked::Way(view, _) => view,
            Asked::No(answer) if context.json => return print_json(context, &answer).map(ExitStatus::code),
            Asked::No(answer) => return Err(self.failure(&answer)),
        };
        if context.meta.dry_run {
            context.print([format!("would lead to {}", self.goal(&view))])?;
            return Ok(ExitStatus::Done.code());
        }
        let door = Door::open(&view)?;
        if let Some((program, arguments)) = self.exec.split_first() {
            let mut command = Command::new(program);
            command.args(arguments).env("SUPD_CONNECT", door.address());
            let child = command.spawn().map_err(|error| {
                let text = format!("cannot run {}: {error}", clean(program));
                Failure::new(ExitStatus::Usage, text).next("look for it with: command -v")
            })?;
            return self.serve_command(&client, &door, child);
        }
        self.announce(context, &view, &door)?;
        match self.serve(&client, &door, None) {
            // That is how one ends it.
            Err(failure) if failure.signal.is_some() => Ok(ExitStatus::Done.code()),
            other => other.map(|()| ExitStatus::Done.code()),
        }
    }

    fn announce(&self, context: &Context, view: &ConnectView, door: &Door) -> Result<(), Failure> {
        let address = door.address();
        if context.json {
            let opened = Opened {
                format: FORMAT,
                unit: self.unit.as_str(),
                generation: view.generation,
                listener: &view.listener,
                address,
            };
            context.print([serde_json::to_string(&opened).unwrap_or_default()])?;
            return Ok(());
        }
        let told = format!("{address} leads to {} until Ctrl-C", self.goal(view));
        context.print([told, format!("  Next: {}", door.example())])?;
        Ok(())
    }

    fn goal(&self, view: &ConnectView) -> String {
        let ConnectView { listener, address, generation, .. } = view;
        format!("generation {generation} of {} alone ({}, {})", self.unit, clean(listener), clean(address))
    }

    /// Carries until the command has ended, and ends as it did.
    fn serve_command(&self, client: &Client, door: &Door, mut child: Child) -> Result<u8, Failure> {
        let failed =
            |why: String| Failure::new(ExitStatus::Failed, format!("cannot wait for the command: {why}"));
        let pid = i32::try_from(child.id()).map_err(|error| failed(error.to_string()))?;
        let process = PidFd::open(pid).map_err(|error| failed(error.to_string()))?;
        if let Err(failure) = self.serve(client, door, Some(&process)) {
            // It is not to go on without its way; one that has ended does not mind.
            let signal = failure.signal.unwrap_or(libc::SIGTERM);
            let _ = process.send(crate::model::Signal(signal));
            return Err(failure);
        }
        let status = child.wait().map_err(|error| failed(error.to_string()))?;
        let code = status.code().or_else(|| Some(128 + status.signal()?));
        // Neither is the case only for one that is not over.
        Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(ExitStatus::Failed.code()))
    }

    /// Carries what arrives, until the process has ended.
    fn serve(&self, client: &Client, door: &Door, process: Option<&PidFd>) -> Result<(), Failure> {
        let carrier = Carrier::default();
        loop {
            let mut waited = vec![(door.as_fd(), PollFlags::POLLIN)];
            waited.extend(process.map(|process| (process.as_fd(), PollFlags::POLLIN)));
            client.wait_for(&waited, LOOK_EVERY)?;
            if process.is_some_and(PidFd::is_over) {
                return Ok(());
            }
            let Some(near) = door.accept()? else { continue };
            if !carrier.has_room() {
                eprintln!("supctl: one more than {} connections at a time: it is closed", carry::MOST);
                continue;
            }
            match self.reach(client) {
                Ok(far) => carrier.carry(near, far),
                // What else fails may be well with the next one.
                Err(failure) if failure.status != ExitStatus::Failed || failure.signal.is_some() => {
                    return Err(failure);
                }
                Err(failure) => eprintln!("supctl: {}", clean(&failure.text)),
            }
        }
    }

    /// One connection to it.
    fn reach(&self, client: &Client) -> Result<Stream, Failure> {
        match self.ask(client, false)? {
            Asked::No(answer) => Err(self.failure(&answer)),
            Asked::Way(view, Some(fd)) if view.connected => Ok(Stream::Tcp(TcpStream::from(fd))),
            Asked::Way(_, Some(file)) => dial::connect_held(file.as_fd(), PATIENCE)
                .map(Stream::Unix)
                .map_err(|error| Failure::new(ExitStatus::Failed, format!("{}: {error}", self.unit))),
            Asked::Way(_, None) => {
                let text = format!("{}: supd's answer came without the connection", self.unit);
                Err(Failure::new(ExitStatus::Failed, text))
            }
        }
    }

    fn ask(&self, client: &Client, dry_run: bool) -> Result<Asked, Failure> {
        let Self { unit, generation, listener, .. } = self;
        let (unit, listener) = (unit.clone(), listener.clone());
        let method = Method::Connect { unit, generation: *generation, listener, dry_run };
        let (answer, descriptor) = client.pass(&method, &Meta::default(), None, None)?;
        if answer.error.is_some() {
            return Ok(Asked::No(answer));
        }
        Ok(Asked::Way(serde_json::from_str(answer.raw()).unwrap_or_default(), descriptor))
    }

    fn failure(&self, answer: &Answer) -> Failure {
        match error_of(answer) {
            Some(error) => Failure::from_error(&error, Some(self.unit.as_str())),
            None => {
                Failure::new(ExitStatus::Failed, format!("{}: supd answered without an error", self.unit))
            }
        }
    }
}
