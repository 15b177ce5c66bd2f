//! Files and folders that are not what they should be.

use super::{Serving, says};
use crate::harness::free_port;
use crate::wait::SOON;
use crate::{Test, test};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test("hostile::files::unit_file_of_garbage", unit_file_of_garbage),
        test("hostile::files::own_unit_turns_to_garbage", own_unit_turns_to_garbage),
        test("hostile::files::two_units_on_one_address", two_units_on_one_address),
        test("hostile::files::address_of_a_stranger", address_of_a_stranger),
        test("hostile::files::a_second_supd", a_second_supd),
    ]
}

/// Each of these is at `path` once; none may hold up, fill up or end supd.
fn rubbish(path: &Path, kind: usize) -> bool {
    let deep = format!("[Service]\nExecStart = {}{}\n", "[".repeat(50_000), "]".repeat(50_000));
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    match kind {
        0 => fs::write(path, bytes),
        1 => fs::create_dir(path),
        2 => fs::write(path, "x".repeat(10 << 20)),
        3 => fs::write(path, "# a comment\n".repeat(1 << 20)),
        4 => fs::write(path, deep),
        5 => fs::write(path, ""),
        6 => {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
            Ok(())
        }
        7 => std::os::unix::fs::symlink("/dev/zero", path),
        8 => std::os::unix::fs::symlink("no-such-file", path),
        9 => std::os::unix::fs::symlink(path.file_name().expect("a name"), path),
        10 => fs::write(path, "[Unit]\nDescription = \"\0\u{1b}[2J\"\n[Nonsense]\nA = 1\n"),
        _ => return false,
    }
    .unwrap_or_else(|error| panic!("rubbish {kind}: {error}"));
    true
}

fn remove(path: &Path) {
    let result = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    result.expect("removing the rubbish");
}

/// A new unit of garbage beside one that serves: named, refused, and nothing else changes.
fn unit_file_of_garbage() {
    let serving = Serving::start();
    let path = serving.supd.path().join("units/bad.unit");
    for kind in 0.. {
        if !rubbish(&path, kind) {
            break;
        }
        let check = serving.supd.ctl(&["check", &path.to_string_lossy()]);
        assert_eq!(check.code(), 78, "rubbish {kind}: {check}");
        says(&check, &["bad.unit"]);
        let reload = serving.supd.ctl(&["daemon-reload"]);
        assert_eq!(reload.code(), 78, "rubbish {kind}: {reload}");
        says(&reload, &["bad.unit"]);
        for output in [check, reload] {
            assert!(output.took < Duration::from_secs(10), "rubbish {kind}: {output}");
            assert!(output.text().len() < 64 << 10, "rubbish {kind}: an endless message");
            assert!(!output.text().contains('\u{1b}'), "rubbish {kind}: escapes reach the terminal");
        }
        serving.untouched();
        remove(&path);
    }
    serving.supd.ctl(&["daemon-reload"]).expect(0);
    serving.unharmed();
}

/// The file of the unit that serves turns bad: a swap is refused, and it goes on as it is.
fn own_unit_turns_to_garbage() {
    let serving = Serving::start();
    let path = serving.supd.path().join("units/web.unit");
    let good = fs::read_to_string(&path).expect("the unit");
    for kind in 0.. {
        fs::remove_file(&path).expect("removing the unit");
        let more = rubbish(&path, kind);
        if more {
            let swap = serving.supd.ctl(&["swap", "web"]);
            assert_eq!(swap.code(), 78, "rubbish {kind}: {swap}");
            serving.untouched();
            remove(&path);
        }
        fs::write(&path, &good).expect("writing the unit");
        if !more {
            break;
        }
    }
    serving.supd.install_worker("2");
    serving.supd.ctl(&["swap", "web"]).expect(0);
    serving.took_over();
}

/// The same address twice, and a wildcard over it: refused, naming both.
fn two_units_on_one_address() {
    let serving = Serving::start();
    let port = serving.port;
    for address in [format!("127.0.0.1:{port}"), format!("0.0.0.0:{port}"), format!("[::]:{port}")] {
        let unit = serving.supd.worker(port, &[], "", "");
        let unit = unit.replace(&format!("127.0.0.1:{port}"), &address);
        serving.supd.write_unit("other", &unit);
        let reload = serving.supd.ctl(&["daemon-reload"]);
        let start = serving.supd.ctl(&["start", "other"]);
        assert_ne!(start.code(), 0, "two units on {address}:\n{start}");
        let both = format!("{}{}", reload.text(), start.text());
        for word in ["web", &port.to_string()] {
            assert!(both.contains(word), "{address}: no {word:?} in:\n{reload}\n{start}");
        }
        serving.untouched();
    }
    fs::remove_file(serving.supd.path().join("units/other.unit")).expect("removing the unit");
    serving.unharmed();
}

/// EADDRINUSE names the process that holds the port.
fn address_of_a_stranger() {
    let serving = Serving::start();
    let port = free_port();
    let stranger = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    serving.supd.write_unit("other", &serving.supd.worker(port, &[], "", ""));
    serving.supd.ctl(&["daemon-reload"]);
    let start = serving.supd.ctl(&["start", "other"]);
    assert_ne!(start.code(), 0, "{start}");
    says(&start, &[&port.to_string(), &std::process::id().to_string()]);
    drop(stranger);
    serving.supd.ctl(&["start", "other"]).expect(0);
    serving.unharmed();
}

/// Never two supd over one folder: the second says why and goes, the first goes on.
fn a_second_supd() {
    let serving = Serving::start();
    let second = serving.supd.start_a_second();
    assert_ne!(second.code(), 0, "{second}");
    says(&second, &[&serving.supd.path().to_string_lossy()]);
    assert!(second.took < SOON);
    serving.unharmed();
}
