//! gunicorn (Debian: 20.1). It reads LISTEN_FDS by itself and says READY=1 by itself, before its
//! workers have imported the application: one that cannot be imported is ready after 0.1 s and exits
//! with 3 a moment later. So readiness must settle.
//!
//! At SIGTERM the arbiter ends its workers gracefully. Of the `gthread` kind, one finishes what is in
//! its thread pool, where each accepted connection goes at once, and drops idle kept-alive ones,
//! also those whose next request has arrived by then: they show as idle closes, a tenth of all
//! connections at a stop. The `sync` kind keeps nothing alive. Nothing accepted is lost by either.
//! It leaves a UNIX path alone when it was started through LISTEN_FDS.

use super::{Server, copy_apps, version_file};
use crate::harness::{Supd, free_port, whole_machine};
use crate::load::{Load, Mode, Plan, Target};
use crate::{Need, Test, examples, test_with};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

const NEEDS: &[Need] = &[Need::Program("gunicorn", "gunicorn"), Need::Program("wrk", "wrk")];

pub(super) fn tests() -> Vec<Test> {
    vec![
        test_with("servers::gunicorn::threads", NEEDS, threads),
        test_with("servers::gunicorn::sync", NEEDS, sync),
        test_with("servers::gunicorn::application_that_cannot_be_imported", NEEDS, cannot_be_imported),
    ]
}

fn unit(address: &str, app: &Path, workers: u32, kind: &str) -> String {
    format!(
        "[[Socket]]\nName = \"http\"\nListenStream = \"{address}\"\nBacklog = 4096\n\n[Service]\n\
         ExecStart = [\"/usr/bin/gunicorn\", \"--chdir\", {app:?}, \"--workers={workers}\", {kind}, \"wsgi:application\"]\n\
         Environment = {{ PYTHONDONTWRITEBYTECODE = \"1\" }}\n\
         ReadySettleSec = \"1s\"\nTimeoutStopSec = \"30s\"\n\n[Swap]\nProbationSec = \"2s\"\n"
    )
}

/// The worked example, one that imports before READY=1.
fn threads() {
    let install = |app: &Path, _: &str| examples::copy("python/app", &app.join(super::DIST));
    let unit = |address: &str, app: &Path| examples::unit("python/web.unit", address, app);
    Server::released("gunicorn gthread", unit, install).swaps_and_rolls_back();
}

fn sync() {
    let unit = |address: &str, app: &Path| unit(address, app, 2, "\"--worker-class=sync\"");
    // One request at a time for each of two workers: a slow one holds up eight clients.
    let server = Server { slow_every: Some(2_000), ..Server::new("gunicorn sync", unit, version_file) };
    server.swaps_and_rolls_back();
}

/// It says READY=1 and dies: the old generation serves on, and nothing is lost.
///
/// It has one worker. With two, the arbiter has a race of its own: it raises an exception in its
/// handler of SIGCHLD for each worker that cannot import the application, and the second one may
/// come while it ends because of the first. It dies of that with a traceback and exit status 1, and
/// the traceback's lines are the last ones.
fn cannot_be_imported() {
    let _machine = whole_machine();
    let supd = Supd::start();
    copy_apps(&supd.app());
    version_file(&supd.app(), "1");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let unit = unit(&address.to_string(), &supd.app(), 1, "\"--worker-class=gthread\", \"--threads=8\"");
    // Its master says READY=1 before a worker has imported anything, and on a busy machine that takes seconds.
    supd.launch("web", &unit.replace("ReadySettleSec = \"1s\"", "ReadySettleSec = \"5s\""));
    let before = supd.status("web");
    let load = Load::start(Plan::new(Target::Tcp(address), Mode::Close, 8).slow_every(50));
    load.wait_for_more(100, crate::wait::SOON);

    version_file(&supd.app(), "broken");
    let failed = supd.ctl(&["swap", "web"]).expect(1);
    let text = failed.text();
    assert!(text.contains("cannot be imported"), "the last lines it wrote are shown:\n{failed}");
    assert!(text.contains("exit status 3"), "its exit status is shown:\n{failed}");

    load.wait_for_more(300, crate::wait::SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().into_keys().eq(["1".to_owned()]), "{tally}");
    let after = supd.status("web");
    assert_eq!((after.state(), after.active()), ("active", before.active()));
    assert_eq!(after.pids(), before.pids(), "the active generation was touched");
}
