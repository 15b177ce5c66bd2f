//! All that a worker inherits, against golden files, from a supd that is as dirty as it can be.

use super::{Bench, NOBODY, as_user, end, outcome, spawn};
use crate::model::settings::{DirectoryKind, Limit, Resource};
use crate::model::{Address, Generation, ListenerName, SocketKind, UnitName, WorkerExit};
use crate::os::alone::{alone, alone_as, root_or_skip};
use crate::os::original::{self, Original};
use crate::os::pidfd::PidFd;
use crate::os::spawn::environment::{Environment, Facts};
use crate::os::spawn::{Account, Launcher, Plan, Spawned};
use nix::libc;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Makes this process as unlike a fresh one as its rights allow.
#[allow(unsafe_code)]
fn dirty() {
    // SAFETY: a test alone in its process; each call takes numbers or a set made just before.
    unsafe {
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGCHLD, libc::SIGUSR1, 34, 64] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut blocked);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
        for _ in 0..20 {
            libc::dup(1);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        libc::prctl(libc::PR_SET_TIMERSLACK, 123_456);
        for name in ["LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "SECRET", "LD_PRELOADED"] {
            std::env::set_var(name, "1");
        }
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    for resource in original::RESOURCES {
        let (soft, hard) = Original::read().unwrap().limit(resource);
        let other = if soft == hard { hard.min(1 << 40).saturating_sub(1) } else { hard };
        if !matches!(resource, Resource::Nproc | Resource::Cpu) {
            original::set_raw(resource, other, hard).unwrap();
        }
    }
    let score = Original::read().unwrap().oom_score_adjust().unwrap();
    original::set_oom_score_adjust((score + 321).min(1000)).unwrap();
    if nix::unistd::geteuid().is_root() {
        original::set_nice(-3).unwrap();
        // Without root its own /proc/self/oom_score_adj would be closed to it.
        nix::sys::prctl::set_dumpable(false).unwrap();
        caps::raise(None, caps::CapSet::Inheritable, caps::Capability::CAP_CHOWN).unwrap();
        caps::raise(None, caps::CapSet::Ambient, caps::Capability::CAP_CHOWN).unwrap();
    }
}

/// What a worker that was launched so finds in /proc, with what differs from run to run replaced
/// by what it must be.
fn inheritance(
    bench: &Bench,
    account: &Account,
    before: &str,
    launch: &dyn Fn(&Plan<'_>) -> Spawned,
) -> String {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let name = |name: &str| ListenerName::new(name).unwrap();
    let address = |kind, port| Address::Ip { kind, host: Ipv4Addr::LOCALHOST.into(), port };
    let listeners =
        [(name("http"), address(SocketKind::Stream, 80)), (name("dns"), address(SocketKind::Datagram, 53))];
    let unit = UnitName::new("web").unwrap();
    let environment = Environment::new(&Facts {
        unit: &unit,
        generation: Generation(8),
        worker: Some(1),
        release: Some(("1.5.0", Path::new("/var/lib/supd/releases/web/1.5.0"))),
        invocation_id: "00112233445566778899aabbccddeeff",
        notify_socket: Some(Path::new("/run/supd/notify/web.8")),
        watchdog: Some(std::time::Duration::from_secs(3)),
        file_descriptor_store_max: 0,
        stored: &[],
        listeners: &listeners,
        directories: &[(DirectoryKind::Runtime, PathBuf::from("/run/web"))],
        lang: "C.UTF-8",
        passed: &[("TZ".into(), "UTC".into())],
        assigned: &[("MODE".to_owned(), "production".to_owned())],
    });
    let limits = [Limit { resource: Resource::Memlock, soft: Some(65536), hard: Some(65536) }];
    let mut text = String::new();
    for file in ["status", "limits", "environ", "fd", "stat", "oom_score_adj", "timerslack_ns"] {
        let path = format!("/proc/self/{file}");
        let arguments: &[&str] = if file == "fd" { &["-l", &path] } else { &[&path] };
        let plan = Plan {
            environment: environment.clone(),
            listeners: vec![tcp.as_fd(), udp.as_fd()],
            account: account.clone(),
            limits: limits.to_vec(),
            ..bench.plan(if file == "fd" { "ls" } else { "cat" }, arguments)
        };
        let _ = fs::remove_file(bench.path("output"));
        let mut spawned = launch(&plan);
        assert_eq!(outcome(&mut spawned.outcome), Ok(()), "{file}");
        assert_eq!(end(&spawned.process), WorkerExit::Code(0), "{file}");
        let found = fs::read(bench.path("output")).unwrap();
        let found = String::from_utf8(found).unwrap().replace('\0', "\n");
        text.push_str(&format!(
            "== /proc/self/{file}\n{}\n",
            tell(bench, file, &found, &spawned.process, before).join("\n")
        ));
    }
    text
}

/// The lines of one file of /proc that a worker's inheritance shows in.
fn tell(bench: &Bench, file: &str, found: &str, process: &PidFd, before: &str) -> Vec<String> {
    match file {
        "status" => tell_status(found, before),
        "limits" => found.lines().skip(1).map(|line| tell_limit(bench, line)).collect(),
        "environ" => tell_environment(found, process),
        // ls holds the folder that it reads open, at the first free number.
        "fd" => {
            let entry = |line: &str| {
                line.split_once(" -> ").map(|(left, to)| {
                    let number = left.rsplit(' ').next().unwrap().to_owned();
                    let to = to.split_once(":[").map_or(to, |(kind, _)| kind);
                    let to = if to.starts_with("/proc/") { "(the folder being listed)" } else { to };
                    format!("{number} {}", to.replace(bench.folder.path().to_str().unwrap(), ""))
                })
            };
            found.lines().filter_map(entry).collect()
        }
        "stat" => {
            let after = found.rsplit_once(')').unwrap().1;
            let fields: Vec<i64> =
                after.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(-1)).collect();
            let pid = i64::from(process.pid());
            vec![format!(
                "group is its own: {}, session is its own: {}, terminal: {}, nice: {}, exit signal: {}",
                fields[1] == pid,
                fields[2] == pid,
                fields[3],
                as_got(&fields[15].to_string(), Some(bench.original.nice())),
                fields[34]
            )]
        }
        "oom_score_adj" => vec![as_got(found, bench.original.oom_score_adjust())],
        "timerslack_ns" => vec![as_got(found, bench.original.timer_slack_ns())],
        _ => unreachable!("{file}"),
    }
}

