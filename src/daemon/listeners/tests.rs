//! Generations and their slots, on real sockets.

use super::Listeners;
use crate::codec::unitfile::{self, Sources as Files};
use crate::daemon::sources::{Source, Sources};
use crate::model::{Address, Generation, Settings, Tick, UnitName};
use crate::os::listener::{Queues, Traffic};
use nix::sys::socket::sockopt::ReusePort;
use nix::sys::socket::{Backlog, Shutdown, listen, setsockopt, shutdown};
use nix::sys::stat::fstat;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(20);

struct Stage {
    listeners: Listeners,
    sources: Sources,
    settings: Arc<Settings>,
    folder: tempfile::TempDir,
}

/// A port that somebody had a moment ago; whoever has it by now makes the bind fail, and it is tried again.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn settings(sockets: &str) -> Arc<Settings> {
    let text = format!("{sockets}\n[Service]\nReleases = false\nExecStart = [\"/bin/true\"]\n");
    let unit = UnitName::new("web").unwrap();
    let main = unitfile::Source::new("web.unit", text);
    let files = Files { unit, defaults: None, main, drop_ins: Vec::new() };
    Arc::new(unitfile::parse(&files).unwrap().settings)
}

impl Stage {
    fn new(steered: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let end = Instant::now() + LONG;
        loop {
            let (a, b, path) = (free(), free(), folder.path().join("s"));
            let settings = settings(&format!(
                "[[Socket]]\nName = \"a\"\nListenStream = \"{a}\"\n[[Socket]]\nName = \"b\"\nListenStream = \
                 \"{b}\"\n[[Socket]]\nName = \"c\"\nListenStream = \"{}\"\n",
                path.display()
            ));
            let mut listeners = Listeners::new(UnitName::new("web").unwrap());
            let mut sources = Sources::new().unwrap();
            let private = folder.path().join("private");
            match listeners.bind(&settings, steered, &private, &mut Vec::new(), &mut sources) {
                Ok(_) => {
                    assert_eq!(
                        listeners.listen(
                            std::slice::from_ref(&settings),
                            (Traffic::Open, Tick(0)),
                            &mut sources
                        ),
                        [""; 0]
                    );
                    return Self { listeners, sources, settings, folder };
                }
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
        }
    }

    fn lend(&mut self, generation: u64) {
        let Self { listeners, sources, settings, .. } = self;
        assert_eq!(listeners.lend(Generation(generation), settings, sources).unwrap(), [""; 0]);
    }

    fn switch(&mut self, active: u64, candidate: Option<(u64, &str)>) -> Result<Duration, String> {
        let candidate = candidate.map(|(candidate, share)| (Generation(candidate), share.parse().unwrap()));
        self.listeners.switch(Generation(active), candidate, (false, 1), &mut self.sources)
    }

    fn address(&self, n: usize) -> &Address {
        &self.settings.sockets[n].address
    }

    fn fd(&self, generation: u64, n: usize) -> BorrowedFd<'_> {
        self.listeners.fd(Generation(generation), self.address(n)).unwrap()
    }

    fn queue(&self, generation: u64, n: usize) -> u32 {
        self.listeners.queue_of(Generation(generation), self.address(n), &Queues::default()).unwrap()
    }

    /// Ten clients of each listener, all of which get to this generation; they are served.
    fn reach(&self, generation: u64) {
        for n in 0..3 {
            let before = self.queue(generation, n);
            for _ in 0..10 {
                match self.address(n) {
                    Address::Ip { host, port, .. } => {
                        TcpStream::connect_timeout(&SocketAddr::new(*host, *port), LONG).map(drop).unwrap();
                    }
                    _ => UnixStream::connect(self.folder.path().join("s")).map(drop).unwrap(),
                }
            }
            let end = Instant::now() + LONG;
            while self.queue(generation, n) < before + 10 {
                assert!(Instant::now() < end, "{} of generation {generation}", self.address(n));
                std::thread::yield_now();
            }
            for _ in 0..before + 10 {
                let fd = nix::sys::socket::accept(self.fd(generation, n).as_raw_fd()).unwrap();
                nix::unistd::close(fd).unwrap();
            }
        }
    }
}

#[test]
fn all_listeners_of_a_unit_switch_and_switch_back() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    stage.reach(1);
    stage.lend(2);
    stage.lend(2);
    stage.reach(1);
    for active in [2, 1, 2] {
        stage.switch(active, None).unwrap();
        stage.reach(active);
    }
    stage.switch(1, Some((2, "100"))).unwrap();
    stage.reach(2);
    let error = stage.switch(3, None).unwrap_err();
    assert!(error.contains("generation 3 has no slot"), "{error}");
    stage.reach(2);

    let Stage { listeners, sources, .. } = &mut stage;
    assert_eq!(listeners.give_back(Generation(1), sources), [""; 0]);
    assert!(!listeners.has_slot(Generation(1)) && listeners.has_slot(Generation(2)));
    stage.lend(3);
    stage.reach(2);
    stage.switch(3, None).unwrap();
    stage.reach(3);
    let words: Vec<&str> = stage.listeners.mechanisms().iter().map(|(_, how)| how.word()).collect();
    assert!(words == ["ebpf", "ebpf", "path"] || words == ["classic", "classic", "path"], "{words:?}");
}

