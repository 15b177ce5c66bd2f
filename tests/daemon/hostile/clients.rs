//! Clients of the control socket that do not behave.

use super::Serving;
use crate::harness::{Running, Setup, Supd};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("hostile::clients::half_a_message", half_a_message),
        test("hostile::clients::a_hundred_megabytes", a_hundred_megabytes),
        test("hostile::clients::not_json", not_json),
        test("hostile::clients::never_reads", never_reads),
        test("hostile::clients::unasked_descriptors", unasked_descriptors),
        test("hostile::clients::descriptors_with_half_a_message", descriptors_with_half_a_message),
        test("hostile::clients::a_flood_of_descriptors", a_flood_of_descriptors),
        test("hostile::clients::logs_that_nobody_reads", logs_that_nobody_reads),
        test("hostile::clients::hangs_up_mid_swap", hangs_up_mid_swap),
        test("hostile::clients::killed_mid_swap", killed_mid_swap),
        test("hostile::clients::a_thousand_at_once", a_thousand_at_once),
        test_with("hostile::clients::may_not", &[Need::Root], may_not),
        test_with("hostile::clients::onlookers", ONLOOKERS, onlookers),
    ]
}

const ONLOOKERS: &[Need] = &[
    Need::Root,
    Need::Program("prlimit", "util-linux"),
    Need::File("/usr/bin/python3", "apt-get install python3"),
];

pub(super) const STATUS: &[u8] =
    b"{\"method\":\"dev.supd.Manager.Status\",\"parameters\":{\"unit\":\"web\"}}\0";

fn connect(supd: &Supd) -> UnixStream {
    let stream = UnixStream::connect(supd.control()).expect("connecting to the control socket");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream
}

/// One reply, without its NUL; none if supd hung up first.
pub(super) fn reply(stream: &mut UnixStream) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0; 1];
    loop {
        match stream.read(&mut byte) {
            Ok(0) => return None,
            Ok(_) if byte == [0] => return Some(String::from_utf8(bytes).expect("a reply is UTF-8")),
            Ok(_) => bytes.extend(byte),
            Err(error) if error.raw_os_error() == Some(104) => return None,
            Err(error) => panic!("no reply: {error}"),
        }
    }
}

/// Another client is served as if nothing were.
fn answers_others(supd: &Supd) {
    let status = supd.ctl(&["status", "web"]).expect(0);
    assert!(status.took < Duration::from_secs(5), "supd was slow for others:\n{status}");
}

fn half_a_message() {
    let serving = Serving::start();
    let silent: Vec<UnixStream> = (0..50)
        .map(|_| {
            let mut stream = connect(&serving.supd);
            stream.write_all(&STATUS[..20]).expect("half a message");
            stream
        })
        .collect();
    answers_others(&serving.supd);
    serving.untouched();
    drop(silent);
    serving.unharmed();
}

/// No end in sight: refused long before the end, and never held in memory.
fn a_hundred_megabytes() {
    let serving = Serving::start();
    let mut stream = connect(&serving.supd);
    let chunk = vec![b'x'; 1 << 20];
    let sent = (0..100).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 100, "supd read 100 MB of one message");
    answers_others(&serving.supd);
    serving.unharmed();
}