fn as_got<T: std::fmt::Display>(found: &str, original: Option<T>) -> String {
    let same = original.is_some_and(|value| value.to_string() == found.trim());
    if same { "as supd got it".to_owned() } else { found.trim().to_owned() }
}

/// What depends on the machine (a container's bounding set and seccomp filter, say) is compared
/// with what the parent had before it made itself dirty.
fn tell_status(found: &str, before: &str) -> Vec<String> {
    let keys = "Umask TracerPid Uid Gid Groups Threads SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff \
                CapBnd CapAmb NoNewPrivs Seccomp";
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let everything = value(before, "CapBnd");
    let tell = |key: &str| {
        let found = value(found, key);
        match key {
            "CapBnd" | "NoNewPrivs" | "Seccomp" if found == value(before, key) => format!("{key}: as supd's"),
            "CapPrm" | "CapEff" if found == everything => format!("{key}: all that supd may have"),
            _ => format!("{key}: {found}").trim_end().to_owned(),
        }
    };
    keys.split_whitespace().map(tell).collect()
}

fn tell_environment(found: &str, process: &PidFd) -> Vec<String> {
    let pid = process.pid().to_string();
    // Without pidfs there is none; the golden file is from a kernel that has it.
    let inode = process.inode().map_or("none".to_owned(), |inode| inode.to_string());
    let none = (inode == "none").then_some("LISTEN_PIDFDID=none");
    let own = |line: &str| match line.split_once('=') {
        Some((name @ ("LISTEN_PID" | "WATCHDOG_PID"), value)) if value == pid => format!("{name}=its own"),
        Some((name @ "LISTEN_PIDFDID", value)) if value == inode => format!("{name}=its own"),
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = found.lines().chain(none).map(own).collect();
    lines.sort();
    lines
}

fn tell_limit(bench: &Bench, line: &str) -> String {
    let (name, values) = line.split_at(26);
    let names = [
        "cpu time",
        "file size",
        "data size",
        "stack size",
        "core file size",
        "resident set",
        "processes",
        "open files",
        "locked memory",
        "address space",
        "file locks",
        "pending signals",
        "msgqueue size",
        "nice priority",
        "realtime priority",
        "realtime timeout",
    ];
    let index = names.iter().position(|known| name.trim().strip_prefix("Max ") == Some(known)).unwrap();
    let number = |text: &str| text.parse().unwrap_or(original::INFINITY);
    let values: Vec<u64> = values.split_whitespace().take(2).map(number).collect();
    let (soft, hard) = bench.original.limit(original::RESOURCES[index]);
    let told = if values == [soft, hard] { "as supd got it".to_owned() } else { format!("{values:?}") };
    format!("{}: {told}", name.trim())
}

/// Compares with tests/golden/NAME; `SUPD_BLESS=1` writes it instead.
fn golden(name: &str, text: Option<String>) {
    let Some(text) = text else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("SUPD_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name} differs; see it, then SUPD_BLESS=1:\n{text}\n-- golden:\n{wanted}");
}

/// The inheritance of a worker of this account, from a dirty supd.
fn inherit(account: &Account) -> String {
    let bench = Bench::new();
    let before = fs::read_to_string("/proc/self/status").unwrap();
    dirty();
    let text = inheritance(&bench, account, &before, &|plan| spawn(plan).unwrap());
    let launcher = Launcher::begin(bench.common(|_, _| Ok(())), 0);
    let launched = inheritance(&bench, account, &before, &|plan| {
        let spawned = launcher.spawn(plan).unwrap();
        spawned.outcome.go();
        spawned
    });
    assert_eq!((launched, launcher.note()), (text.clone(), None), "through the launcher it is the same");
    text
}

#[test]
fn what_a_worker_of_a_user_inherits() {
    let name = "what_a_worker_of_a_user_inherits";
    if root_or_skip(name) {
        let text = alone(&format!("os::spawn::tests::inheritance::{name}"), || inherit(&as_user("nobody")));
        golden("worker-of-a-user.txt", text);
    }
}

#[test]
fn what_a_worker_of_root_inherits() {
    let name = "what_a_worker_of_root_inherits";
    if root_or_skip(name) {
        let text = alone(&format!("os::spawn::tests::inheritance::{name}"), || inherit(&Account::default()));
        golden("worker-of-root.txt", text);
    }
}

/// As root this runs a supd of nobody's, so that one golden file is right on every machine.
#[test]
fn what_a_worker_of_an_ordinary_supd_inherits() {
    let name = "os::spawn::tests::inheritance::what_a_worker_of_an_ordinary_supd_inherits";
    golden("worker-of-an-ordinary-supd.txt", alone_as(name, NOBODY, || inherit(&Account::default())));
}
