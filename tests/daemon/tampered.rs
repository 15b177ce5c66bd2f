//! What a worker does to the sockets that it was lent, by calls that supd cannot hinder: it is of no account for the
//! others.

use crate::harness::{Setup, Supd, free_port};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Need, Test, proc, test_with};
use nix::sys::signal::Signal;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let python = &[Need::File("/usr/bin/python3", "apt-get install python3")];
    let root = &[Need::File("/usr/bin/python3", "apt-get install python3"), Need::Root];
    vec![
        test_with("tampered::a_tied_standby", python, || of_each(a_tied_standby)),
        test_with("tampered::a_tied_one_where_all_have_an_interface", root, a_tied_one_at_an_interface),
        test_with("tampered::a_held_one_at_an_interface", root, || of_each(a_held_one_at_an_interface)),
        test_with("tampered::an_active_one_at_an_interface", root, || of_each(an_active_one_at_an_interface)),
        test_with("tampered::a_path_that_is_shut_is_no_way_back", python, || of_each(a_shut_path)),
        test_with("tampered::a_shut_path_leaves_the_others_theirs", python, || of_each(others_keep_theirs)),
        test_with("tampered::a_path_that_died_with_its_worker", python, || of_each(a_path_that_died)),
        test_with("tampered::an_interface_cuts_nobody_off", python, || of_each(an_interface)),
    ]
}

/// By an eBPF program, and by a classic one.
fn of_each(test: fn(Supd)) {
    test(Supd::start());
    let root = nix::unistd::geteuid().is_root();
    let words = ["setpriv", "--bounding-set=-bpf,-sys_admin"].iter().filter(|_| root);
    let wrapper = words.map(|word| (*word).to_owned()).collect();
    test(Supd::start_with(&Setup { wrapper, ..Setup::default() }));
}

/// Where generation 1 serves, all three.
struct Stage {
    supd: Supd,
    port: u16,
}

impl Stage {
    fn serving(supd: Supd) -> Self {
        Self::at(supd, "")
    }

    /// With this for its UDP socket.
    fn at(supd: Supd, datagram: &str) -> Self {
        let (port, app) = (free_port(), supd.app());
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/tamper.py"), app.join("tamper.py"))
            .expect("a program");
        let unit = format!(
            "[[Socket]]\nName = \"stream\"\nListenStream = \"127.0.0.1:{port}\"\n\n\
             [[Socket]]\nName = \"datagram\"\nListenDatagram = \"127.0.0.1:{port}\"\n{datagram}\n\n\
             [[Socket]]\nName = \"path\"\nListenStream = {:?}\n\n[Service]\n\
             ExecStart = [\"/usr/bin/python3\", \"-S\", {:?}, {:?}]\nRestartSec = \"50ms\"\n\n[Swap]\n\
             Retain = \"warm\"\nProbationSec = \"200ms\"\nSettleSec = \"100ms\"\nDrainSec = \"500ms\"\n",
            supd.path().join("web.sock"),
            app.join("tamper.py"),
            app.join("orders")
        );
        supd.launch("web", &unit);
        Self { supd, port }
    }

