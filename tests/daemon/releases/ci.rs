//! A deploy as CI does it: repeated, joined again, from an address, and every outcome by its status.

use super::{Shop, text};
use crate::wait::{SOON, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::Stdio;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("releases::outcomes", outcomes),
        test("releases::repeated_by_its_id", repeated_by_its_id),
        test("releases::joined_again", joined_again),
        test("releases::held_and_promoted", held_and_promoted),
        test("releases::from_an_address", from_an_address),
        test("releases::an_answer_that_cannot_be_written", an_answer_that_cannot_be_written),
    ]
}

fn outcomes() {
    let shop = Shop::open_with("", "ProbationSec = \"1s\"");
    // Nothing serves, and nothing comes of it.
    let dies = shop.build("0", "die=3");
    shop.ctl(&["deploy", "web", "0", text(&dies)]).expect(7);
    shop.ctl(&["stop", "web"]).expect(0);
    shop.deploy("1").expect(0);
    let failed = shop.ctl(&["deploy", "web", "2", text(&shop.build("2", "die=3"))]).expect(1);
    assert!(failed.text().contains("exit status 3"), "{failed}");
    let turned = shop.ctl(&["deploy", "web", "3", text(&shop.build("3", "ready-then-die=400"))]).expect(6);
    assert!(turned.text().contains("rolled back to generation"), "{turned}");
    assert_eq!(shop.active().as_deref(), Some("1"));
    let verdicts: Vec<_> =
        shop.releases().into_iter().map(|(label, verdict, ..)| format!("{label} {verdict}")).collect();
    assert_eq!(verdicts, ["0 bad", "1 good", "2 bad", "3 bad"]);
    // None of the bad ones is taken by itself.
    let same = shop.ctl(&["swap", "web"]).expect(0);
    assert!(same.text().contains("release 1, the newest, is active already"), "{same}");
}

/// A repetition gets the first outcome, also after supd was restarted.
fn repeated_by_its_id() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    let two = shop.build("2", "");
    let line = ["--json", "--request-id", "ci-17", "deploy", "web", "2", text(&two)];
    let first = shop.ctl(&line).expect(0);
    assert!(first.stdout.contains("\"changed\":true"), "{first}");
    let generation = shop.supd.status("web").active();
    shop.ctl(&["rollback", "web"]).expect(0);
    let again = shop.ctl(&line).expect(0);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(shop.active().as_deref(), Some("1"), "nothing is done twice");
    let would = shop.ctl(&[&["--dry-run"], &line[..]].concat()).expect(0);
    let said = "was answered under this request_id already; would only say once more: ";
    assert!(would.text().contains(said) && would.text().contains("generation 2"), "{would}");
    for more in [&[][..], &["--dry-run"]] {
        let line = [more, &["--request-id", "ci-17", "deploy", "web", "3", text(&two)]].concat();
        let other = shop.ctl(&line).expect(3);
        assert!(other.text().contains("was used for Deploy before"), "{other}");
    }
    let Shop { supd, port } = shop;
    let shop = Shop { supd: supd.crash_and_restart(), port };
    shop.supd.wait_for_state("web", "active");
    let again = shop.ctl(&line).expect(0);
    assert_eq!(first.stdout, again.stdout);
    assert!(generation.is_some());
    assert_eq!(shop.active().as_deref(), Some("1"));
}

/// Who loses the connection asks `wait`, and ends with the same status.
fn joined_again() {
    let shop = Shop::open_with("", "ProbationSec = \"1s\"");
    shop.deploy("1").expect(0);
    let bad = shop.build("2", "ready-then-die=500");
    let deploy = shop.start(&["deploy", "web", "2", text(&bad)]);
    wait_until("the swap to begin", SOON, || shop.supd.status("web").state() != "active");
    proc::signal(deploy.pid(), Signal::SIGKILL);
    shop.ctl(&["wait", "web"]).expect(6);
    assert_eq!(shop.active().as_deref(), Some("1"));
    let interrupted = shop.start(&["deploy", "web", "3", text(&shop.build("3", ""))]);
    wait_until("the swap to begin", SOON, || shop.supd.status("web").state() != "active");
    proc::signal(interrupted.pid(), Signal::SIGINT);
    let told = interrupted.finish(SOON);
    assert!(told.stderr.contains("the deploy goes on") && told.stderr.contains("supctl wait web"), "{told}");
    shop.ctl(&["wait", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("3"));
}

fn held_and_promoted() {
    let shop = Shop::open();
    shop.deploy("1").expect(0);
    shop.ctl(&["deploy", "web", "2", text(&shop.build("2", "")), "--hold"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("1"));
    let refused = shop.ctl(&["deploy", "web", "3", text(&shop.build("3", ""))]).expect(3);
    assert!(refused.text().contains("is under way"), "{refused}");
    shop.ctl(&["deploy", "web", "3", text(&shop.build("3", "")), "--replace", "--hold"]).expect(0);
    shop.ctl(&["promote", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("3"));
    shop.ctl(&["deploy", "web", "2", text(&shop.build("2", "")), "--hold"]).expect(0);
    shop.ctl(&["abort", "web"]).expect(0);
    assert_eq!(shop.active().as_deref(), Some("3"));
}

/// A server that gives the same body to everybody; its address.
fn serve(body: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the test's own files");
    let address = listener.local_addr().expect("the test's own files");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _hung_up = (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(&body));
        }
    });
    format!("http://{address}/app.tar.zst")
}

