//! A server on a UNIX socket: apps/unix_http.py, which says READY=1 by itself before its accept loop
//! and ends as a server should. The path is supd's: no swap may take it away or change its inode's
//! owner, so that a client which looks for it at any moment finds it.

use super::{Server, version_file};
use crate::{Test, test};
use std::path::Path;

pub(super) fn tests() -> Vec<Test> {
    vec![test("servers::unix", unix)]
}

fn unit(address: &str, app: &Path) -> String {
    let server = app.join("unix_http.py");
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", {server:?}]\n\
         Environment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
         ReadySettleSec = \"500ms\"\nTimeoutStopSec = \"30s\"\n\n[Swap]\nProbationSec = \"2s\"\n"
    )
}

fn unix() {
    let server = Server { unix: true, ..Server::new("unix", unit, version_file) };
    server.swaps_and_rolls_back();
}
