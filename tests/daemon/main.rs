//! The tests of the real thing: real supd, real sockets, real signals, real servers.
//!
//! Run by libtest-mimic, so the options are those of cargo test. This binary is also the worker
//! that most tests run under supd ([`support::fixture`]) and, for hands, the load client:
//! `DAEMON_TEST_ROLE=load cargo test --test daemon -- close 127.0.0.1:8080 16 10`.
//!
//! A test says what it needs besides a kernel. An ordinary user sees such a test named and skipped
//! where that is missing; for root everything must be there, and what is missing is a failure.

mod bind_as;
mod canary;
mod carried;
mod cat;
mod cgroups;
mod counts;
mod cut_short;
mod deaths;
mod demo;
mod every_moment;
mod examples;
mod exclusive;
mod fdstore;
mod history;
mod holding;
mod hostile;
mod hour;
mod import;
mod inherit;
mod intercept;
mod journal;
mod keeper;
mod keys;
mod last_resort;
mod launcher;
mod life;
mod logs;
mod manager_store;
mod metrics;
mod notify;
mod on_failure;
mod one_bound;
mod one_unit;
mod orphaned_binds;
mod output;
mod own_slot;
mod paths;
mod peers;
mod rare_binds;
mod reexec;
mod releases;
mod remains;
mod repeat;
mod rescue;
mod sandbox;
mod servers;
mod shown;
mod steer;
mod support;
mod survival;
mod swap;
mod take_from;
mod tampered;
mod top;
mod traffic;
mod trial;
mod unbound;
mod upward;

use libtest_mimic::Arguments;
use std::process::ExitCode;
use support::test::{Need, Test, find_program, test, test_with};
use support::{fixture, harness, load, proc, wait};

fn main() -> ExitCode {
    if let Some(code) = support::other_role() {
        return code;
    }
    let tests = [
        load::talk::tests(),
        load::tally::tests(),
        load::wrk::tests(),
        servers::tests(),
        paths::tests(),
        peers::tests(),
        remains::tests(),
        repeat::tests(),
        metrics::tests(),
        notify::tests(),
        on_failure::tests(),
        one_bound::tests(),
        one_unit::tests(),
        inherit::tests(),
        intercept::tests(),
        orphaned_binds::tests(),
        unbound::tests(),
        upward::tests(),
        bind_as::tests(),
        rare_binds::tests(),
        reexec::tests(),
        holding::tests(),
        hostile::tests(),
        survival::tests(),
        deaths::tests(),
        every_moment::tests(),
        journal::tests(),
        keeper::tests(),
        swap::tests(),
        take_from::tests(),
        steer::tests(),
        canary::tests(),
        traffic::tests(),
        tampered::tests(),
        top::tests(),
        trial::tests(),
        rescue::tests(),
        own_slot::tests(),
        life::tests(),
        last_resort::tests(),
        launcher::tests(),
        carried::tests(),
        cat::tests(),
        cgroups::tests(),
        counts::tests(),
        cut_short::tests(),
        logs::tests(),
        manager_store::tests(),
        history::tests(),
        shown::tests(),
        keys::tests(),
        sandbox::tests(),
        output::tests(),
        import::tests(),
        releases::tests(),
        demo::tests(),
        examples::tests(),
        exclusive::tests(),
        fdstore::tests(),
        hour::tests(),
    ];
    let trials = tests.into_iter().flatten().map(Test::trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
