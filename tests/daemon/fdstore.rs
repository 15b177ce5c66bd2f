//! The descriptor store (FDSTORE=1 of sd_notify(3)) at the real supd, with a worker that a test moves by
//! strings (apps/puppet.py): what is kept, who gets it next, and that nothing else stays open.

use crate::notify::{Puppet, Stage};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Test, proc, test};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("fdstore::a_connection_outlives_its_worker", a_connection_outlives_its_worker),
        test("fdstore::names_and_order", names_and_order),
        test("fdstore::an_intercepted_server", an_intercepted_server),
        test("fdstore::each_worker_its_own", each_worker_its_own),
        test("fdstore::duplicates_and_bad_names", duplicates_and_bad_names),
        test("fdstore::full", full),
        test("fdstore::none_unless_the_unit_says_so", none_unless_the_unit_says_so),
        test("fdstore::hang_ups", hang_ups),
        test("fdstore::removal", removal),
        test("fdstore::a_flood", a_flood),
        test("fdstore::closes_that_wait", closes_that_wait),
        test("fdstore::over_a_swap_and_back", over_a_swap_and_back),
        test("fdstore::back_by_itself", back_by_itself),
        test("fdstore::over_a_stop", over_a_stop),
        test("fdstore::for_the_generation_alone", for_the_generation_alone),
        test("fdstore::of_others", of_others),
    ]
}

/// What a worker's `make memfd` is in /proc.
const MEMFD: &str = "/memfd:state";

const MAX: &str = "FileDescriptorStoreMax = 16";

impl Stage {
    /// How many a generation has stored.
    fn stored(&self, generation: u64) -> Option<u64> {
        let now = self.now();
        let all = now.0["generations"].as_array()?;
        all.iter().find(|one| one["generation"] == generation)?["stored"].as_u64()
    }

    /// The one that serves has stored so many, once everything it said has counted.
    fn has_stored(&self, puppet: &mut Puppet, count: u64) {
        puppet.sync();
        let active = self.now().active().expect("an active generation");
        assert_eq!(self.stored(active), Some(count), "{}", self.supd.log());
    }

    /// The active generation's worker dies, and the next one is told to speak.
    pub(crate) fn killed(&self, puppet: &Puppet) -> Puppet {
        let before = self.now().active().expect("an active generation");
        proc::signal(puppet.pid, Signal::SIGKILL);
        wait_until("the old process to end", SOON, || !proc::alive(puppet.pid));
        let next = wait_for("another in its place", SOON, || {
            let now = self.now();
            let pid = now.pids_in(before).into_iter().find(|pid| *pid != puppet.pid);
            pid.filter(|_| now.state() == "active" && now.active() == Some(before))
        });
        self.puppet_of(next)
    }

    /// So many files of this kind supd itself has open.
    fn held(&self, kind: &str) -> usize {
        proc::files(self.supd.pid()).iter().filter(|file| file.starts_with(kind)).count()
    }

    fn rolled_back(&self) -> Puppet {
        // Python's own program is no pin.
        self.supd.ctl(&["rollback", "web", "--anyway"]).expect(0);
        self.of_active()
    }

    fn swapped(&self) -> Puppet {
        self.supd.ctl(&["swap", "web"]).expect(0);
        self.of_active()
    }

    fn of_active(&self) -> Puppet {
        let active = self.now().active().expect("an active generation");
        let pid = wait_for("its process", SOON, || self.now().pids_in(active).first().copied());
        self.puppet_of(pid)
    }
}

impl Puppet {
    /// Makes something, by the numbers of its descriptors.
    fn make(&mut self, kind: &str, text: &str) -> Vec<i32> {
        let made = self.ask(&json!(["make", kind, text]));
        serde_json::from_value(made).expect("numbers")
    }

    fn give(&mut self, text: &str, descriptors: &[i32]) {
        let mut request = vec![json!("give"), json!(text)];
        request.extend(descriptors.iter().map(|fd| json!(fd)));
        self.ask(&Value::from(request));
    }

    /// Stores a memfd of its own, whose content is its name.
    pub(crate) fn store(&mut self, name: &str) -> i32 {
        let fd = self.make("memfd", name)[0];
        self.give(&format!("FDSTORE=1\nFDNAME={name}"), &[fd]);
        fd
    }

