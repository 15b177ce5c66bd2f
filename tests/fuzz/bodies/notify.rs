//! Notify datagrams, through the real socket and then as text. The length says how many descriptors
//! go with one.
//!
//! A datagram is dropped whole for a reason, or arrives as it was sent. What it says has an order and
//! bounds of its own, is safe on a terminal, is the same without the lines that mean nothing, in
//! whatever order its keys stand, and says the same once it is written anew.

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use supd::codec::notify::{Message, Store, TEXT_MAX, WARNINGS_MAX, parse};
use supd::model::Notice;
use supd::model::settings::NotifyAccess;
use supd::os::notify::{DATAGRAM_MAX, Dropped, NotifySocket, Received};

const KEYS: [&str; 22] = [
    "BARRIER",
    "MAINPID",
    "MAINPIDFD",
    "MAINPIDFDID",
    "NOTIFYACCESS",
    "READY",
    "RELOADING",
    "STOPPING",
    "MONOTONIC_USEC",
    "STATUS",
    "ERRNO",
    "BUSERROR",
    "VARLINKERROR",
    "EXIT_STATUS",
    "EXTEND_TIMEOUT_USEC",
    "WATCHDOG_USEC",
    "WATCHDOG",
    "FDSTORE",
    "FDSTOREREMOVE",
    "FDNAME",
    "FDPOLL",
    "RESTART_RESET",
];

/// A socket, and a client of it.
struct Bench {
    socket: NotifySocket,
    client: UnixDatagram,
    null: File,
    _folder: tempfile::TempDir,
}

thread_local! {
    static BENCH: Bench = {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = NotifySocket::bind(&folder.path().join("web.1")).expect("a socket");
        let client = UnixDatagram::unbound().expect("a client");
        Bench { socket, client, null: File::open("/dev/null").expect("/dev/null"), _folder: folder }
    };
}

/// # Panics
/// One of the rules above does not hold.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    let descriptors = data.len() % 3;
    let arrived = BENCH.with(|bench| bench.pass(data, descriptors));
    assert_eq!(arrived, expected(data));
    // A text that would have been dropped is as good as any other for what follows.
    let text = String::from_utf8_lossy(data);
    (0..=2).fold(false, |any, descriptors| says(&text, descriptors) | any) && arrived.is_ok()
}

impl Bench {
    fn pass(&self, data: &[u8], descriptors: usize) -> Result<String, Dropped> {
        let to = UnixAddr::new(self.socket.path()).expect("a short path");
        let numbers = vec![self.null.as_raw_fd(); descriptors];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let with = if descriptors == 0 { &[][..] } else { &rights[..] };
        let pieces = [IoSlice::new(data)];
        let sent = sendmsg(self.client.as_raw_fd(), &pieces, with, MsgFlags::empty(), Some(&to));
        assert_eq!(sent, Ok(data.len()));
        let received = self.socket.receive().expect("a datagram");
        assert!(matches!(self.socket.receive(), Ok(Received::Nothing)), "one datagram came as two");
        match received {
            Received::Nothing => panic!("it did not arrive"),
            Received::Dropped { why, pid } => {
                assert_eq!(pid, nix::unistd::getpid().as_raw());
                Err(why)
            }
            Received::Datagram(datagram) => {
                assert_eq!(datagram.descriptors.len(), descriptors);
                Ok(datagram.text)
            }
        }
    }
}

fn expected(data: &[u8]) -> Result<String, Dropped> {
    if data.len() > DATAGRAM_MAX {
        return Err(Dropped::TooLong);
    }
    let text = data.strip_suffix(&[0]).unwrap_or(data);
    if text.contains(&0) {
        return Err(Dropped::Nul);
    }
    String::from_utf8(text.to_vec()).map_err(|_| Dropped::NotUtf8)
}

/// Whether it says anything.
fn says(text: &str, descriptors: usize) -> bool {
    let message = parse(text, descriptors);
    bounds_hold(&message);
    let silence = Message { warnings: message.warnings.clone(), ..Message::default() };
    if text.split('\n').any(|line| line == "BARRIER=1") {
        let alone = text.split('\n').filter(|line| !line.is_empty()).count() == 1;
        let barrier = alone && descriptors == 1;
        assert_eq!(message, Message { barrier, ..silence });
        assert_eq!(barrier, message.warnings.is_empty());
        return barrier;
    }
    assert!(!message.barrier);
    // The first of each key, backwards.
    let key = |line: &&str| KEYS.iter().position(|key| line.split_once('=').is_some_and(|(k, _)| k == *key));
    let mut firsts: Vec<(usize, &str)> = Vec::new();
    for (key, line) in text.split('\n').filter_map(|line| key(&line).map(|key| (key, line))) {
        if firsts.iter().all(|(other, _)| *other != key) {
            firsts.insert(0, (key, line));
        }
    }
    let backwards: Vec<&str> = firsts.iter().map(|(_, line)| *line).collect();
    assert_eq!(parse(&backwards.join("\n"), descriptors), message);
    let anew = parse(&written(&message), descriptors);
    assert_eq!(
        (anew.notices, anew.main, anew.store),
        (trimmed(&message), message.main.clone(), message.store.clone())
    );
    message != silence
}

