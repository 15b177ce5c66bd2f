use super::*;
use crate::model::Signal;
use crate::os::alone::{alone, alone_as};
use crate::os::clock;
use crate::os::pidfd::PidFd;
use crate::os::task::tests::finish;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

/// A server that does what it is told, a line of Python at a time.
const SERVER: &str = "
import array, os, resource, socket, sys, time
os.setsid()
held = []
def listen(host, port, v6only=0, defer=0):
    sock = socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET)
    if ':' in host: sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    if defer: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, defer)
    sock.bind((host, port))
    sock.listen(4096)
    held.append(sock)
    return sock
def local(name, kind=socket.SOCK_STREAM):
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(name)
    sock.listen(64)
    return sock
def accept(sock, count=1):
    taken = [sock.accept()[0] for _ in range(count)]
    held.extend(taken)
    return taken[-1]
life, end = os.pipe()
def child(work=lambda: None):
    \"\"\"Lives as long as the server, wherever it has gone.\"\"\"
    pid = os.fork()
    if pid == 0:
        try: os.close(end)
        except OSError: pass
        work()
        os.read(life, 1)
        os._exit(0)
    return pid
for line in sys.stdin:
    try:
        answer = eval(line)
    except SyntaxError:
        answer = exec(line)
    print(repr(answer), flush=True)
os.killpg(0, 9)
";

/// Every process of it is in one session, and ends with it.
struct Server {
    child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Server {
    fn new() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", SERVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let mut server = Self { child, said };
        server.tell("0");
        server
    }

    fn tell(&mut self, line: &str) -> String {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        assert!(self.said.read_line(&mut answer).unwrap() > 0, "it has ended over {line}");
        answer.trim_end().to_owned()
    }

    /// A TCP listener `l` of its own, with a port that the kernel chose.
    fn listen(&mut self, host: &str, more: &str) -> Place {
        self.tell(&format!("l = listen('{host}', 0{more})"));
        let port = self.tell("l.getsockname()[1]").parse().unwrap();
        Place::Tcp { host: host.parse().unwrap(), port }
    }

    fn group(&self, place: &Place) -> Group {
        let pid = i32::try_from(self.child.id()).unwrap();
        let marks = Marks { workers: vec![pid], ..Marks::default() };
        Group { marks, places: vec![place.clone()], closer: Vec::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        if let Ok(process) = PidFd::open(i32::try_from(self.child.id()).unwrap()) {
            let _ = process.send(Signal::KILL);
        }
        // What it forked; those in a session of their own see its end by a pipe.
        let _ = nix::sys::signal::killpg(
            nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        );
        self.child.wait().unwrap();
    }
}

fn connect(place: &Place) -> TcpStream {
    let Place::Tcp { host, port } = place else { panic!("{place:?}") };
    connect_to(&if host.is_unspecified() { "127.0.0.1".to_owned() } else { host.to_string() }, *port)
}

fn connect_to(host: &str, port: u16) -> TcpStream {
    TcpStream::connect((host, port)).unwrap()
}

fn port(place: &Place) -> u16 {
    let Place::Tcp { port, .. } = place else { panic!("{place:?}") };
    *port
}

fn count_all(groups: &[Group], ages: Option<&Ages>) -> Vec<Count> {
    let answer = finish(begin(groups, ages, Duration::from_secs(60)).unwrap()).unwrap();
    decode(&answer, groups.len()).unwrap()
}

fn count_with(groups: &[Group], ages: Option<&Ages>) -> Vec<Tally> {
    count_all(groups, ages).into_iter().map(|count| count.tally).collect()
}

fn count(group: &Group) -> Tally {
    count_with(std::slice::from_ref(group), None)[0]
}

/// A state of a socket follows what its other end does, and not at once.
fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !fact() {
        assert!(Instant::now() < end, "never: {what}");
    }
}

#[test]
fn a_connection_counts_from_its_acceptance_to_the_servers_close() {
    let mut server = Server::new();
    let place = server.listen("127.0.0.1", "");
    let group = server.group(&place);
    let nothing = Tally { connections: Some(0), arriving: Some(0), oldest: None };
    assert_eq!(count(&group), nothing);

    let one = connect(&place);
    until("it waits to be accepted", || count(&group) == Tally { arriving: Some(1), ..nothing });
    server.tell("a = accept(l)");
    let open = Tally { connections: Some(1), ..nothing };
    assert_eq!(count(&group), open);

    // The client has said all, and may still be answered.
    one.shutdown(Shutdown::Write).unwrap();
    until("the server sees its end", || server.tell("a.recv(1)") == "b''");
    assert_eq!(count(&group), open);
    // The server as well: nothing is left to be told.
    server.tell("a.shutdown(socket.SHUT_WR)");
    until("both have said all", || count(&group) == nothing);

    // The server has said all, and still listens.
    let _two = connect(&place);
    server.tell("b = accept(l)");
    server.tell("b.shutdown(socket.SHUT_WR)");
    assert_eq!(count(&group), open);
    server.tell("b.close()");
    assert_eq!(count(&group), nothing, "the kernel brings the rest");
}