    /// The names of what it was launched with; each is where it should be, and nothing else is open.
    fn given(&mut self) -> Vec<String> {
        let given = self.ask(&json!(["given"]));
        let names: Vec<String> = serde_json::from_value(given["names"].clone()).expect("names");
        assert_eq!(given["fds"].as_u64(), Some(names.len() as u64), "{given}");
        assert_eq!(given["inherited"].as_u64(), Some(names.len() as u64), "{given}");
        assert_eq!(given["mine"], !names.is_empty(), "{given}");
        names
    }

    /// The same, where all but the listeners are memfds that have their names in them.
    pub(crate) fn given_stores(&mut self, listeners: usize) -> Vec<String> {
        let names = self.given();
        for (place, name) in names.iter().enumerate().skip(listeners) {
            assert_eq!(self.ask(&json!(["content", place + 3])), json!(name), "{names:?}");
        }
        names.into_iter().skip(listeners).collect()
    }
}

/// A worker is killed while a client waits for its answer: the next one gets the connection, and answers.
fn a_connection_outlives_its_worker() {
    let stage = Stage::serving(MAX);
    let mut client = TcpStream::connect(("127.0.0.1", stage.port)).expect("it listens");
    client.set_read_timeout(Some(SOON)).expect("a socket");
    let mut puppet = stage.puppet();
    assert_eq!(puppet.ask(&json!(["given"]))["fdstore"], "16");
    let connection = puppet.make("accepted", "");
    puppet.give("FDSTORE=1\nFDNAME=client", &connection);
    let state = puppet.store("state");
    puppet.ask(&json!(["close", state]));
    stage.has_stored(&mut puppet, 2);

    let mut next = stage.killed(&puppet);
    assert_eq!(next.given(), ["http", "client", "state"]);
    assert_eq!(next.ask(&json!(["content", 5])), "state");
    client.write_all(b"?").expect("the connection lives");
    next.ask(&json!(["write", 4, "hello"]));
    let mut answer = [0; 5];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"hello");
}

/// LISTEN_FDS counts all, the listeners first and in the file's order, then what was stored as it came.
fn names_and_order() {
    let stage = Stage::new();
    let admin = format!(
        "[[Socket]]\nName = \"admin\"\nListenStream = \"127.0.0.1:{}\"\n\n[Service]",
        crate::harness::free_port()
    );
    let unit = stage.unit(&["READY=1"], MAX).replacen("[Service]", &admin, 1);
    stage.supd.launch("web", &unit);
    let mut puppet = stage.puppet();
    assert_eq!(puppet.given_stores(2), [""; 0]);
    let all = ["zeta", "alpha", "mid dle", "beta"];
    for name in all {
        puppet.store(name);
    }
    let two = [puppet.make("memfd", "two")[0], puppet.make("memfd", "two")[0]];
    puppet.give("FDSTORE=1\nFDNAME=two", &two);
    stage.has_stored(&mut puppet, 6);
    let mut next = stage.killed(&puppet);
    assert_eq!(next.given_stores(2), ["zeta", "alpha", "mid dle", "beta", "two", "two"]);
    assert_eq!(next.given()[..2], ["http", "admin"]);
    let mut third = stage.killed(&next);
    assert_eq!(third.given_stores(2).len(), 6, "it is kept for whoever comes next, too");
}

/// One that binds for itself is told of no listener, and gets what was stored from 3 on.
fn an_intercepted_server() {
    let stage = Stage::serving(&format!("{MAX}\nHandoff = \"intercept\"\nReady = \"notify\""));
    let mut puppet = stage.puppet();
    assert_eq!(puppet.given_stores(0), [""; 0]);
    puppet.store("one");
    puppet.store("two");
    stage.has_stored(&mut puppet, 2);
    let mut next = stage.killed(&puppet);
    assert_eq!(next.given_stores(0), ["one", "two"]);
}

fn each_worker_its_own() {
    let stage = Stage::serving(&format!("{MAX}\nWorkers = 2"));
    let [first, second] = stage.now().pids()[..] else { panic!("two processes") };
    let (mut first, mut second) = (stage.puppet_of(first), stage.puppet_of(second));
    first.store("first");
    second.store("second");
    stage.has_stored(&mut first, 2);
    stage.has_stored(&mut second, 2);
    let replaced = |old: &Puppet, other: &Puppet| {
        proc::signal(old.pid, Signal::SIGKILL);
        let next = wait_for("another in its place", SOON, || {
            let now = stage.now();
            let next = now.pids().into_iter().find(|pid| ![old.pid, other.pid].contains(pid));
            next.filter(|_| now.state() == "active" && now.pids().len() == 2)
        });
        stage.puppet_of(next)
    };
    let mut next = replaced(&first, &second);
    assert_eq!(next.given_stores(1), ["first"]);
    assert_eq!(replaced(&second, &next).given_stores(1), ["second"]);
}