fn bounds_hold(message: &Message) {
    assert!(message.warnings.len() <= WARNINGS_MAX);
    for warning in &message.warnings {
        assert!(warning.len() <= 200 && !warning.contains(char::is_control), "{warning:?}");
    }
    let ranks: Vec<u8> = message.notices.iter().map(rank).collect();
    // Two kinds of error have one place.
    let ascends = |pair: &[u8]| pair[0] < pair[1] || pair == [5, 5];
    assert!(ranks.windows(2).all(ascends) && !ranks.windows(3).any(|three| three == [5, 5, 5]), "{ranks:?}");
    for notice in &message.notices {
        match notice {
            Notice::Status(text) | Notice::Error(text) => {
                assert!(text.len() <= TEXT_MAX && !text.contains(char::is_control), "{text:?}");
                assert!(!text.contains(|c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')));
            }
            Notice::Errno(errno) => assert!((0..=4095).contains(errno)),
            Notice::ExitStatus(status) => assert!((0..=255).contains(status)),
            Notice::MainPid(_) => panic!("a claim that nobody checked"),
            Notice::Stopping => assert!(!message.notices.contains(&Notice::Ready)),
            _ => {}
        }
    }
    if let Some(claim) = &message.main {
        assert!(claim.pid.is_some_and(|pid| pid > 0) || claim.by_descriptor);
    }
    if let Some(Store::Keep { name, .. } | Store::Remove { name }) = &message.store {
        assert!((1..=255).contains(&name.len()) && !name.contains(|c: char| c == ':' || c.is_control()));
    }
}

/// The place of a notice among the others.
fn rank(notice: &Notice) -> u8 {
    match notice {
        Notice::NotifyAccess(_) => 0,
        Notice::Stopping | Notice::Reloading { .. } => 1,
        Notice::Ready => 2,
        Notice::Status(_) => 3,
        Notice::Errno(_) => 4,
        Notice::Error(_) => 5,
        Notice::ExitStatus(_) => 6,
        Notice::ExtendTimeout(_) => 7,
        Notice::WatchdogPeriod(_) => 8,
        Notice::Watchdog | Notice::WatchdogTrigger => 9,
        Notice::RestartReset => 10,
        Notice::MainPid(_) => 10,
    }
}

/// A datagram that says this.
fn written(message: &Message) -> String {
    let mut lines: Vec<String> = Vec::new();
    if let Some(claim) = &message.main {
        lines.extend(claim.pid.map(|pid| format!("MAINPID={pid}")));
        lines.extend(claim.inode.map(|inode| format!("MAINPIDFDID={inode}")));
        lines.extend(claim.by_descriptor.then(|| "MAINPIDFD=1".to_owned()));
    }
    let mut error_keys = ["BUSERROR", "VARLINKERROR"].into_iter();
    for notice in &message.notices {
        lines.push(match notice {
            Notice::NotifyAccess(access) => format!("NOTIFYACCESS={}", access_word(*access)),
            Notice::Ready => "READY=1".into(),
            Notice::Reloading { monotonic_usec: Some(usec) } => format!("MONOTONIC_USEC={usec}\nRELOADING=1"),
            Notice::Reloading { monotonic_usec: None } => "RELOADING=1".into(),
            Notice::Stopping => "STOPPING=1".into(),
            Notice::Status(text) => format!("STATUS={text}"),
            Notice::Errno(errno) => format!("ERRNO={errno}"),
            Notice::Error(text) => format!("{}={text}", error_keys.next().expect("two errors at most")),
            Notice::ExitStatus(status) => format!("EXIT_STATUS={status}"),
            Notice::MainPid(pid) => format!("MAINPID={pid}"),
            Notice::Watchdog => "WATCHDOG=1".into(),
            Notice::WatchdogTrigger => "WATCHDOG=trigger".into(),
            Notice::RestartReset => "RESTART_RESET=1".into(),
            Notice::WatchdogPeriod(period) => format!("WATCHDOG_USEC={}", period.as_micros()),
            Notice::ExtendTimeout(more) => format!("EXTEND_TIMEOUT_USEC={}", more.as_micros()),
        });
    }
    match &message.store {
        Some(Store::Keep { name, poll }) => {
            lines.extend([
                "FDSTORE=1".into(),
                format!("FDNAME={name}"),
                format!("FDPOLL={}", u8::from(*poll)),
            ]);
        }
        Some(Store::Remove { name }) => lines.extend(["FDSTOREREMOVE=1".into(), format!("FDNAME={name}")]),
        None => {}
    }
    lines.join("\n")
}

/// The notices; spaces at the end of a text, which an escape sequence may have left there, go.
fn trimmed(message: &Message) -> Vec<Notice> {
    let trim = |notice: &Notice| match notice {
        Notice::Status(text) => Notice::Status(text.trim_end().into()),
        Notice::Error(text) => Notice::Error(text.trim_end().into()),
        other => other.clone(),
    };
    message.notices.iter().map(trim).collect()
}

fn access_word(access: NotifyAccess) -> &'static str {
    match access {
        NotifyAccess::None => "none",
        NotifyAccess::Main => "main",
        NotifyAccess::Exec => "exec",
        NotifyAccess::All => "all",
    }
}
