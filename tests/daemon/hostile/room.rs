//! Fewer descriptors than people ask for: refused before it is begun, and nothing of what runs is touched.

use crate::harness::{Setup, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;

pub(super) fn tests() -> Vec<Test> {
    let prlimit = &[Need::Program("prlimit", "util-linux")];
    vec![
        test_with("hostile::room::a_unit_that_cannot_fit", prlimit, a_unit_that_cannot_fit),
        test_with("hostile::room::more_units_than_fit", prlimit, more_units_than_fit),
        test("hostile::room::ten_thousand_silent_clients", ten_thousand_silent_clients),
    ]
}

fn limited(nofile: u32) -> Supd {
    let wrapper = vec!["prlimit".to_owned(), format!("--nofile={nofile}"), "--".to_owned()];
    Supd::start_with(&Setup { wrapper, ..Setup::default() })
}

/// The numbers and the remedy are in the answer, and who runs does not notice.
fn a_unit_that_cannot_fit() {
    let supd = limited(128);
    supd.install_worker("1");
    let port = free_port();
    let unit = |workers: u32| supd.worker(port, &[], &format!("Workers = {workers}"), "");
    supd.launch("web", &unit(1));
    let load =
        Load::start(Plan::new(Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), Mode::Close, 2));
    let before = supd.status("web").pids();
    supd.write_unit("big", &supd.worker(free_port(), &[], "Workers = 200", ""));
    let told = supd.ctl(&["daemon-reload"]).expect(1);
    assert!(
        told.text().contains("big needs 406 more") && told.text().contains("of its 128 are left"),
        "{told}"
    );
    for words in [&["start", "big"][..], &["start", "big", "--dry-run"]] {
        let refused = supd.ctl(words).expect(3);
        assert!(refused.text().contains("big needs 406 more"), "{refused}");
        assert!(refused.text().contains("LimitNOFILE"), "{refused}");
    }
    supd.write_unit("web", &unit(100));
    for verb in ["swap", "restart"] {
        let refused = supd.ctl(&[verb, "web"]).expect(3);
        assert!(refused.text().contains("web needs 206 more"), "{refused}");
    }
    supd.ctl(&["start", "web"]).expect(0);
    assert_eq!((supd.status("web").pids(), supd.status("web").active()), (before, Some(1)));
    // As many as there is room for.
    supd.write_unit("web", &unit(12));
    supd.ctl(&["swap", "web"]).expect(0);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    proc::signal(supd.status("web").pids_in(2)[0], Signal::SIGKILL);
    wait_until("its worker to be launched again", SOON, || supd.status("web").pids_in(2).len() == 12);
}

/// One after the other is started until there is no more room: those that run go on, and can be launched again.
fn more_units_than_fit() {
    const UNITS: usize = 60;
    let supd = limited(160);
    let unit = "[[Socket]]\nListenStream = \"@PATH@\"\n\n[Service]\nExecStart = [\"/usr/bin/sleep\", \"infinity\"]\n\
                Ready = \"started\"\nReadySettleSec = 0\nRestart = \"always\"\nRestartSec = \"10ms\"\n";
    let name = |number: usize| format!("idle{number}");
    for number in 0..UNITS {
        let path = supd.path().join(format!("s{number}"));
        supd.write_unit(&name(number), &unit.replace("@PATH@", &path.to_string_lossy()));
    }
    let mut started = Vec::new();
    let mut refused = 0;
    for number in 0..UNITS {
        let output = supd.ctl(&["start", &name(number)]);
        match output.code() {
            0 => started.push(name(number)),
            3 => {
                assert!(output.text().contains("LimitNOFILE"), "{output}");
                refused += 1;
            }
            _ => panic!("{output}"),
        }
    }
    assert!(started.len() > 10 && refused > 5, "{} of {UNITS} were started", started.len());
    let pids: Vec<u32> = started.iter().flat_map(|name| supd.status(name).pids()).collect();
    assert_eq!(pids.len(), started.len());
    for (name, pid) in started.iter().zip(&pids) {
        proc::signal(*pid, Signal::SIGKILL);
        wait_until("it to be launched again", SOON, || {
            let status = supd.status(name);
            status.state() == "active" && !status.pids().contains(pid) && status.pids().len() == 1
        });
    }
    // What is stopped makes room.
    for name in started.iter().take(5) {
        supd.ctl(&["stop", name]).expect(0);
    }
    supd.ctl(&["start", &name(UNITS - 1)]).expect(0);
}

/// They connect, say nothing and stay: supd answers others, within bounds.
fn ten_thousand_silent_clients() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(soft.max(12_000)), hard).expect("raising the own limit");
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    let (descriptors, memory) = (proc::descriptors(supd.pid()), proc::rss_kib(supd.pid()));
    let mut clients = Vec::new();
    for _ in 0..10_000 {
        match UnixStream::connect(supd.control()) {
            Ok(client) => clients.push(client),
            // The own limit.
            Err(_) => clients.truncate(clients.len() / 2),
        }
    }
    // Who has been silent for two seconds makes room.
    wait_until("room for one who has something to say", SOON, || supd.ctl(&["status", "web"]).code() == 0);
    let (now, grown) = (proc::descriptors(supd.pid()), proc::rss_kib(supd.pid()).saturating_sub(memory));
    assert!(now <= descriptors + 1024 + 8, "{descriptors} descriptors before, {now} now");
    assert!(grown < 16 << 10, "supd has grown by {grown} KiB");
    supd.ctl(&["swap", "web"]).expect(0);
    drop(clients);
    wait_until("supd to let go of them", SOON, || proc::descriptors(supd.pid()) <= descriptors + 8);
}