/// One open file is kept once, whatever it is called; a name that cannot stand in LISTEN_FDNAMES is none.
fn duplicates_and_bad_names() {
    let stage = Stage::serving(MAX);
    let mut puppet = stage.puppet();
    let fd = puppet.store("a");
    puppet.give("FDSTORE=1\nFDNAME=b", &[fd, fd]);
    stage.has_stored(&mut puppet, 1);
    // Two that share an inode are two.
    let null = [puppet.make("null", "")[0], puppet.make("null", "")[0]];
    puppet.give("FDSTORE=1", &null);
    stage.has_stored(&mut puppet, 3);
    for name in ["a:b", "tab\tin it", "größe", "", &"x".repeat(256)] {
        let fd = puppet.make("null", "")[0];
        puppet.give(&format!("FDSTORE=1\nFDNAME={name}"), &[fd]);
    }
    let longest = "x".repeat(255);
    puppet.store(&longest);
    stage.has_stored(&mut puppet, 9);
    let mut next = stage.killed(&puppet);
    let mut wanted = vec!["http", "a"];
    wanted.extend(["stored"; 7]);
    wanted.push(&longest);
    assert_eq!(next.given(), wanted);
    // What it was given it may give back: it is there already.
    next.give("FDSTORE=1\nFDNAME=again", &[4, 5]);
    stage.has_stored(&mut next, 9);
}

/// What does not fit is closed at once, and that is told.
fn full() {
    let stage = Stage::serving("FileDescriptorStoreMax = 2");
    let mut puppet = stage.puppet();
    let pair = puppet.make("pair", "");
    let others = [puppet.make("null", "")[0], puppet.make("null", "")[0], pair[0]];
    puppet.give("FDSTORE=1\nFDNAME=many", &others);
    stage.has_stored(&mut puppet, 2);
    stage.logged("1 descriptors to be stored were closed: the store of worker 0 is full");
    puppet.ask(&json!(["close", pair[0]]));
    assert_eq!(puppet.ask(&json!(["hung_up", pair[1]])), true, "nobody has its other end");
    let mut next = stage.killed(&puppet);
    assert_eq!(next.given(), ["http", "many", "many"]);
}

fn none_unless_the_unit_says_so() {
    let stage = Stage::serving("");
    let mut puppet = stage.puppet();
    assert_eq!(puppet.ask(&json!(["given"]))["fdstore"], Value::Null);
    for _ in 0..20 {
        puppet.store("state");
    }
    puppet.sync();
    assert_eq!(stage.held(MEMFD), 0);
    assert_eq!(stage.supd.log().matches("FileDescriptorStoreMax is 0").count(), 1, "{}", stage.supd.log());
    assert_eq!(stage.now().0["generations"][0]["stored"], Value::Null);
    let mut next = stage.killed(&puppet);
    assert_eq!(next.given(), ["http"]);
}

/// What hangs up is closed, now or later; but for FDPOLL=0.
fn hang_ups() {
    let stage = Stage::serving(MAX);
    let mut puppet = stage.puppet();
    for (poll, stays) in [("", 0), ("\nFDPOLL=0", 1)] {
        for early in [true, false] {
            let pair = puppet.make("pair", "");
            if early {
                puppet.ask(&json!(["close", pair[1]]));
            }
            puppet.give(&format!("FDSTORE=1\nFDNAME=pair{poll}"), &pair[..1]);
            puppet.ask(&json!(["close", pair[0]]));
            if !early {
                puppet.sync();
                puppet.ask(&json!(["close", pair[1]]));
            }
        }
        puppet.sync();
        let active = stage.now().active().expect("an active generation");
        wait_until("those that hung up to be closed", SOON, || stage.stored(active) == Some(2 * stays));
    }
    // A client that talks is none that has hung up.
    let pair = puppet.make("pair", "");
    puppet.give("FDSTORE=1\nFDNAME=talks", &pair[..1]);
    puppet.ask(&json!(["write", pair[1], "hello"]));
    stage.has_stored(&mut puppet, 3);
    let mut next = stage.killed(&puppet);
    // Its far end was the worker's, and is gone with it.
    assert_eq!(next.given()[..3], ["http", "pair", "pair"]);
}