#[test]
fn half_done_handshakes_are_told_apart() {
    let mut server = Server::new();
    let place = server.listen("127.0.0.1", ", defer=30");
    let group = server.group(&place);
    // With TCP_DEFER_ACCEPT the kernel takes no notice of the handshake's end until there is data.
    let mut client = connect(&place);
    assert_eq!(count(&group), Tally { connections: Some(0), arriving: Some(1), oldest: None });
    client.write_all(b"x").unwrap();
    server.tell("accept(l)");
    assert_eq!(count(&group), Tally { connections: Some(1), arriving: Some(0), oldest: None });
}

#[test]
fn whoever_of_the_family_holds_it_and_once_each() {
    let mut server = Server::new();
    let place = server.listen("127.0.0.1", "");
    let group = server.group(&place);
    let clients: Vec<TcpStream> = (0..5).map(|_| connect(&place)).collect();
    // One stays with the parent, and is open in each child as well.
    server.tell("accept(l)");
    for _ in 0..3 {
        server.tell("child(lambda: accept(l))");
    }
    server.tell("child(lambda: (os.setsid(), child(lambda: accept(l))))");
    until("all five", || count(&group).connections == Some(5));
    drop(clients);
    assert_eq!(count(&group).connections, Some(5), "closed by the clients alone");
}

#[test]
fn every_family_of_addresses_and_no_other_address() {
    let mut server = Server::new();
    let six = server.listen("::1", "");
    let _client = connect(&six);
    server.tell("accept(l)");
    assert_eq!(count(&server.group(&six)).connections, Some(1));
    let elsewhere = Place::Tcp { host: "127.0.0.1".parse().unwrap(), port: port(&six) };
    assert_eq!(count(&server.group(&elsewhere)).connections, Some(0));

    let dual = server.listen("::", "");
    let _clients = [connect_to("127.0.0.1", port(&dual)), connect_to("::1", port(&dual))];
    server.tell("accept(l, 2)");
    assert_eq!(count(&server.group(&dual)).connections, Some(2));
    let four = Place::Tcp { host: "0.0.0.0".parse().unwrap(), port: port(&dual) };
    assert_eq!(count(&server.group(&four)).connections, Some(0), "its sockets are of IPv6");

    let wild = server.listen("0.0.0.0", "");
    let _clients = [connect_to("127.0.0.1", port(&wild)), connect_to("127.0.0.2", port(&wild))];
    server.tell("accept(l, 2)");
    assert_eq!(count(&server.group(&wild)).connections, Some(2));
    // So many ports that the kernel is asked for all at once.
    let mut group = server.group(&wild);
    group.places.extend([six, dual]);
    group.places.extend((1..10).map(|port| Place::Tcp { host: "127.0.0.1".parse().unwrap(), port }));
    assert_eq!(count(&group).connections, Some(5));
}

#[test]
fn unix_sockets_by_path_and_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::new();
    let path = folder.path().join("http.0");
    let abstracted = format!("supd-census-{}", std::process::id());
    server.tell(&format!("l = local('{}')", path.display()));
    server.tell(&format!("p = local('\\0{abstracted}', socket.SOCK_SEQPACKET)"));
    let by_path = server.group(&Place::Unix { name: path.to_str().unwrap().into() });
    let by_name = server.group(&Place::Unix { name: format!("\0{abstracted}").into() });
    let nothing = Tally { connections: Some(0), arriving: Some(0), oldest: None };
    assert_eq!([count(&by_path), count(&by_name)], [nothing, nothing]);
    let client = UnixStream::connect(&path).unwrap();
    server.tell("accept(l)");
    server.tell("c = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)");
    server.tell(&format!("c.connect('\\0{abstracted}')"));
    server.tell("accept(p)");
    let open = Tally { connections: Some(1), ..nothing };
    assert_eq!([count(&by_path), count(&by_name)], [open, open]);
    // Bound anew under another number, in the place of one that was shut down.
    let anew = server.group(&Place::Unix { name: folder.path().join("http.1").to_str().unwrap().into() });
    assert_eq!(count(&anew), open);
    let other = server.group(&Place::Unix { name: folder.path().join("https.0").to_str().unwrap().into() });
    assert_eq!(count(&other), nothing);
    drop(client);
    assert_eq!(count(&by_path), open, "closed by the client alone");
    server.tell("held[-2].close()");
    assert_eq!(count(&by_path), nothing);
}

