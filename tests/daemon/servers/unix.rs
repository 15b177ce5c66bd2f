//! A server on a UNIX socket: units/unix, which says READY=1 by itself before its accept loop
//! and ends as a server should. The path is supd's: no swap may take it away or change its inode's
//! owner, so that a client which looks for it at any moment finds it.

use super::Server;
use crate::{Test, examples, test};

pub(super) fn tests() -> Vec<Test> {
    vec![test("servers::unix", unix)]
}

fn unix() {
    let unit = |address: &str, app: &std::path::Path| examples::unit("unix/web.unit", address, app);
    let server = Server::new("unix", unit, |app, version| examples::version("unix/server.py", app, version));
    Server { unix: true, ..server }.swaps_and_rolls_back();
}