#[test]
fn a_unit_that_is_not_steered_lends_one_slot_to_all() {
    let mut stage = Stage::new(false);
    stage.lend(1);
    stage.lend(2);
    stage.switch(2, None).unwrap();
    assert_eq!(stage.fd(1, 0).as_raw_fd(), stage.fd(2, 0).as_raw_fd());
    assert!(stage.listeners.mechanisms().iter().all(|(_, how)| how.word() == "shared"));
}

#[test]
fn if_one_listener_cannot_switch_none_does() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    stage.lend(2);
    // Workers have locked both slots of the second; the first and the path could switch.
    for generation in [1, 2] {
        crate::os::listener::lock_filter(stage.fd(generation, 1));
    }
    let error = stage.switch(2, None).unwrap_err();
    assert!(error.contains("SO_LOCK_FILTER"), "{error}");
    stage.reach(1);
}

#[test]
fn whoever_comes_after_a_candidate_does_not_receive_its_share() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    stage.lend(2);
    stage.switch(1, Some((2, "99"))).unwrap();
    let Stage { listeners, sources, .. } = &mut stage;
    assert_eq!(listeners.give_back(Generation(2), sources), [""; 0]);
    stage.lend(3);
    stage.reach(1);
}

/// Where only one may run, and that one fails: also while the one before is still on its way out.
#[test]
fn where_all_wait_for_one_they_wait_on_for_the_next() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    stage.lend(2);
    stage.switch(1, Some((2, "100"))).unwrap();
    stage.reach(2);
    let Stage { listeners, sources, .. } = &mut stage;
    assert_eq!(listeners.give_back(Generation(2), sources), [""; 0]);
    stage.lend(3);
    stage.reach(3);
}

#[test]
fn a_generation_that_is_alone_has_what_waits() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    let Stage { listeners, sources, .. } = &mut stage;
    let Address::Ip { host, port, .. } = listeners.mechanisms()[0].0 else { panic!("no port") };
    let _waiting = TcpStream::connect(SocketAddr::new(host, port)).unwrap();
    listeners.give_back(Generation(1), sources);
    stage.lend(2);
    assert_eq!(stage.queue(2, 0), 1);
    stage.reach(2);
}

#[test]
fn whoever_is_launched_again_has_what_waits_for_it() {
    let mut stage = Stage::new(true);
    (1..=3).for_each(|generation| stage.lend(generation));
    let path = stage.folder.path().join("s");
    let mut waiting = Vec::new();
    for (generation, clients) in [(2, 1), (3, 2)] {
        stage.switch(1, Some((generation, "100"))).unwrap();
        waiting.extend((0..clients).map(|_| UnixStream::connect(&path).unwrap()));
    }
    stage.switch(1, None).unwrap();
    waiting.push(UnixStream::connect(&path).unwrap());
    let left = |stage: &Stage| [1, 2, 3, 4].map(|it| stage.listeners.left_to(Generation(it)));
    assert_eq!(left(&stage), [0; 4], "they live");
    for generation in [2, 3] {
        let Stage { listeners, sources, .. } = &mut stage;
        assert_eq!(listeners.give_back(Generation(generation), sources), [""; 0]);
    }
    assert_eq!(left(&stage), [0, 1, 2, 0]);
    stage.lend(3);
    assert_eq!((stage.queue(3, 2), left(&stage)), (2, [0, 1, 0, 0]));
    // A new one has what else waits; it is not two generations' then.
    stage.lend(4);
    assert_eq!((stage.queue(4, 2), left(&stage)), (1, [0; 4]));
    let Stage { listeners, sources, settings, .. } = &mut stage;
    let error = listeners.lend(Generation(2), settings, sources).unwrap_err();
    assert!(error.contains("another generation has the slot that generation 2 had"), "{error}");
    // Where new connections are led, whoever comes next is expected anyway.
    listeners.give_back(Generation(1), sources);
    assert_eq!(left(&stage), [0; 4]);
}

#[test]
fn a_standby_that_shuts_its_slot_down_listens_again() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    stage.lend(2);
    shutdown(stage.fd(2, 0).as_raw_fd(), Shutdown::Both).unwrap();
    let Stage { listeners, sources, .. } = &mut stage;
    let notes = listeners.revive(Tick(1), false, sources);
    assert!(notes.len() == 1 && notes[0].contains("it listens again"), "{notes:?}");
    stage.reach(1);
    stage.switch(2, None).unwrap();
    stage.reach(2);
}