fn removal() {
    let stage = Stage::serving(MAX);
    let mut puppet = stage.puppet();
    for name in ["a", "b", "a", "c"] {
        puppet.store(name);
    }
    stage.has_stored(&mut puppet, 4);
    puppet.say("FDSTOREREMOVE=1");
    puppet.say("FDSTOREREMOVE=1\nFDNAME=other");
    stage.has_stored(&mut puppet, 4);
    puppet.say("FDSTOREREMOVE=1\nFDNAME=a");
    stage.has_stored(&mut puppet, 2);
    assert_eq!(stage.held(MEMFD), 2);
    let mut next = stage.killed(&puppet);
    assert_eq!(next.given_stores(1), ["b", "c"]);
}

/// Ten thousand messages cost a few lines of the log and sixteen descriptors; and supd goes on answering.
fn a_flood() {
    let stage = Stage::serving(MAX);
    let mut puppet = stage.puppet();
    puppet.sync();
    let (before, null) = (proc::descriptors(stage.supd.pid()), stage.held("/dev/null"));
    for _ in 0..10 {
        puppet.ask(&json!(["flood", 1_000, 10]));
        assert_eq!(stage.now().state(), "active");
    }
    stage.has_stored(&mut puppet, 16);
    assert_eq!(stage.held("/dev/null"), null + 16);
    wait_until("everything else to be closed", SOON, || proc::descriptors(stage.supd.pid()) <= before + 16);
    let told = stage.supd.log().matches("were closed").count();
    assert!((1..60).contains(&told), "{told} of them are told");
    puppet.say("FDSTOREREMOVE=1\nFDNAME=flood");
    stage.has_stored(&mut puppet, 0);
    assert_eq!(stage.held("/dev/null"), null);
}

/// The next generation begins with copies, and whatever becomes of these: what goes back gets what it had.
fn over_a_swap_and_back() {
    let stage = Stage::serving(MAX);
    let mut first = stage.puppet();
    first.store("a");
    first.store("b");
    stage.has_stored(&mut first, 2);
    let mut second = stage.swapped();
    assert_eq!(second.given_stores(1), ["a", "b"]);
    stage.has_stored(&mut second, 2);
    second.say("FDSTOREREMOVE=1\nFDNAME=a");
    second.store("poison");
    stage.has_stored(&mut second, 2);
    let mut again = stage.killed(&second);
    assert_eq!(again.given_stores(1), ["b", "poison"], "a relaunch has what its own generation stored");
    wait_until("the first to be gone", SOON, || !proc::alive(first.pid));

    assert_eq!(stage.rolled_back().given_stores(1), ["a", "b"]);
    stage.supd.ctl(&["restart", "web"]).expect(0);
    assert_eq!(stage.of_active().given_stores(1), ["a", "b"]);
}

/// A new generation that dies in its probation has not touched what the one before has.
fn back_by_itself() {
    let stage = Stage::serving(MAX);
    let mut first = stage.puppet();
    first.store("a");
    stage.has_stored(&mut first, 1);
    assert_eq!(stage.held(MEMFD), 1);
    let unit = stage.unit(&["READY=1"], &format!("{MAX}\nRestart = \"no\""));
    stage.supd.write_unit("web", &unit.replace("ProbationSec = \"200ms\"", "ProbationSec = \"30s\""));
    let swap = stage.supd.ctl_start(&["swap", "web"]);
    stage.supd.wait_for_state("web", "probation");
    let mut second = stage.of_active();
    assert_eq!(second.given_stores(1), ["a"]);
    second.say("FDSTOREREMOVE=1\nFDNAME=a");
    second.store("b");
    stage.has_stored(&mut second, 1);
    proc::signal(second.pid, Signal::SIGKILL);
    swap.finish(SOON).expect(6);
    let mut next = stage.killed(&first);
    assert_eq!(next.given_stores(1), ["a"]);
    // What the one that failed had stored is closed with it.
    wait_until("its descriptors to be closed", SOON, || stage.held(MEMFD) == 1);
}

/// A stop ends it, unless the unit says otherwise.
fn over_a_stop() {
    for (preserve, kept) in [("restart", &[][..]), ("yes", &["a"][..])] {
        let stage = Stage::new();
        let service = format!("{MAX}\nFileDescriptorStorePreserve = {preserve:?}");
        stage.supd.launch("web", &stage.unit(&["READY=1"], &service));
        let mut puppet = stage.puppet();
        puppet.store("a");
        stage.has_stored(&mut puppet, 1);
        stage.supd.ctl(&["stop", "web"]).expect(0);
        // The answer and the closing are of one turn, in no order.
        wait_until("what is not kept to be closed", SOON, || stage.held(MEMFD) == kept.len());
        stage.supd.ctl(&["start", "web"]).expect(0);
        assert_eq!(stage.of_active().given_stores(1), kept, "{preserve}");
        // A unit that is gone holds nothing.
        std::fs::remove_file(stage.supd.path().join("units/web.unit")).expect("a unit file");
        stage.supd.ctl(&["daemon-reload"]).expect(0);
        stage.supd.ctl(&["stop", "web"]).expect(0);
        wait_until("the unit to be forgotten", SOON, || stage.held(MEMFD) == 0);
    }
}

