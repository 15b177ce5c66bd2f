//! What the tests of the real thing and the benchmarks share.

pub(crate) mod cgroup;
pub(crate) mod death;
pub(crate) mod files;
pub(crate) mod fixture;
pub(crate) mod harness;
pub(crate) mod load;
pub(crate) mod proc;
pub(crate) mod test;
pub(crate) mod wait;

use std::process::ExitCode;

/// Other things that this binary is: the worker of the tests, the load by hand, one that crashes.
pub(crate) fn other_role() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match std::env::var("DAEMON_TEST_ROLE").ok()?.as_str() {
        "worker" => Some(fixture::main(&arguments)),
        "crash" => Some(fixture::crash(&arguments)),
        "load" => Some(load::by_hand(&arguments)),
        other => panic!("DAEMON_TEST_ROLE={other}: no such role"),
    }
}
