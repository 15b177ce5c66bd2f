//! What supd has of the kernel, stored by whoever started it as systemd stores it (sd_notify(3), FDSTORE=1): supd and
//! its keeper die at once, and nothing is lost.
#![allow(unsafe_code)]

use crate::harness::{Setup, Supd, free_port};
use crate::reexec::who;
use crate::survival::{address, loads, more, nothing_is_lost, serving};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tempfile::TempDir;

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    vec![
        test_with("manager_store::without_the_keeper", python, without_the_keeper),
        test_with("manager_store::without_ebpf", python, without_ebpf),
        test_with("manager_store::over_a_reexec", python, over_a_reexec),
        test_with("manager_store::what_generations_share", python, what_generations_share),
        test_with("manager_store::of_one_that_is_too_small", python, of_one_that_is_too_small),
        test_with("manager_store::what_is_closed_goes", python, what_is_closed_goes),
        test_with("manager_store::of_one_that_reads_slowly", python, of_one_that_reads_slowly),
        test_with("manager_store::of_rubbish", python, of_rubbish),
    ]
}

type Stored = Vec<(String, OwnedFd)>;

/// The descriptor store of a service manager, as systemd's: an open file is stored once, by its first name.
struct Manager {
    folder: TempDir,
    stored: Arc<Mutex<Stored>>,
    /// It reads nothing meanwhile.
    pauses: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn same(one: RawFd, other: RawFd) -> bool {
    let pid = std::process::id();
    // SAFETY: compares two numbers of this process's own table.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, 0, one, other) == 0 }
}

fn hear(socket: &UnixDatagram, stored: &Mutex<Stored>) {
    let mut bytes = [0; 4096];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut beside = nix::cmsg_space!([RawFd; 253]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let Ok(message) = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut beside), flags) else { return };
    let mut descriptors = Vec::new();
    for one in message.cmsgs().expect("all that came") {
        if let ControlMessageOwned::ScmRights(numbers) = one {
            // SAFETY: the kernel has just made them for us.
            descriptors.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = message.bytes;
    let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
    assert!(name.len() <= 255 && !name.contains(':'), "{name}");
    let mut stored = stored.lock().expect("the store");
    if text.contains("FDSTORE=1") {
        assert!(text.contains("FDPOLL=0"), "{text}");
        for fd in descriptors {
            if !stored.iter().any(|(_, known)| same(known.as_raw_fd(), fd.as_raw_fd())) {
                stored.push((name.clone(), fd));
            }
        }
    } else if text.contains("FDSTOREREMOVE=1") {
        stored.retain(|(known, _)| *known != name);
    }
}

impl Manager {
    fn new() -> Self {
        let folder = crate::harness::folder();
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        let (stored, pauses, ends) = (Arc::<Mutex<Stored>>::default(), Arc::default(), Arc::default());
        let all: (Arc<Mutex<Stored>>, Arc<AtomicBool>, Arc<AtomicBool>) =
            (Arc::clone(&stored), Arc::clone(&pauses), Arc::clone(&ends));
        let thread = std::thread::spawn(move || {
            let (stored, pauses, ends) = all;
            while !ends.load(Ordering::Relaxed) {
                let mut entry =
                    [nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&socket), nix::poll::PollFlags::POLLIN)];
                let _ = nix::poll::poll(&mut entry, 10_u8);
                if !pauses.load(Ordering::Relaxed) {
                    hear(&socket, &stored);
                }
            }
        });
        Self { folder, stored, pauses, ends, thread: Some(thread) }
    }

    fn environment(&self) -> Vec<String> {
        let place = format!("NOTIFY_SOCKET={}", self.folder.path().join("notify").display());
        vec!["env".to_owned(), place, "FDSTORE=1000".to_owned()]
    }