/// A socket may wait at its close for as long as whoever gave it wishes: neither supd nor the keeper does.
fn closes_that_wait() {
    let mut stage = Stage::serving(MAX);
    let mut puppet = stage.puppet();
    let keeper = stage.supd.keeper().expect("a keeper");
    let answers = |stage: &Stage| {
        let began = Instant::now();
        stage.supd.ctl(&["status"]).expect(0);
        assert!(began.elapsed() < Duration::from_secs(10), "supd stood still for {:?}", began.elapsed());
    };
    // The keeper is the last to have it.
    for _ in 0..3 {
        let waits = puppet.make("lingering", "")[0];
        puppet.give("FDSTORE=1\nFDNAME=x", &[waits]);
        stage.has_stored(&mut puppet, 1);
        puppet.ask(&json!(["close", waits]));
        puppet.give("FDSTOREREMOVE=1\nFDNAME=x", &[]);
        stage.has_stored(&mut puppet, 0);
        answers(&stage);
    }
    // supd is.
    for text in ["FDSTORE=1\nFDNAME=x", "STATUS=x", "FDSTORE=1\nFDNAME=:", "BARRIER=1", "FDSTORE=1\nFDNAME=y"]
    {
        let waits = puppet.make("lingering", "")[0];
        proc::signal(stage.supd.pid(), Signal::SIGSTOP);
        wait_until("supd to be stopped", SOON, || proc::is_stopped(stage.supd.pid()));
        puppet.give(text, &[waits]);
        puppet.ask(&json!(["close", waits]));
        puppet.give("FDSTOREREMOVE=1\nFDNAME=x", &[]);
        proc::signal(stage.supd.pid(), Signal::SIGCONT);
        answers(&stage);
    }
    stage.supd = stage.supd.crash_and_go_on();
    assert_eq!(stage.supd.keeper(), Some(keeper), "{}", stage.supd.log());
    assert_eq!(stage.supd.wait_for_state("web", "active").pids(), [puppet.pid], "{}", stage.supd.log());
    stage.supd.ctl(&["stop", "web"]).expect(0);
    answers(&stage);
}

/// FileDescriptorStorePreserve = "no": for its own next run, and for nobody else.
fn for_the_generation_alone() {
    let stage = Stage::serving(&format!("{MAX}\nFileDescriptorStorePreserve = \"no\""));
    let mut first = stage.puppet();
    first.store("a");
    stage.has_stored(&mut first, 1);
    let mut first = stage.killed(&first);
    assert_eq!(first.given_stores(1), ["a"]);
    let mut second = stage.swapped();
    assert_eq!(second.given_stores(1), [""; 0]);
    second.store("b");
    wait_until("the first to be gone", SOON, || !proc::alive(first.pid));
    assert_eq!(stage.rolled_back().given_stores(1), [""; 0]);
}

/// Neither a stranger nor an earlier generation puts anything into the store of who serves.
fn of_others() {
    let stage = Stage::new();
    let warm = |says: &[&str]| {
        let unit = stage.unit(says, &format!("{MAX}\nNotifyAccess = \"main\""));
        unit.replace("[Swap]", "[Swap]\nRetain = \"warm\"")
    };
    stage.supd.launch("web", &warm(&["READY=1"]));
    let mut first = stage.puppet();
    first.store("a");
    stage.has_stored(&mut first, 1);
    let child = u32::try_from(first.ask(&json!(["fork"])).as_u64().expect("a pid")).expect("a pid");
    let mut child = stage.puppet_of(child);
    child.store("of a child");
    child.sync();
    assert_eq!(stage.held(MEMFD), 1, "NotifyAccess is for messages of every kind");

    let mut second = stage.swapped();
    first.store("late");
    first.sync();
    let old = stage.now().retained().expect("a retained generation");
    assert_eq!(stage.stored(old), Some(2), "it stands by, and its store is its own");
    stage.has_stored(&mut second, 1);
    let mut next = stage.killed(&second);
    assert_eq!(next.given_stores(1), ["a"]);
}
