//! Servers that bind for themselves, whose supd has died: they serve on, and the next supd answers what they ask.

use crate::harness::{Setup, Status, Supd, free_port};
use crate::intercept::{ask, at, unit, warm_round};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("orphaned_binds::they_serve_on", they_serve_on),
        test_with("orphaned_binds::of_an_ordinary_users_supd", &[Need::Root], of_an_ordinary_user),
        test("orphaned_binds::whoever_is_in_the_background", in_the_background),
        test("orphaned_binds::asked_while_nobody_was_there", asked_while_nobody_was_there),
        test("orphaned_binds::asked_when_supd_died", asked_when_supd_died),
        test("orphaned_binds::what_is_asked_by_is_let_go", let_go),
    ]
}

/// Serves, and at SIGUSR1 binds its port anew. What comes of that is in the file `bound`, a letter for each.
const BINDS_ANEW: &str = "
def anew(*_):
    global s
    s.close()
    try:
        s = tcp('127.0.0.1', PORT); s.listen(5); s.setblocking(False)
        open('bound', 'a').write('+')
    except OSError as error:
        open('bound', 'a').write('(%s)' % error)
signal.signal(signal.SIGUSR1, anew)
s = tcp('127.0.0.1', PORT); s.listen(5); s.setblocking(False)
while True:
    try:
        if not select.select([s], [], [], 60)[0]: continue
        client, _ = s.accept()
    except OSError: continue
    client.setblocking(True)
    client.sendall(b'%d' % os.getpid())
    client.close()
";

fn binds_anew(supd: &Supd, port: u16) -> String {
    unit(supd, &at(port), &BINDS_ANEW.replace("PORT", &port.to_string()))
}

fn bound(supd: &Supd) -> String {
    fs::read_to_string(supd.app().join("bound")).unwrap_or_default()
}

/// Three times in a row, with all that a person may ask in between.
fn goes_on_thrice(mut supd: Supd, program: &str) {
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &program.replace("PORT", &port.to_string())));
    for _ in 0..3 {
        let before = supd.wait_for_state("web", "active");
        let pid = ask(port);
        supd = supd.crash_and_go_on_after(|_| assert_eq!(ask(port), pid));
        assert_eq!(ask(port), pid, "{}", supd.log());
        let after = supd.wait_for_state("web", "active");
        let serves = |status: &Status| (status.active(), status.pids_in(status.active().unwrap_or_default()));
        assert_eq!(serves(&after), serves(&before), "{}", supd.log());
        warm_round(&supd);
        assert_eq!(ask(port), pid);
    }
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err(), "it listens still");
}

const ONE: &str = "s = tcp('127.0.0.1', PORT); s.listen(5)\nserve(s)\n";

fn they_serve_on() {
    goes_on_thrice(Supd::start(), ONE);
}

fn of_an_ordinary_user() {
    goes_on_thrice(Supd::start_with(&Setup { user: Some(65534), ..Setup::default() }), ONE);
}

/// The first process has ended, and the server is in a session of its own.
fn in_the_background() {
    let program = "s = tcp('127.0.0.1', PORT); s.listen(5)
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
serve(s)
";
    goes_on_thrice(Supd::start(), program);
}

/// The thread waits in bind(2), for as long as there is no supd, and its clients with it.
fn asked_while_nobody_was_there() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &binds_anew(&supd, port));
    let pid = ask(port);
    let waits = || {
        let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        call.starts_with(&format!("{} ", libc::SYS_bind))
    };
    let supd = supd.crash_and_go_on_after(|_| {
        proc::signal(pid, Signal::SIGUSR1);
        wait_until("it to bind", SOON, waits);
    });
    wait_until("it to have bound", SOON, || bound(&supd) == "+");
    assert_eq!(ask(port), pid);
    warm_round(&supd);
}

/// At whatever moment supd dies, each bind is answered once, and as if it had not.
fn asked_when_supd_died() {
    let mut supd = Supd::start();
    let port = free_port();
    supd.launch("web", &binds_anew(&supd, port));
    let pid = ask(port);
    for round in 1..=30 {
        proc::signal(pid, Signal::SIGUSR1);
        // A look takes some hundred microseconds.
        let until = Instant::now() + Duration::from_micros(40 * round);
        while Instant::now() < until {}
        supd = supd.crash_and_go_on();
        let times = usize::try_from(round).expect("a few");
        wait_until("it to have bound", SOON, || bound(&supd).len() >= times);
        assert_eq!(bound(&supd), "+".repeat(times), "{}", supd.log());
        assert_eq!(ask(port), pid);
        assert_eq!(supd.wait_for_state("web", "active").pids(), [pid], "{}", supd.log());
    }
}

/// What a worker asks by is not kept longer than the worker.
fn let_go() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &ONE.replace("PORT", &port.to_string())));
    let asks = |pid: u32| proc::files(pid).iter().filter(|file| file.contains("seccomp")).count();
    let keeper = supd.keeper().expect("a keeper");
    wait_until("the keeper to have it", SOON, || asks(keeper) == 1);
    let supd = supd.crash_and_go_on();
    wait_until("one in each", SOON, || (asks(keeper), asks(supd.pid())) == (1, 1));
    for _ in 0..5 {
        warm_round(&supd);
        // No more than MaxGenerations live, and the standby of the round before takes its time to go.
        wait_until("one and a standby to be left", SOON, || supd.status("web").pids().len() == 2);
    }
    wait_until("one for each that lives", SOON, || (asks(keeper), asks(supd.pid())) == (2, 2));
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("none to be left", SOON, || (asks(keeper), asks(supd.pid())) == (0, 0));
}