#[test]
fn the_place_of_a_listener_is_what_its_connections_show() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let unix = |kind| Address::Unix { kind, path: "/public".into() };
    let name = path.to_str().unwrap().into();
    assert_eq!(Place::of(&unix(SocketKind::Stream), listener.as_fd()), Some(Place::Unix { name }));
    assert_eq!(Place::of(&unix(SocketKind::Datagram), listener.as_fd()), None);
    let (host, port) = ("0.0.0.0".parse().unwrap(), 80);
    let udp = Address::Ip { kind: SocketKind::Datagram, host, port };
    assert_eq!(Place::of(&udp, listener.as_fd()), None);
}

#[test]
fn what_nobody_was_seen_with_may_be_anybodys() {
    let (mut server, mut other) = (Server::new(), Server::new());
    let place = server.listen("127.0.0.1", "");
    let group = server.group(&place);
    let _client = connect(&place);
    // Handed on to a process that is none of its own.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    other.tell(&format!("u = local('{}')", path.display()));
    server.tell("c = socket.socket(socket.AF_UNIX)");
    server.tell(&format!("c.connect('{}')", path.display()));
    other.tell("u = accept(u)");
    server.tell("a = accept(l)");
    server.tell("socket.send_fds(c, [b'x'], [a.fileno()])");
    server.tell("(a.close(), held.clear())");
    assert_eq!(count(&group).connections, None, "on its way");
    other.tell("m = socket.recv_fds(u, 1, 1)");
    assert_eq!(count(&group).connections, None, "a stranger's");
    let both = [group.clone(), other.group(&place)];
    let counted = |groups: &[Group]| -> Vec<Option<u32>> {
        count_with(groups, None).iter().map(|tally| tally.connections).collect()
    };
    assert_eq!(counted(&both), [Some(0), Some(1)], "asked about as well, it has it");
    let dead = Group { marks: Marks::default(), ..group };
    assert_eq!(counted(&[dead]), [Some(0)], "who is dead has none");
}

/// A connection that is handed round all the time is never taken for none.
#[test]
fn a_hot_potato_is_never_overlooked() {
    let mut server = Server::new();
    let place = server.listen("127.0.0.1", "");
    let group = server.group(&place);
    let _client = connect(&place);
    server.tell("s, t = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)");
    server.tell("exec('def juggle(me):\\n while True:\\n  m, f, *_ = socket.recv_fds(me, 1, 1)\\n  socket.send_fds(me, [m], f)\\n  os.close(f[0])')");
    server.tell("[child(lambda: juggle(t)), child(lambda: juggle(s))]");
    server.tell("a = accept(l)");
    server.tell("socket.send_fds(s, [b'x'], [a.fileno()])");
    server.tell("(a.close(), held.clear())");
    for _ in 0..100 {
        assert_ne!(count(&group).connections, Some(0));
    }
}

#[test]
fn forks_all_the_time() {
    let mut server = Server::new();
    let place = server.listen("127.0.0.1", "");
    let group = server.group(&place);
    let clients: Vec<TcpStream> = (0..20).map(|_| connect(&place)).collect();
    server.tell("accept(l, 20)");
    server.tell("exec('def storm():\\n import signal\\n signal.signal(signal.SIGCHLD, signal.SIG_IGN)\\n while True:\\n  if os.fork() == 0: os._exit(0)')");
    server.tell("[child(storm) for _ in range(2)]");
    for _ in 0..10 {
        assert_eq!(count(&group).connections, Some(20));
    }
    drop(clients);
}