/// Whatever it is, there is a named error or the connection ends; never silence, never a crash.
fn not_json() {
    let serving = Serving::start();
    let deep = ["[".repeat(100_000), "]".repeat(100_000)].concat();
    let objects = "{\"method\":".repeat(50_000);
    let long = format!("{{\"method\":\"{}\"}}", "x".repeat(10_000));
    let inputs: &[&[u8]] = &[
        b"hello\0",
        b"\0",
        b"{}\0",
        b"[]\0",
        b"null\0",
        b"\xff\xfe\0",
        b"{\"method\":7}\0",
        b"{\"method\":\"\"}\0",
        b"{\"method\":\"Status\"}\0",
        b"{\"method\":\"dev.supd.Manager.\"}\0",
        b"{\"method\":\"dev.supd.Manager.Status\",\"parameters\":[]}\0",
        b"{\"method\":\"dev.supd.Manager.Swap\"}\0",
        b"{\"method\":\"dev.supd.Manager.Swap\",\"parameters\":{\"unit\":\"../../etc/passwd\"}}\0",
        b"{\"method\":\"dev.supd.Manager.Kill\",\"parameters\":{\"unit\":\"web\",\"signal\":\"SIGNONSENSE\"}}\0",
        b"{\"method\":\"dev.supd.Manager.Status\",\"parameters\":{\"unit\":1e999}}\0",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n\0",
    ];
    let texts = [deep, objects, long].map(|text| [text.as_bytes(), b"\0"].concat());
    for input in inputs.iter().copied().chain(texts.iter().map(Vec::as_slice)) {
        let shown = String::from_utf8_lossy(&input[..input.len().min(80)]).into_owned();
        let mut stream = connect(&serving.supd);
        drop(stream.write_all(input));
        if let Some(reply) = reply(&mut stream) {
            let value: serde_json::Value = serde_json::from_str(&reply).expect("a reply is JSON");
            assert!(value["error"].is_string(), "{shown:?} was answered with {reply}");
        }
        assert!(serving.supd.is_alive(), "supd died of {shown:?}");
    }
    answers_others(&serving.supd);
    serving.unharmed();
}

/// Asks again and again and reads nothing: supd stops reading, or hangs up, but keeps no heap of
/// answers.
fn never_reads() {
    let serving = Serving::start();
    let mut stream = connect(&serving.supd);
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let asked = (0..200_000).take_while(|_| stream.write_all(STATUS).is_ok()).count();
    println!("asked {asked} times without reading");
    answers_others(&serving.supd);
    serving.untouched();
    drop(stream);
    serving.unharmed();
}

const LOGS: &[u8] = b"{\"method\":\"dev.supd.Manager.Logs\",\"parameters\":{\"unit\":\"web\"}}\0";

/// Sends bytes with a descriptor so many times.
fn pass(stream: &UnixStream, bytes: &[u8], count: usize) -> nix::Result<usize> {
    let null = File::open("/dev/null").expect("/dev/null");
    let fds = vec![null.as_raw_fd(); count];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(bytes)], &rights, MsgFlags::MSG_NOSIGNAL, None)
}

/// Refused, closed, and the next call of the same client is served.
fn unasked_descriptors() {
    let serving = Serving::start();
    let before = proc::descriptors(serving.supd.pid());
    let mut streams = Vec::new();
    for (count, said) in [(200, "at most one descriptor"), (1, "Status takes no descriptor")] {
        for _ in 0..5 {
            let mut stream = connect(&serving.supd);
            pass(&stream, STATUS, count).expect("sending descriptors");
            let refused = reply(&mut stream).expect("a reply");
            assert!(refused.contains(said) && refused.contains("Refused"), "{refused}");
            stream.write_all(STATUS).expect("a call without");
            assert!(reply(&mut stream).expect("a reply").contains("\"state\":\"active\""));
            streams.push(stream);
        }
    }
    let now = proc::descriptors(serving.supd.pid());
    assert_eq!(now, before + streams.len(), "supd keeps descriptors that nobody asked for");
    answers_others(&serving.supd);
    serving.unharmed();
}

/// They are held as long as their call may still be completed, within bounds, and not longer.
fn descriptors_with_half_a_message() {
    let serving = Serving::start();
    let before = proc::descriptors(serving.supd.pid());
    let streams: Vec<UnixStream> = (0..150)
        .map(|_| {
            let stream = connect(&serving.supd);
            pass(&stream, &STATUS[..20], 1).expect("half a call with a descriptor");
            stream
        })
        .collect();
    answers_others(&serving.supd);
    let now = proc::descriptors(serving.supd.pid());
    assert!(now > before + 150 && now <= before + 150 + 256, "{before}, now {now}");
    drop(streams);
    wait_until("supd to let go of them", SOON, || proc::descriptors(serving.supd.pid()) <= before);
    serving.unharmed();
}

