//! Puma (Debian: 5.6) with `bind_to_activated_sockets "only"`, as in units/ruby. It takes
//! the listener by LISTEN_FDS, and says READY=1 by itself where the gem sd_notify is there.
//!
//! At SIGTERM it accepts no more and answers what it has accepted, with two exceptions, both seen under a
//! load without a pause, and both of its own making. A new connection from which nothing has been read yet
//! is closed: the reactor takes it for an idle one. And the reactor may close a kept-alive connection just
//! as a thread of the pool takes the next request from it; the thread says so in Puma's log ("stream closed
//! in another thread"), and the client gets 500. For the first, which Puma does not log, the test's
//! configuration has a line more: Puma then names the ports.

use super::{DIST, Server};
use crate::{Need, Test, examples, test_with};
use std::fs;
use std::path::Path;

const NEEDS: &[Need] = &[
    Need::Program("puma", "puma"),
    Need::File("/usr/share/rubygems-integration/all/gems/sd_notify-0.1.1", "apt-get install ruby-sd-notify"),
    Need::Program("wrk", "wrk"),
];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("servers::puma", NEEDS, puma)]
}

/// Lets Puma say which connections it ends before it has read a request from them.
const SAYS_UNREAD: &str = r#"
require "puma/client"
Puma::Client.prepend(Module.new do
  def timeout!
    warn "closed unread: #{@io.peeraddr(:numeric)[1]}" if @requests_served == 0
    super
  end
end)
"#;

fn install(app: &Path, _: &str) {
    let dist = app.join(DIST);
    if !dist.exists() {
        examples::copy("ruby/app", &dist);
        let configuration = dist.join("puma.rb");
        let text = fs::read_to_string(&configuration).expect("puma.rb");
        fs::write(&configuration, text + SAYS_UNREAD).expect("puma.rb");
    }
}

/// Everything that Puma wrote: supd keeps it beside the folder of the application.
fn logs(app: &Path) -> String {
    let folder = app.with_file_name("state").join("logs/web");
    let logs = fs::read_dir(folder).expect("the logs").flatten();
    logs.map(|log| fs::read_to_string(log.path()).unwrap_or_default()).collect()
}

fn closed_unread(app: &Path) -> Vec<u16> {
    let ports = logs(app);
    ports.lines().filter_map(|line| line.strip_prefix("closed unread: ")?.parse().ok()).collect()
}

fn own_failures(app: &Path) -> u64 {
    logs(app).matches("IOError: stream closed in another thread").count() as u64
}

fn puma() {
    let unit = |address: &str, app: &Path| examples::unit("ruby/web.unit", address, app);
    Server { closed_unread, own_failures, ..Server::released("puma", unit, install) }.swaps_and_rolls_back();
}