#[test]
fn ten_thousand_connections_and_many_descriptors() {
    alone("os::census::tests::ten_thousand_connections_and_many_descriptors", || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let room = setrlimit(Resource::RLIMIT_NOFILE, 120_000, 120_000).map_or(hard, |()| 120_000);
        setrlimit(Resource::RLIMIT_NOFILE, room, room).unwrap();
        let many = u32::try_from(room.saturating_sub(100).min(10_000)).unwrap();
        let mut server = Server::new();
        let place = server.listen("0.0.0.0", "");
        let group = server.group(&place);
        let client = |number| connect_to(&format!("127.0.0.{}", 2 + number % 8), port(&place));
        let mut clients = Vec::new();
        while u32::try_from(clients.len()).unwrap() < many {
            clients.extend((0..many.min(1000)).map(client));
            server.tell(&format!("accept(l, {})", many.min(1000)));
        }
        let many = u32::try_from(clients.len()).unwrap();
        let began = Instant::now();
        assert_eq!(count(&group).connections, Some(many));
        let took = began.elapsed();
        // A worker that fills its table. Only where it is larger than what is looked at, is it not told.
        let files = server.tell(
            "exec('try:\\n while True: held.append(os.dup(0))\\nexcept OSError: held.pop() and os.close(held.pop())') or len(held)",
        );
        let began = Instant::now();
        assert_eq!(count(&group).connections, Some(many));
        format!("{many} connections: {took:?}; of {files} descriptors: {:?}", began.elapsed())
    })
    .into_iter()
    .for_each(|said| eprintln!("{said}"));
}

#[test]
fn an_ordinary_user_counts_its_own_and_says_what_it_may_not_look_at() {
    let mut roots = Server::new();
    let place = roots.listen("127.0.0.1", "");
    let _client = connect(&place);
    roots.tell("accept(l)");
    let (pid, port) = (roots.child.id().to_string(), port(&place).to_string());
    // For the process that the test goes on in.
    let handed = std::env::temp_dir().join("supd-census-test");
    if nix::unistd::geteuid().is_root() && std::env::var_os("SUPD_TEST_ALONE").is_none() {
        std::fs::write(&handed, format!("{pid} {port}")).unwrap();
    }
    alone_as(
        "os::census::tests::an_ordinary_user_counts_its_own_and_says_what_it_may_not_look_at",
        65_534,
        || {
            let mut own = Server::new();
            let place = own.listen("127.0.0.1", "");
            let group = own.group(&place);
            let _client = connect(&place);
            own.tell("accept(l)");
            assert_eq!(count(&group).connections, Some(1));
            // PR_SET_DUMPABLE: nobody but root may look.
            own.tell("__import__('ctypes').CDLL(None).prctl(4, 0, 0, 0, 0)");
            assert_eq!(count(&group).connections, None);
            let text = std::fs::read_to_string(&handed).unwrap();
            let (pid, port) = text.split_once(' ').unwrap();
            let place = Place::Tcp { host: "127.0.0.1".parse().unwrap(), port: port.parse().unwrap() };
            let marks = Marks { workers: vec![pid.parse().unwrap()], ..Marks::default() };
            let roots = Group { marks, places: vec![place], closer: Vec::new() };
            assert_eq!(count(&roots), Tally { connections: None, arriving: Some(0), oldest: None });
            String::new()
        },
    );
}

#[test]
fn the_age_is_what_earlier_counts_knew() {
    let ages = Ages::new().unwrap();
    let mut server = Server::new();
    let place = server.listen("127.0.0.1", "");
    let groups = [server.group(&place)];
    let aged = || count_with(&groups, Some(&ages))[0].oldest;
    let _old = connect(&place);
    server.tell("accept(l)");
    let began = Instant::now();
    assert_eq!(aged(), None, "nobody knows");
    until("it is known", || aged().is_some());
    // A count of others in between is no reason to forget.
    count_with(&[Group::default()], Some(&ages));
    let age = aged().unwrap();
    assert!(age <= began.elapsed() + Duration::from_millis(2), "{age:?}");
    let later = Instant::now();
    let young = connect(&place);
    server.tell("b = accept(l)");
    server.tell("held[1].close()");
    // The older one is gone, and the younger one nobody has seen before.
    assert_eq!(aged(), None);
    until("it is known", || aged().is_some());
    let age = aged().unwrap();
    assert!(age <= later.elapsed() + Duration::from_millis(2), "{age:?}");
    drop(young);
}

