//! The process that forks workers for supd where that has many units: it may die, or be stopped, and
//! nobody notices.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("launcher::killed_again_and_again_under_swaps", killed_again_and_again_under_swaps),
        test("launcher::stopped", stopped),
        test("launcher::ends_with_supd", ends_with_supd),
    ]
}

/// Units of so many listeners that supd's launcher is asked.
const CROWD: [&str; 2] = ["crowd", "more"];

/// A supd with so many listeners that its launcher is asked, and a unit `web` of two workers.
fn serving() -> (Supd, u16) {
    let supd = Supd::start();
    supd.install_worker("1");
    for name in CROWD {
        let sockets: String = (0..250)
            .map(|index| {
                format!(
                    "[[Socket]]\nName = \"s{index}\"\nListenStream = \"{}\"\n",
                    supd.path().join(format!("{name}-{index}")).display()
                )
            })
            .collect();
        supd.launch(name, &(sockets + &supd.worker(free_port(), &[], "", "")));
    }
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "Workers = 2", "ProbationSec = \"50ms\""));
    (supd, port)
}

/// Those that supd knows are all that there are.
fn no_other_worker(supd: &Supd) {
    wait_until("the workers that supd knows, and no others", SOON, || {
        let web = supd.status("web").pids();
        let crowd = CROWD.iter().flat_map(|name| supd.status(name).pids());
        let known: BTreeSet<u32> = web.iter().copied().chain(crowd).collect();
        let helpers = [supd.launcher(), supd.writer(), supd.keeper()];
        let children = proc::children(supd.pid()).into_iter().filter(|pid| !helpers.contains(&Some(*pid)));
        web.len() == 2 && children.collect::<BTreeSet<u32>>() == known
    });
}

fn killed_again_and_again_under_swaps() {
    let (supd, port) = serving();
    let load =
        Load::start(Plan::new(Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), Mode::Close, 2));
    load.wait_for_more(20, SOON);
    let mut killed = BTreeSet::new();
    wait_until("three launchers to be killed", SOON * 2, || {
        let swap = supd.ctl_start(&["swap", "web"]);
        if let Some(launcher) = supd.launcher() {
            proc::signal(launcher, Signal::SIGKILL);
            killed.insert(launcher);
        }
        swap.finish(SOON).expect(0);
        no_other_worker(&supd);
        killed.len() >= 3
    });
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    let log = supd.log();
    assert!(log.contains("the launcher has ended; supd forks workers by itself for now"), "{log}");
}

fn stopped() {
    let (supd, _) = serving();
    let launcher = wait_for("the launcher", SOON, || supd.launcher());
    proc::signal(launcher, Signal::SIGSTOP);
    supd.ctl(&["swap", "web"]).expect(0);
    no_other_worker(&supd);
    wait_until("the stopped one to be ended", SOON, || !proc::alive(launcher));
    // That it goes on now changes nothing.
    proc::signal(launcher, Signal::SIGCONT);
    supd.ctl(&["swap", "web"]).expect(0);
    no_other_worker(&supd);
    let log = supd.log();
    assert!(log.contains("the launcher does not answer; supd forks workers by itself for now"), "{log}");
}

fn ends_with_supd() {
    let (supd, _) = serving();
    let launcher = wait_for("the launcher", SOON, || supd.launcher());
    let open = proc::files(launcher);
    assert!(open.iter().filter(|file| file.starts_with("socket:")).count() == 1, "{open:?}");
    // Even one that is stopped, and cannot see the end of its socket.
    proc::signal(launcher, Signal::SIGSTOP);
    let supd = supd.crash_and_restart();
    wait_until("it to end with its supd", SOON, || !proc::alive(launcher));
    supd.wait_for_state("web", "active");
    let launcher = wait_for("another launcher", SOON, || supd.launcher());
    supd.ctl(&["shutdown"]).expect(0);
    wait_until("it to end", SOON, || !proc::alive(launcher));
}