    fn start(&self, more: &[&str]) -> Supd {
        let wrapper = self.environment().into_iter().chain(more.iter().map(|word| (*word).to_owned()));
        Supd::start_with(&Setup { wrapper: wrapper.collect(), ..Setup::default() })
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.stored.lock().expect("the store").iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// supd again, with what is stored for it.
    fn start_again(&self, mut supd: Supd, more: &[&str]) -> Supd {
        let stored = self.stored.lock().expect("the store");
        // Open in what is forked from here on.
        let copies: Vec<OwnedFd> = stored
            .iter()
            .map(|(_, fd)| {
                let number = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD(500)).expect("a copy");
                // SAFETY: it has just been made for us.
                unsafe { OwnedFd::from_raw_fd(number) }
            })
            .collect();
        let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
        let numbers: Vec<String> = copies.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
        let script = "import os,sys\n\
            fds=[int(n) for n in sys.argv[1].split(',') if n]\n\
            for at,fd in enumerate(fds): os.dup2(fd,3+at)\n\
            for fd in fds: os.close(fd)\n\
            os.environ.update(LISTEN_FDS=str(len(fds)),LISTEN_PID=str(os.getpid()),LISTEN_FDNAMES=sys.argv[2])\n\
            os.execvp(sys.argv[3],sys.argv[3:])";
        let words = ["python3", "-c", script, &numbers.join(","), &names.join(":")];
        let wrapper = self.environment().into_iter().chain(more.iter().map(|word| (*word).to_owned()));
        supd.setup.wrapper = wrapper.chain(words.map(str::to_owned)).collect();
        drop(names);
        drop(stored);
        let supd = supd.restart_ended();
        drop(copies);
        supd
    }

    /// supd and its keeper are gone in one moment, and supd comes again.
    fn both_die(&self, supd: Supd, more: &[&str]) -> Supd {
        let keeper = supd.keeper().expect("a keeper");
        proc::signal(supd.pid(), Signal::SIGSTOP);
        proc::signal(keeper, Signal::SIGKILL);
        proc::signal(supd.pid(), Signal::SIGKILL);
        wait_until("both to be gone", SOON, || supd.has_ended() && !proc::alive(keeper));
        self.start_again(supd, more)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        drop(self.thread.take().map(JoinHandle::join));
    }
}

const QUICK: &str = "ProbationSec = \"0\"\nRetain = \"warm\"";

fn goes_on(words: &[&str]) {
    let manager = Manager::new();
    let mut supd = manager.start(words);
    let port = serving(&supd, "Workers = 2", QUICK);
    let loads = loads(address(port));
    for version in ["2", "3"] {
        supd.install_worker(version);
        supd.ctl(&["swap", "web"]).expect(0);
        more(&loads);
        let before = who(&supd.status("web"));
        supd = manager.both_die(supd, words);
        more(&loads);
        assert_eq!(who(&supd.wait_for_state("web", "active")), before, "{}", supd.log());
    }
    supd.ctl(&["rollback", "web"]).expect(0);
    more(&loads);
    nothing_is_lost(loads);
}

fn without_the_keeper() {
    goes_on(&[]);
}

fn without_ebpf() {
    let root = nix::unistd::geteuid().is_root();
    goes_on(if root { &["setpriv", "--bounding-set=-bpf,-sys_admin"] } else { &[] });
}

/// The next image knows what is stored.
fn over_a_reexec() {
    let manager = Manager::new();
    let supd = manager.start(&[]);
    let port = serving(&supd, "Workers = 2", QUICK);
    let loads = loads(address(port));
    for version in ["2", "3", "4"] {
        supd.ctl(&["reexec"]).expect(0);
        supd.install_worker(version);
        supd.ctl(&["swap", "web"]).expect(0);
        more(&loads);
    }
    let words = || manager.names().iter().filter(|name| name.starts_with("supd-words-")).count();
    wait_until("what is old to go", SOON, || words() == 1);
    let before = who(&supd.status("web"));
    let supd = manager.both_die(supd, &[]);
    assert_eq!(who(&supd.wait_for_state("web", "active")), before, "{}", supd.log());
    nothing_is_lost(loads);
}

/// Stores some memory, unless it has it from before.
const STORES: &str = "
import os, socket, time
listener = socket.socket(fileno=3)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.connect(os.environ['NOTIFY_SOCKET'])
    if os.environ['LISTEN_FDS'] == '1':
        socket.send_fds(notify, [b'FDSTORE=1\\nFDNAME=state'], [os.memfd_create('state')])
    notify.send(b'READY=1')
while True:
    listener.accept()[0].close()
";

/// Each of them has it again.
fn what_generations_share() {
    let manager = Manager::new();
    let supd = manager.start(&[]);
    let (port, program) = (free_port(), supd.app().join("stores.py"));
    std::fs::write(&program, STORES).expect("a program");
    let unit = format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\n\
         ExecStart = [\"/usr/bin/python3\", \"-S\", {program:?}]\nFileDescriptorStoreMax = 4\n\n[Swap]\n{QUICK}\n"
    );
    supd.launch("web", &unit);
    supd.ctl(&["swap", "web"]).expect(0);
    let stored = |supd: &Supd| {
        let status = supd.status("web");
        let generations = status.0["generations"].as_array().cloned().unwrap_or_default();
        generations.iter().map(|one| one["stored"].as_u64().unwrap_or(0)).collect::<Vec<u64>>()
    };
    let before = stored(&supd);
    assert!(before.iter().all(|count| *count > 0), "{before:?}");
    let supd = manager.both_die(supd, &[]);
    supd.wait_for_state("web", "active");
    assert_eq!(stored(&supd), before, "{}", supd.log());
    assert!(!supd.log().contains("which was stored"), "{}", supd.log());
}