/// A listen(2) that fails is in force for an instant, and then over without a word: if supd looks just then, nothing
/// is wrong. It looks again.
#[test]
fn one_that_is_shut_without_a_word_listens_again() {
    let mut stage = Stage::new(true);
    stage.lend(1);
    stage.lend(2);
    let fd = stage.fd(1, 0).try_clone_to_owned().unwrap();
    let Stage { listeners, sources, .. } = &mut stage;
    assert_eq!((listeners.deadline(), listeners.heard(Tick(0), sources)), (None, vec![]));
    shutdown(fd.as_raw_fd(), Shutdown::Both).unwrap();
    let mut looks = 0;
    while let Some(due) = listeners.deadline() {
        let notes = listeners.look_again(due, sources);
        let expected = usize::from(looks == 0);
        assert_eq!(
            notes.iter().filter(|note| note.contains("it listens again")).count(),
            expected,
            "{notes:?}"
        );
        looks += 1;
        assert!(looks < 20, "supd never rests");
    }
    stage.reach(1);
}

/// Two that were shut down and listen again before anybody looked are taken out and put back (slots_hostile), and
/// what a worker has taken from its slot meanwhile does not keep it out.
#[test]
fn one_that_lost_its_part_of_the_port_is_put_back() {
    let body = || {
        // Capabilities are the thread's: without eBPF the kernel goes by places.
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let mut stage = Stage::new(true);
        (1..=3).for_each(|generation| stage.lend(generation));
        for generation in [2, 3] {
            let fd = stage.fd(generation, 0);
            shutdown(fd.as_raw_fd(), Shutdown::Both).unwrap();
            listen(&fd, Backlog::new(64).unwrap()).unwrap();
        }
        setsockopt(&stage.fd(2, 0), ReusePort, &false).unwrap();
        assert_eq!(stage.listeners.lead_again(), [""; 0], "nobody is led there");
        for active in [2, 3, 1] {
            stage.switch(active, None).unwrap();
            stage.reach(active);
        }
    };
    std::thread::spawn(body).join().unwrap();
}

/// Without eBPF a slot that is free gets another socket for whoever is lent it next.
#[test]
fn whoever_has_a_slot_that_was_used_before_is_heard_as_well() {
    let body = || {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        let mut stage = Stage::new(true);
        (1..=2).for_each(|generation| stage.lend(generation));
        let deaf = Source::Deaf(UnitName::new("web").unwrap());
        for (leaves, comes, tick) in [(1, 3, 1), (2, 4, 2), (3, 5, 3)] {
            stage.switch(comes - 1, None).unwrap();
            let before = fstat(stage.fd(leaves, 0)).unwrap().st_ino;
            let Stage { listeners, sources, .. } = &mut stage;
            assert_eq!(listeners.give_back(Generation(leaves), sources), [""; 0]);
            stage.lend(comes);
            assert_ne!(fstat(stage.fd(comes, 0)).unwrap().st_ino, before, "nothing is shown then");
            assert_eq!(copies(before), 0, "the socket before is closed");
            stage.switch(comes, None).unwrap();
            // What the socket before said at its end is no news.
            while !stage.sources.wait(Some(Duration::ZERO)).unwrap().sources.is_empty() {}
            shutdown(stage.fd(comes, 0).as_raw_fd(), Shutdown::Both).unwrap();
            let end = Instant::now() + LONG;
            while !stage.sources.wait(Some(LONG)).unwrap().sources.contains(&deaf) {
                assert!(Instant::now() < end, "nobody says that generation {comes} was shut down");
            }
            let Stage { listeners, sources, .. } = &mut stage;
            let notes = listeners.revive(Tick(tick), false, sources);
            assert!(notes.len() == 1 && notes[0].contains("it listens again"), "{notes:?}");
            stage.reach(comes);
        }
    };
    std::thread::spawn(body).join().unwrap();
}

/// How many descriptors of this process are this socket.
fn copies(inode: u64) -> usize {
    let name = format!("socket:[{inode}]");
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let is =
        |path: std::path::PathBuf| std::fs::read_link(path).is_ok_and(|to| to.as_os_str() == name.as_str());
    all.filter(|entry| is(entry.as_ref().unwrap().path())).count()
}

#[test]
fn there_are_sixteen_slots_and_no_more() {
    let mut stage = Stage::new(true);
    (1..=16).for_each(|generation| stage.lend(generation));
    let Stage { listeners, sources, settings, .. } = &mut stage;
    let error = listeners.lend(Generation(17), settings, sources).unwrap_err();
    assert!(error.contains("all 16 slots are lent"), "{error}");
    stage.reach(1);
    stage.switch(16, None).unwrap();
    stage.reach(16);
    let Stage { listeners, sources, .. } = &mut stage;
    assert_eq!(listeners.unlisten(Tick(0), sources), [""; 0]);
    let mut faults = Vec::new();
    assert!(listeners.look(Tick(1), &mut faults) && faults.is_empty(), "{faults:?}");
}
