//! supd and whoever started it: sd_notify(3) from the other side.

use crate::harness::{Setup, Supd};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("upward::it_says_that_it_lives", it_says_that_it_lives),
        test("upward::nobody_who_hears_is_waited_for", nobody_who_hears_is_waited_for),
        test(
            "upward::how_it_ends_says_whether_to_start_it_again",
            how_it_ends_says_whether_to_start_it_again,
        ),
    ]
}

/// A supd that is started as systemd does, and what it says.
fn started(watchdog_usec: u64) -> (Supd, UnixDatagram, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let wrapper = vec![
        "env".to_owned(),
        format!("NOTIFY_SOCKET={}", path.display()),
        format!("WATCHDOG_USEC={watchdog_usec}"),
    ];
    (Supd::start_with(&Setup { wrapper, ..Setup::default() }), socket, folder)
}

/// All that was said so far.
fn heard(socket: &UnixDatagram) -> String {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    socket.set_nonblocking(true).expect("an option");
    while let Ok(length) = socket.recv(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..length]));
    }
    text
}

/// From the loop itself: one that stands still says nothing.
fn it_says_that_it_lives() {
    let (supd, socket, _folder) = started(100_000);
    let mut all = String::new();
    wait_until("it to live", SOON, || {
        all.push_str(&heard(&socket));
        all.contains("READY=1\n") && all.matches("WATCHDOG=1\n").count() > 3
    });
    proc::signal(supd.pid(), Signal::SIGSTOP);
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", supd.pid())).unwrap_or_default();
    wait_until("it to stand still", SOON, || stat().contains(") T "));
    heard(&socket);
    holds_for("nothing to be said", Duration::from_millis(500), || heard(&socket).is_empty());
    proc::signal(supd.pid(), Signal::SIGCONT);
    wait_until("it to live again", SOON, || heard(&socket).contains("WATCHDOG=1\n"));
}

/// The socket of who reads no more is full after a dozen messages; supd answers all the same.
fn nobody_who_hears_is_waited_for() {
    let (supd, _socket, _folder) = started(20_000);
    let most = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").expect("a number");
    let most: u32 = most.trim().parse().expect("a number");
    // Each is two messages.
    (0..most).for_each(|_| drop(supd.ctl(&["daemon-reload"]).expect(0)));
    supd.ctl(&["status"]).expect(0);
}

/// It stays for the next one, and there is none.
fn end_keeper(supd: &Supd) {
    if let Some(keeper) = supd.keeper() {
        proc::signal(keeper, Signal::SIGKILL);
    }
}

/// With 150 only where it was shut down and a service manager hears it; with 0 where the next one is to go on, and
/// where nobody would know what else to make of it.
fn how_it_ends_says_whether_to_start_it_again() {
    let by = |signal| move |supd: &Supd| proc::signal(supd.pid(), signal);
    let shutdown = |supd: &Supd| drop(supd.ctl(&["shutdown"]).expect(0));
    // Nobody can come next where there is no keeper; that was no shutdown all the same. It stands still meanwhile, or
    // it would begin another one.
    let both = |supd: &Supd| {
        let keeper = supd.keeper().expect("a keeper");
        for (pid, signal) in
            [(supd.pid(), Signal::SIGSTOP), (keeper, Signal::SIGTERM), (supd.pid(), Signal::SIGTERM)]
        {
            proc::signal(pid, signal);
        }
        proc::signal(supd.pid(), Signal::SIGCONT);
    };
    let (supd, _socket, _folder) = started(0);
    shutdown(&supd);
    assert_eq!(supd.wait_for_end(), Some(150));
    let (supd, _socket, _folder) = started(0);
    by(Signal::SIGINT)(&supd);
    assert_eq!(supd.wait_for_end(), Some(150));
    let (supd, _socket, _folder) = started(0);
    by(Signal::SIGTERM)(&supd);
    assert_eq!(supd.wait_for_end(), Some(0));
    end_keeper(&supd);
    let (supd, _socket, _folder) = started(0);
    both(&supd);
    assert_eq!(supd.wait_for_end(), Some(0), "{}", supd.log());
    end_keeper(&supd);
    let supd = Supd::start();
    shutdown(&supd);
    assert_eq!(supd.wait_for_end(), Some(0));
}