fn from_an_address() {
    let shop = Shop::open();
    let archive = fs::read(shop.pack(&shop.build("1", ""), "one.tar.zst")).expect("the test's own files");
    let sum: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let address = serve(archive);
    let wrong = "0".repeat(64);
    let refused = shop.ctl(&["deploy", "web", "1", &address, "--sha256", &wrong]);
    assert_ne!(refused.code(), 0, "{refused}");
    assert!(refused.text().contains("sha256") || refused.text().contains("SHA-256"), "{refused}");
    assert_eq!(shop.labels(), Vec::<String>::new());
    shop.ctl(&["deploy", "web", "1", &address, "--sha256", &sum]).expect(0);
    assert_eq!(shop.answers(), "1");
}

/// The answer cannot be shown; what is done is done, and the status says that.
fn an_answer_that_cannot_be_written() {
    let shop = Shop::open();
    let into = |out: &str, line: &[&str]| {
        let out = fs::OpenOptions::new().write(true).open(out).expect("a device");
        let mut command = shop.supd.ctl_command(line);
        command.stdout(out).stderr(Stdio::piped()).stdin(Stdio::null());
        let output = command.spawn().and_then(std::process::Child::wait_with_output).expect("supctl");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (version, more) in [("1", &["--json"][..]), ("2", &[])] {
        let folder = shop.build(version, "");
        let (code, said) = into("/dev/full", &[more, &["deploy", "web", version, text(&folder)]].concat());
        assert_eq!(code, Some(0), "{said}");
        for part in ["No space left", "nevertheless: web: generation", "Next: supctl status web"] {
            assert!(said.contains(part), "{part:?} is missing: {said}");
        }
        assert_eq!(shop.active().as_deref(), Some(version));
    }
    let bad = shop.build("3", "die=3");
    for (version, more) in [("3", &["--json"][..]), ("4", &[])] {
        let (code, said) = into("/dev/full", &[more, &["deploy", "web", version, text(&bad)]].concat());
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("exit status 3"), "{said}");
        // As a table it is told on standard error alone.
        assert_eq!(said.contains("No space left"), !more.is_empty(), "{said}");
    }
    assert_eq!(into("/dev/full", &["--json", "kill", "web", "-s", "CONT"]).0, Some(0));
    // A script that asks this way is told of the unit, and not of the disk.
    for more in [&["--json"][..], &[]] {
        let (code, said) = into("/dev/full", &[more, &["is-active", "web"]].concat());
        assert!(code == Some(0) && said.contains("No space left"), "{code:?} {said}");
    }
    // What only looks has failed where nobody can see it, and a rehearsal does no more.
    for line in
        [&["status"][..], &["cat", "web"], &["--json", "status"], &["--json", "--dry-run", "swap", "web"]]
    {
        let (code, said) = into("/dev/full", line);
        assert!(code == Some(1) && said.contains("No space left"), "{line:?}: {code:?} {said}");
    }
    // Whoever stopped reading has seen enough.
    for line in [&["--json", "restart", "web"][..], &["restart", "web"], &["status"]] {
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        drop(read);
        let mut command = shop.supd.ctl_command(line);
        command.stdout(write).stderr(Stdio::piped()).stdin(Stdio::null());
        let output = command.spawn().and_then(std::process::Child::wait_with_output).expect("supctl");
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{line:?}");
    }
}