    /// A generation does that to its sockets.
    fn orders(&self, generation: u64, what: &str) {
        let path = self.supd.app().join("orders");
        fs::write(&path, what).expect("a file");
        let pid = self.supd.status("web").pids_in(generation)[0];
        proc::signal(pid, Signal::SIGUSR1);
        if what.contains("die") {
            wait_until("it to die", SOON, || !proc::alive(pid));
        } else {
            wait_until("it to be done", SOON, || {
                fs::remove_file(self.supd.app().join("orders.done")).is_ok()
            });
        }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    fn by_stream(&self) -> Option<u64> {
        let mut stream = TcpStream::connect(self.address()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    }

    fn by_path(&self) -> Option<u64> {
        let mut stream = UnixStream::connect(self.supd.path().join("web.sock")).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.parse().ok()
    }

    fn by_datagram(&self) -> Option<u64> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        socket.send_to(b"who", self.address()).ok()?;
        let mut bytes = [0; 20];
        let length = socket.recv(&mut bytes).ok()?;
        String::from_utf8_lossy(&bytes[..length]).parse().ok()
    }

    /// Everybody gets to that one, wherever.
    fn all_get_to(&self, generation: u64) {
        for _ in 0..12 {
            let told = [self.by_stream(), self.by_datagram(), self.by_path()];
            assert_eq!(told, [Some(generation); 3], "TCP, UDP, path: {}", self.supd.log());
        }
    }
}

/// Its socket stays bound beside the others, and the kernel would make a row of it and of the next.
fn a_tied_standby(supd: Supd) {
    let stage = Stage::serving(supd);
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.supd.ctl(&["rollback", "web"]).expect(0);
    stage.all_get_to(1);
    stage.orders(2, "tie");
    let forward = |generation| {
        stage.supd.ctl(&["swap", "web"]).expect(0);
        stage.all_get_to(generation);
        stage.supd.ctl(&["rollback", "web"]).expect(0);
        stage.all_get_to(1);
    };
    forward(3);
    forward(4);
    let status = stage.supd.ctl(&["status", "web"]).expect(0);
    assert!(!status.text().contains("tied"), "{status}");
}

/// What is bound to an interface is put elsewhere by whoever may, CAP_NET_RAW or not.
fn a_tied_one_at_an_interface() {
    let wrapper = ["setpriv", "--bounding-set=-bpf,-sys_admin,-net_raw"].map(ToOwned::to_owned);
    let supd = Supd::start_with(&Setup { wrapper: wrapper.into(), ..Setup::default() });
    let stage = Stage::at(supd, "BindToDevice = \"lo\"");
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.supd.ctl(&["swap", "web", "--hold"]).expect(0);
    stage.orders(3, "tie");
    stage.supd.ctl(&["abort", "web"]).expect(0);
    for generation in 4..8 {
        stage.supd.ctl(&["swap", "web"]).expect(0);
        stage.all_get_to(generation);
    }
    stage.supd.ctl(&["rollback", "web"]).expect(0);
    stage.all_get_to(6);
}

/// It receives all that comes in there, until supd looks.
fn a_held_one_at_an_interface(supd: Supd) {
    let stage = Stage::serving(supd);
    stage.supd.ctl(&["swap", "web", "--hold"]).expect(0);
    stage.orders(2, "device");
    wait_until("the first to be who receives", SOON, || (0..12).all(|_| stage.by_datagram() == Some(1)));
    let refused = stage.supd.ctl(&["promote", "web"]).expect(1);
    assert!(refused.text().contains("bound it to an interface"), "{refused}");
    stage.all_get_to(1);
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.all_get_to(3);
}

/// The kernel prefers it for all that comes in there, as long as it is there.
fn an_active_one_at_an_interface(supd: Supd) {
    let stage = Stage::serving(supd);
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.orders(2, "device");
    stage.all_get_to(2);
    stage.supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    stage.all_get_to(3);
    stage.supd.ctl(&["wait", "web"]).expect(0);
    let refused = stage.supd.ctl(&["rollback", "web"]).expect(1);
    assert!(refused.text().contains("bound it to an interface"), "{refused}");
    stage.all_get_to(3);
}

fn a_shut_path(supd: Supd) {
    let stage = Stage::serving(supd);
    stage.orders(1, "shut");
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.all_get_to(2);
    let refused = stage.supd.ctl(&["rollback", "web"]).expect(1);
    assert!(refused.text().contains("a worker has shut it down"), "{refused}");
    stage.all_get_to(2);
}

/// A candidate that is held, and a standby, have what they had.
fn others_keep_theirs(supd: Supd) {
    let stage = Stage::serving(supd);
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.orders(2, "shut");
    stage.supd.ctl(&["swap", "web", "--hold"]).expect(0);
    assert_eq!((stage.by_path(), stage.by_stream()), (None, Some(2)), "nobody is led to who is held");
    stage.supd.ctl(&["abort", "web"]).expect(0);
    stage.supd.ctl(&["rollback", "web"]).expect(0);
    stage.all_get_to(1);
}

fn a_path_that_died(supd: Supd) {
    let stage = Stage::serving(supd);
    for _ in 0..2 {
        stage.orders(1, "shut die");
        wait_until("it to be launched again", SOON, || stage.by_path() == Some(1));
        stage.all_get_to(1);
    }
    stage.supd.ctl(&["swap", "web"]).expect(0);
    stage.all_get_to(2);
}

/// Whoever has listened all the time goes on, and who waits there waits on.
fn an_interface(supd: Supd) {
    let stage = Stage::serving(supd);
    stage.supd.ctl(&["swap", "web"]).expect(0);
    let active = stage.supd.status("web").pids_in(2)[0];
    stage.orders(2, "device");
    proc::signal(active, Signal::SIGSTOP);
    wait_until("it to be stopped", SOON, || proc::is_stopped(active));
    let connect = |_| TcpStream::connect(stage.address()).expect("it listens");
    let queued: Vec<TcpStream> = (0..5).map(connect).collect();
    // supd looks once a second at most, and takes the interface off.
    holds_for("supd to look", Duration::from_secs(2), || stage.supd.ctl(&["status", "web"]).code() == 0);
    proc::signal(active, Signal::SIGCONT);
    for mut client in queued {
        client.set_read_timeout(Some(SOON)).expect("a bound");
        let mut text = String::new();
        client.read_to_string(&mut text).expect("an answer");
        assert_eq!(text, "2");
    }
    for _ in 0..20 {
        assert_eq!(stage.by_stream(), Some(2), "{}", stage.supd.log());
        stage.supd.ctl(&["status", "web"]).expect(0);
    }
}