/// It is said, once; and what the keeper has is what counts.
fn of_one_that_is_too_small() {
    let manager = Manager::new();
    let supd = manager.start(&["FDSTORE=3"]);
    let port = serving(&supd, "Workers = 2", QUICK);
    let loads = loads(address(port));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let log = supd.log();
    assert_eq!(log.matches("raise FileDescriptorStoreMax=").count(), 1, "{log}");
    assert!(manager.names().len() <= 3, "{:?}", manager.names());
    let before = who(&supd.status("web"));
    proc::signal(supd.pid(), Signal::SIGKILL);
    wait_until("it to be gone", SOON, || supd.has_ended());
    let supd = manager.start_again(supd, &["FDSTORE=3"]);
    assert_eq!(who(&supd.wait_for_state("web", "active")), before, "{}", supd.log());
    more(&loads);
    nothing_is_lost(loads);
}

fn what_is_closed_goes() {
    let manager = Manager::new();
    let supd = manager.start(&[]);
    for _ in 0..3 {
        serving(&supd, "Workers = 2", QUICK);
        wait_until("it to be stored", SOON, || !manager.names().is_empty());
        supd.ctl(&["stop", "web", "--now"]).expect(0);
        wait_until("nothing to be stored", SOON, || manager.names().is_empty());
    }
    let port = serving(&supd, "Workers = 2", QUICK);
    let loads = loads(address(port));
    proc::signal(supd.pid(), Signal::SIGTERM);
    wait_until("supd to go", SOON, || supd.has_ended());
    let stored = manager.names();
    let supd = manager.start_again(supd, &[]);
    supd.wait_for_state("web", "active");
    more(&loads);
    // The keeper has it, and it is given again: the same files, and words of its own.
    wait_until("the words of the one before to go", SOON, || {
        let now = manager.names();
        let files = |all: &[String]| -> Vec<String> {
            all.iter().filter(|name| !name.starts_with("supd-words-")).cloned().collect()
        };
        now != stored && files(&now) == files(&stored)
    });
    nothing_is_lost(loads);
}

/// Nobody is kept waiting by it, and what it had no room for comes once it has.
fn of_one_that_reads_slowly() {
    let manager = Manager::new();
    let supd = manager.start(&[]);
    manager.pauses.store(true, Ordering::Relaxed);
    let port = serving(&supd, "Workers = 2", QUICK);
    for version in ["2", "3", "4", "5"] {
        supd.install_worker(version);
        let asked = supd.ctl(&["swap", "web"]).expect(0);
        assert!(asked.took < Duration::from_secs(5), "{asked}");
        wait_until("those before the last to end", SOON, || supd.status("web").pids().len() <= 4);
    }
    let loads = loads(address(port));
    manager.pauses.store(false, Ordering::Relaxed);
    // Whatever comes now comes after what it had no room for.
    supd.install_worker("6");
    supd.ctl(&["swap", "web"]).expect(0);
    let words = || manager.names().iter().filter(|name| name.starts_with("supd-words-")).count();
    let steady = || {
        let names = manager.names();
        holds_for("it to be read", Duration::from_millis(300), || true);
        words() == 1 && names == manager.names()
    };
    wait_until("it to have caught up", SOON, steady);
    let before = who(&supd.status("web"));
    let supd = manager.both_die(supd, &[]);
    assert_eq!(who(&supd.wait_for_state("web", "active")), before, "{}", supd.log());
    nothing_is_lost(loads);
}

/// What is there under supd's names may be anything.
fn of_rubbish() {
    let manager = Manager::new();
    let file = std::fs::File::open("/dev/null").expect("it is there");
    for name in ["supd-words-1", "supd-words-x", "supd-socket-1", "supd-", "other"] {
        let copy = std::fs::File::options().read(true).open("/dev/null").expect("it is there");
        manager.stored.lock().expect("the store").push((name.to_owned(), copy.into()));
    }
    drop(file);
    let supd = Supd::start();
    supd.ctl(&["shutdown"]).expect(0);
    let supd = manager.start_again(supd, &[]);
    serving(&supd, "Workers = 2", QUICK);
    wait_until("it to go", SOON, || !manager.names().iter().any(|name| name == "supd-words-x"));
    assert!(manager.names().contains(&"other".to_owned()));
}