/// One after the other, each with a byte of a call that has no end.
fn a_flood_of_descriptors() {
    let serving = Serving::start();
    let before = proc::descriptors(serving.supd.pid());
    let streams: Vec<UnixStream> = (0..4)
        .map(|_| {
            let stream = connect(&serving.supd);
            let sent = (0..5_000).take_while(|_| pass(&stream, b" ", 3).is_ok()).count();
            assert!(sent > 1, "supd does not listen");
            stream
        })
        .collect();
    answers_others(&serving.supd);
    assert!(proc::descriptors(serving.supd.pid()) <= before + 2 * streams.len());
    drop(streams);
    wait_until("supd to let go of them", SOON, || proc::descriptors(serving.supd.pid()) <= before);
    serving.unharmed();
}

/// Each answer carries a descriptor, and nobody takes it.
fn logs_that_nobody_reads() {
    let serving = Serving::start();
    let before = proc::descriptors(serving.supd.pid());
    let streams: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut stream = connect(&serving.supd);
            stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            let _asked = (0..10_000).take_while(|_| stream.write_all(LOGS).is_ok()).count();
            stream
        })
        .collect();
    answers_others(&serving.supd);
    let now = proc::descriptors(serving.supd.pid());
    assert!(now <= before + 2 * streams.len(), "supd holds descriptors for those who do not read: {now}");
    drop(streams);
    wait_until("supd to let go of them", SOON, || proc::descriptors(serving.supd.pid()) <= before);
    serving.unharmed();
}

/// The swap is supd's from the first byte on: the client is not needed for it.
fn hangs_up_mid_swap() {
    let serving = Serving::start();
    serving.candidate(&["late=300"], "", "");
    let mut stream = connect(&serving.supd);
    stream
        .write_all(
            b"{\"method\":\"dev.supd.Manager.Swap\",\"parameters\":{\"unit\":\"web\"},\"more\":true}\0",
        )
        .expect("a request");
    let first = reply(&mut stream).expect("progress");
    assert!(first.contains("\"continues\":true"), "{first}");
    drop(stream);
    wait_until("the swap to be done nevertheless", SOON, || {
        let now = serving.supd.status("web");
        now.state() == "active" && now.active() != serving.before.active()
    });
    serving.took_over();
}

/// An interrupted supctl does not interrupt the swap; wait joins it and ends with its status.
fn killed_mid_swap() {
    let serving = Serving::start();
    serving.candidate(&["late=500"], "", "");
    let swap = serving.supd.ctl_start(&["swap", "web"]);
    wait_until("the swap to begin", SOON, || serving.supd.status("web").last_swap()["result"] == "running");
    proc::signal(swap.pid(), Signal::SIGKILL);
    assert_eq!(swap.finish(SOON).code(), -1);
    serving.supd.ctl(&["wait", "web"]).expect(0);
    assert_eq!(serving.supd.status("web").last_swap()["result"], "committed");
    serving.took_over();
}

/// Each is answered or turned away; none is left hanging, and afterwards all is as before.
fn a_thousand_at_once() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(soft.max(4096)), hard).expect("raising the own limit");
    let serving = Serving::start();
    let before = proc::descriptors(serving.supd.pid());
    let mut turned_away = 0;
    let mut streams = Vec::new();
    for _ in 0..1000 {
        // EAGAIN: the backlog is full, which a blocking connect(2) waits out.
        let mut stream = connect(&serving.supd);
        match stream.write_all(STATUS) {
            Ok(()) => streams.push(stream),
            Err(_) => turned_away += 1,
        }
    }
    let mut answered = 0;
    for mut stream in streams.drain(..) {
        match reply(&mut stream) {
            Some(_) => answered += 1,
            None => turned_away += 1,
        }
    }
    println!("of 1,000 clients at once {answered} were answered, {turned_away} turned away");
    assert!(answered > 0);
    answers_others(&serving.supd);
    wait_until("supd to let go of its clients", SOON, || proc::descriptors(serving.supd.pid()) <= before + 2);
    serving.unharmed();
}

