//! `supctl start`

use super::act::act;
use super::args::{self, WaitArg};
use super::context::Context;
use super::failure::Failure;
use super::main_pid::Server;
use crate::codec::varlink::Method;
use crate::model::{ExitStatus, UnitName};

/// Begin to serve
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  supctl start web                             bind, launch, and wait until it stays
  supctl start web --wait=active               … only until it receives the traffic
  supctl start web --take-from nginx.service   go on with the sockets of a server that runs

It binds the unit's listeners and launches its last active release, else its newest. A unit that
runs already is left alone (exit status 0).

With --take-from not even the move to supd loses a connection. supd takes a copy of the server's
listening sockets, which the unit's file has to name by the same addresses, and launches the unit.
From then on both accept; supd never signals the server. Once the unit is up, end it yourself:
  systemctl disable --now nginx.service

This is for root and for the user that the server runs as. What the server has no socket for is
bound as usual. Where it has several for one address (nginx: reuseport), turn that off first.")]
pub(super) struct Start {
    /// The unit
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: UnitName,
    /// Go on with the listening sockets of this server: a service of systemd, or a process
    #[arg(long, value_name = "SERVICE|PID", value_parser = Server::parse)]
    take_from: Option<Server>,
    #[command(flatten)]
    wait: WaitArg,
}

impl Start {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        let take_from = self.take_from.as_ref().map(Server::main_pid).transpose()?;
        act(context, &Method::Start { unit: self.unit, take_from, wait: self.wait.wait })
    }
}