#[test]
fn who_waits_for_long_and_who_is_held_anew_are_told_apart_at_each_place() {
    let ages = Ages::new().unwrap();
    let mut server = Server::new();
    let places = [server.listen("127.0.0.1", ""), server.listen("127.0.0.1", ", defer=30")];
    let [first, other] = &places;
    let marks = server.group(first).marks;
    let look = |until: Tick| {
        let closer = vec![until; 2];
        let group = Group { marks: marks.clone(), places: places.to_vec(), closer };
        let spots = count_all(&[group], Some(&ages)).swap_remove(0).spots;
        (<[Spot; 2]>::try_from(spots).unwrap(), clock::now())
    };
    let nothing = Spot::default();
    let _waits = [connect(first), connect(first)];
    let silent = [connect(other), connect(other)];
    let waiting = Spot { waiting: 2, ..nothing };
    let half_open = Spot { half_open: 2, half_open_since: 2, ..nothing };
    let mut told = look(Tick(0));
    until("all to be there", || {
        told = look(Tick(0));
        told.0 == [waiting, half_open]
    });
    // Another one comes to each; who was there is known.
    let until_then = told.1;
    let _third = connect(first);
    let more = connect(other);
    let known =
        [Spot { waiting: 3, waited: 2, ..nothing }, Spot { half_open: 3, half_open_since: 1, ..nothing }];
    until("the others to be there", || look(until_then).0 == known);
    // Whoever is accepted is held anew, however long it has waited; the first one is accepted first.
    server.tell("accept(held[0])");
    let accepted = Spot { held_since: 1, waiting: 2, waited: 1, ..nothing };
    let (spots, later) = look(until_then);
    assert_eq!(spots, [accepted, known[1]]);
    let accepted = Spot { held_since: 0, waiting: 2, waited: 2, ..nothing };
    assert_eq!(look(later).0, [accepted, Spot { half_open: 3, ..nothing }]);
    drop((silent, more));
    // Where nothing is kept from count to count, nothing of it can be told.
    let group = Group { closer: vec![Tick(0)], ..server.group(first) };
    assert!(count_all(&[group], None)[0].spots.is_empty());
}

#[test]
fn garbage_is_no_answer() {
    let tally = |connections, arriving, oldest: Option<u64>| Tally {
        connections,
        arriving,
        oldest: oldest.map(Duration::from_millis),
    };
    let count = |tally, spots: &[[u32; 5]]| {
        let spot = |[held_since, half_open, half_open_since, waiting, waited]: &[u32; 5]| Spot {
            held_since: *held_since,
            half_open: *half_open,
            half_open_since: *half_open_since,
            waiting: *waiting,
            waited: *waited,
        };
        Count { tally, spots: spots.iter().map(spot).collect() }
    };
    let counts = [
        count(tally(Some(3), Some(0), Some(1500)), &[[1, 2, 3, 4, 5], [0; 5]]),
        count(tally(None, None, None), &[]),
    ];
    assert_eq!(decode(&encode(&counts), 2).unwrap(), counts);
    let most = count(tally(Some(u32::MAX), Some(1), None), &[]);
    assert_eq!(decode(b"99999999999 1 -\n", 1).unwrap(), [most]);
    for (garbage, groups) in [
        (&b""[..], 1),
        (b"1 2 3\n", 2),
        (b"1 2\n", 1),
        (b"1 2 3 4\n", 1),
        (b"1 2 3 1 2 3 4 5 6\n", 1),
        (b"x 2 3\n", 1),
        (b"\xff", 1),
    ] {
        assert_eq!(decode(garbage, groups), None);
    }
}

/// The kernel lets whoever reaps a process pay for what was looked up of it in the machine's /proc: where
/// supd may have one of its own, it is reaped as fast as if nobody had looked.
#[test]
fn a_process_that_was_counted_is_soon_reaped() {
    if !caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap() {
        println!("skipped: it takes CAP_SYS_ADMIN");
        return;
    }
    let reaped = || {
        let mut server = Server::new();
        let place = server.listen("127.0.0.1", "");
        server.tell("limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]");
        server.tell("resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))");
        assert_eq!(server.tell("len([os.dup(0) for _ in range(10000)])"), "10000");
        let told = count(&server.group(&place));
        assert_eq!(told.connections, Some(0));
        let process = PidFd::open(i32::try_from(server.child.id()).unwrap()).unwrap();
        process.send(Signal::KILL).unwrap();
        while !process.is_over() {
            std::thread::yield_now();
        }
        let began = Instant::now();
        server.child.wait().unwrap();
        began.elapsed()
    };
    // Others look at every process, too (`ss -p`, a test beside this one), or have the processor just then: it
    // is as slow each time only if we did it.
    let soon = Duration::from_millis(4);
    assert!((0..20).any(|_| reaped() < soon), "it takes more than {soon:?} each time to reap it");
}