/// Status is for anyone; acting is not, and the exit status and the words say so.
/// supctl as nobody, in the background.
fn as_nobody(supd: &Supd, arguments: &[&str]) -> Running {
    let program = supd.app().join("supctl");
    if !program.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_supctl"), &program).expect("a supctl that nobody can reach");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
    command.arg("--runtime").arg(supd.runtime()).args(arguments);
    Running::start(&mut command)
}

/// Anyone may wait for what others do, a few times at once, and is told no log.
fn onlookers() {
    // That many descriptors are 32 clients, 8 of one user, and 2 of those wait.
    let wrapper = ["prlimit", "--nofile=128", "--"].map(str::to_owned).to_vec();
    let serving = Serving::start_with(&Setup { wrapper, ..Setup::default() });
    let supd = &serving.supd;
    as_nobody(supd, &["wait", "no-such"]).finish(SOON).expect(3);
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    let held: Vec<Running> = (0..2).map(|_| as_nobody(supd, &["wait", "web"])).collect();
    wait_until("the third one to find no place", SOON, || {
        // By hand: supctl would try again for a while.
        let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                      s.settimeout(0.2)\ns.send(sys.argv[2].encode() + bytes(1))\nprint(s.recv(4096))";
        let call = "{\"method\":\"dev.supd.Manager.Wait\",\"parameters\":{\"unit\":\"web\"}}";
        let mut python = Command::new("setpriv");
        python.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
            "/usr/bin/python3",
            "-c",
            script,
        ]);
        let third = Running::start(python.arg(supd.control()).arg(call)).finish(SOON);
        third.stdout.contains("waits 2 times already")
    });
    as_nobody(supd, &["status", "web"]).finish(SOON).expect(0);
    supd.ctl(&["abort", "web"]).expect(0);
    for wait in held {
        wait.finish(SOON).expect(1);
    }
    supd.write_unit("web", &supd.worker(serving.port, &["late=2000", "die=3"], "", ""));
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the candidate", SOON, || supd.status("web").pids().len() == 2);
    let onlooker = as_nobody(supd, &["wait", "web"]).finish(SOON).expect(1);
    let log = "with [\"late=2000\", \"die=3\"]";
    assert!(!onlooker.text().contains(log), "{onlooker}");
    let swap = swap.finish(SOON).expect(1);
    assert!(swap.text().contains(log), "{swap}");
}

fn may_not() {
    let serving = Serving::start();
    let run = |arguments: &[&str]| as_nobody(&serving.supd, arguments).finish(SOON);
    run(&["status", "web"]).expect(0);
    run(&["is-active", "web"]).expect(0);
    run(&["wait", "web"]).expect(0);
    for arguments in [
        &["swap", "web"][..],
        &["stop", "web"],
        &["rollback", "web"],
        &["restart", "web"],
        &["kill", "-s", "SIGKILL", "web"],
        &["cat", "web"],
        &["logs", "web"],
        &["daemon-reload"],
        &["shutdown"],
    ] {
        let refused = run(arguments).expect(77);
        assert!(!refused.text().trim().is_empty(), "a refusal says why:\n{refused}");
        let next = format!(
            "Next: sudo supctl --runtime {} {}",
            serving.supd.runtime().display(),
            arguments.join(" ")
        );
        assert!(refused.text().contains(&next), "{next} is not in\n{refused}");
    }
    serving.unharmed();
}
