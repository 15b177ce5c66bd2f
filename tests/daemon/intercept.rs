//! Servers that bind for themselves: what each bind(2) gets, who counts as the server, and what a worker
//! can do to it. (Real servers are in `servers/`.)

use crate::harness::{Setup, Supd, free_port};
use crate::proc;
use crate::support::test::{Need, Test, test, test_with};
use crate::wait::{SOON, wait_for, wait_until};
use std::fs;
use std::io::Read;
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("intercept::every_kind_of_socket_gets_its_listener", every_kind),
        test("intercept::a_prefork_binds_one_address_often", prefork),
        test("intercept::a_socket_in_an_epoll_set_before_it_is_bound", in_a_set),
        test("intercept::server_that_forks_is_followed", forks),
        test("intercept::parent_that_forks_before_it_binds", forks_first),
        test("intercept::who_only_tried_is_not_ready", only_tried),
        test("intercept::what_is_not_its_own_goes_through", not_its_own),
        test("intercept::an_address_that_is_never_read_holds_nobody_up", never_read),
        test("intercept::close_that_waits_holds_nobody_up", close_that_waits),
        test("intercept::a_helper_left_behind_is_no_server", helper_left_behind),
        test("intercept::parent_that_ends_late", parent_ends_late),
        test("intercept::flood_of_binds", flood),
        test("intercept::handoff_that_was_forgotten", forgotten),
        test("intercept::worker_dies_and_is_launched_again", dies),
        test_with("intercept::ordinary_user", &[Need::Root], ordinary_user),
        test("intercept::supd_below_supd_says_what_to_do", nested),
    ]
}

/// Serves each connection on `listeners` with the version of the program.
const SERVE: &str = "
import os, select, socket, sys, time, signal
def serve(*listeners):
    while True:
        for one in select.select(listeners, [], [])[0]:
            if one.type == socket.SOCK_DGRAM:
                data, who = one.recvfrom(100)
                one.sendto(b'udp', who)
            else:
                try: client, _ = one.accept()
                except BlockingIOError: continue
                client.setblocking(True)
                client.sendall(b'%d' % os.getpid())
                client.close()
def tcp(host, port, family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    return s
";

/// Quick times, and a standby.
pub(crate) const TIMES: &str = "ReadySettleSec = \"100ms\"\nTimeoutStartSec = \"10s\"\nTimeoutStopSec = \"5s\"\n\
                     RestartSec = \"100ms\"\n\n[Swap]\nRetain = \"warm\"\nProbationSec = \"200ms\"\n\
                     DrainSec = \"500ms\"\nSettleSec = \"200ms\"\n";

/// A unit whose program is this text after [`SERVE`].
pub(crate) fn unit(supd: &Supd, sockets: &str, program: &str) -> String {
    let path = supd.app().join("server.py");
    fs::write(&path, format!("{SERVE}{program}")).expect("writing a program");
    if let Some(user) = supd.user() {
        std::os::unix::fs::chown(&path, Some(user), Some(user)).expect("chown as root");
    }
    let folder = supd.app();
    format!(
        "{sockets}\n[Service]\nExecStart = [\"python3\", {path:?}]\nHandoff = \"intercept\"\n\
         WorkingDirectory = {folder:?}\n{TIMES}"
    )
}

pub(crate) fn at(port: u16) -> String {
    format!("[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\n")
}

/// Who answers there: the number of its process.
pub(crate) fn ask(port: u16) -> u32 {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_read_timeout(Some(SOON)).expect("a bound");
    said(stream)
}

pub(crate) fn said(mut stream: impl Read) -> u32 {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
}

pub(crate) fn warm_round(supd: &Supd) {
    let before = supd.status("web").active();
    supd.ctl(&["swap", "web"]).expect(0);
    assert_ne!(supd.status("web").active(), before);
    supd.ctl(&["rollback", "web"]).expect(0);
    assert_eq!(supd.status("web").active(), before);
}

fn every_kind() {
    let supd = Supd::start();
    let (four, six, udp) = (free_port(), free_port(), free_port());
    let (public, bind) = (supd.path().join("web.sock"), supd.app().join("own.sock"));
    let sockets = format!(
        "[[Socket]]\nName = \"four\"\nListenStream = \"0.0.0.0:{four}\"\n\
         [[Socket]]\nName = \"six\"\nListenStream = \"[::]:{six}\"\n\
         [[Socket]]\nName = \"udp\"\nListenDatagram = \"127.0.0.1:{udp}\"\n\
         [[Socket]]\nName = \"path\"\nListenStream = {public:?}\nBindAs = {bind:?}\nSocketMode = \"0640\"\n"
    );
    // As Java does, an IPv6 socket for an IPv4 address; non-blocking; a path that is relative, removed
    // first and opened to all.
    let program = format!(
        "four = tcp('::', {four}, socket.AF_INET6)
four.setblocking(False); four.listen(5)
six = tcp('::', {six}, socket.AF_INET6); six.listen(5)
assert not six.get_inheritable() and not os.get_blocking(four.fileno()), 'flags'
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.bind(('127.0.0.1', {udp}))
path = socket.socket(socket.AF_UNIX)
try: os.unlink('own.sock')
except FileNotFoundError: pass
path.bind('./own.sock'); os.chmod('own.sock', 0o777); path.listen(5)
serve(four, six, udp, path)
"
    );
    supd.launch("web", &unit(&supd, &sockets, &program));
    for _ in 0..2 {
        let pid = supd.status("web").pids_in(supd.status("web").active().expect("active"))[0];
        assert_eq!(ask(four), pid);
        assert_eq!(ask(six), pid);
        assert_eq!(said(TcpStream::connect(("::1", six)).expect("IPv6")), pid);
        assert_eq!(said(UnixStream::connect(&public).expect("the public path")), pid);
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client.set_read_timeout(Some(SOON)).expect("a bound");
        client.send_to(b"x", ("127.0.0.1", udp)).expect("sent");
        assert_eq!(client.recv(&mut [0; 10]).expect("an answer"), 3);
        let mode = fs::metadata(&public).expect("the public path").permissions().mode() & 0o777;
        assert_eq!(mode, 0o640, "a chmod of the server's own path does nothing to ours");
        warm_round(&supd);
    }
}

fn prefork() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "def one():
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(('127.0.0.1', {port})); s.listen(10); serve(s)
for _ in range(4):
    if os.fork() == 0: one()
os.wait()
"
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    // One slot for all of them, and each accepts from it.
    let mut seen = std::collections::BTreeSet::new();
    wait_until("all four to answer", SOON, || {
        seen.insert(ask(port));
        seen.len() == 4
    });
    warm_round(&supd);
    ask(port);
}

/// As Netty's native transport: watched first, bound later. What the worker wrote beside the socket comes with
/// the event; it is changed and taken out again by the number that it has.
const IN_A_SET: &str = "
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
class Event(ctypes.Structure):
    _pack_, _fields_ = 1, [('events', ctypes.c_uint32), ('data', ctypes.c_uint64)]
if os.uname().machine != 'x86_64': del Event._pack_
ADD, REMOVE, MODIFY, IN, EDGE = 1, 2, 3, 1, 1 << 31
def control(set, what, fd, events=0, data=0):
    if libc.epoll_ctl(set, what, fd, ctypes.byref(Event(events, data))) == -1:
        raise OSError(ctypes.get_errno(), 'epoll_ctl')
sets = [select.epoll(), select.epoll()]
s = socket.socket(); s.setblocking(False)
control(sets[0].fileno(), ADD, s.fileno(), EDGE, 7 << 40)
control(sets[1].fileno(), ADD, s.fileno(), IN, 8)
s.bind(('127.0.0.1', PORT)); s.listen(5)
control(sets[0].fileno(), MODIFY, s.fileno(), IN | EDGE, 9 << 40)
control(sets[1].fileno(), REMOVE, s.fileno())
try: control(sets[1].fileno(), REMOVE, s.fileno())
except OSError as error: assert error.errno == errno.ENOENT
while True:
    event = Event()
    if libc.epoll_wait(sets[0].fileno(), ctypes.byref(event), 1, -1) != 1: continue
    assert event.events == IN and event.data == 9 << 40, (event.events, event.data)
    while True:
        try: client, _ = s.accept()
        except BlockingIOError: break
        client.setblocking(True)
        client.sendall(b'%d' % os.getpid())
        client.close()
";

fn in_a_set() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &IN_A_SET.replace("PORT", &port.to_string())));
    for _ in 0..3 {
        ask(port);
    }
    warm_round(&supd);
    let pid = ask(port);
    proc::signal(pid, nix::sys::signal::Signal::SIGKILL);
    assert_ne!(ask(port), pid, "one that is launched again has it as well");
    // A bind that is left unanswered is looked at once more.
    supd.ctl(&["swap", "web", "--unbound"]).expect(0);
    let before = ask(port);
    supd.ctl(&["bind", "web"]).expect(0);
    assert_ne!(ask(port), before, "the one that waited serves");
    // With what everybody would write: a selector of Python's.
    let other = format!(
        "import selectors
one = selectors.DefaultSelector()
s = socket.socket(); s.setblocking(False)
one.register(s, selectors.EVENT_READ, s)
s.bind(('127.0.0.1', {port})); s.listen(5)
while True:
    for key, _ in one.select():
        try: client, _ = key.fileobj.accept()
        except OSError: continue
        client.setblocking(True); client.sendall(b'%d' % os.getpid()); client.close()
"
    );
    supd.write_unit("web", &unit(&supd, &at(port), &other));
    supd.ctl(&["swap", "web"]).expect(0);
    assert_eq!(supd.status("web").pids_in(supd.status("web").active().expect("active")), [ask(port)]);
}

/// Parent and child as a server of the old school makes them.
const DAEMON: &str = "
def background():
    if os.fork() > 0: os._exit(0)
    os.setsid()
    if os.fork() > 0: os._exit(0)
";

fn forks() {
    followed("s = tcp('127.0.0.1', PORT); s.listen(5)\nbackground()\nserve(s)\n");
}

fn forks_first() {
    followed("background()\ntime.sleep(0.3)\ns = tcp('127.0.0.1', PORT); s.listen(5)\nserve(s)\n");
}

fn followed(program: &str) {
    let supd = Supd::start();
    let port = free_port();
    let program = format!("{DAEMON}{}", program.replace("PORT", &port.to_string()));
    supd.launch("web", &unit(&supd, &at(port), &program));
    let status = supd.status("web");
    let pid = ask(port);
    assert_eq!(status.pids(), [pid], "the server is the process that went into the background");
    assert_eq!(status.state(), "active");
    warm_round(&supd);
    assert_eq!(ask(port), pid);
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("the server to end", SOON, || !proc::alive(pid));
    assert!(!supd.log().contains("before it was ready"), "{}", supd.log());
}

fn only_tried() {
    let supd = Supd::start();
    let port = free_port();
    let good = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    supd.launch("web", &unit(&supd, &at(port), &good));
    let pid = ask(port);
    // A configuration test that binds, and a server that never does.
    let tried = format!(
        "if os.fork() == 0:
    s = tcp('127.0.0.1', {port}); s.listen(5); os._exit(0)
os.wait()
time.sleep(600)
"
    );
    let text =
        unit(&supd, &at(port), &tried).replace("TimeoutStartSec = \"10s\"", "TimeoutStartSec = \"2s\"");
    supd.write_unit("web", &text);
    let output = supd.ctl(&["swap", "web"]).expect(1);
    assert!(output.text().contains("was not ready within 2s"), "{output}");
    assert_eq!(ask(port), pid);
}

fn not_its_own() {
    let supd = Supd::start();
    let (port, other) = (free_port(), free_port());
    let program = format!(
        "s = tcp('127.0.0.1', {port}); s.listen(5)
o = tcp('127.0.0.1', {other}); o.listen(5)
for _ in range(100): socket.socket().bind(('127.0.0.1', 0))
serve(s, o)
"
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    assert_eq!(ask(other), ask(port), "it serves there as well");
    let warnings: Vec<String> =
        supd.log().lines().filter(|line| line.contains("is no [[Socket]]")).map(str::to_owned).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&format!("127.0.0.1:{other}")), "{warnings:?}");
    // What it says comes true: the port is in the way of the next one.
    let output = supd.ctl(&["swap", "web"]).expect(1);
    assert!(output.text().contains("Address already in use"), "{output}");
    assert!(output.text().contains(&format!("of its unit (127.0.0.1:{other}), most often")), "{output}");
    ask(port);
}

/// The address lies in memory that nobody ever fills: whoever reads it waits for ever.
const NEVER_READ: &str = "
import ctypes, fcntl, mmap, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
page = libc.mmap(None, 4096, 3, 0x22, -1, 0)
number = {'x86_64': 323, 'aarch64': 282}[os.uname().machine]
uffd = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK)
assert uffd >= 0, 'userfaultfd'
fcntl.ioctl(uffd, 0xc018aa3f, struct.pack('QQQ', 0xaa, 0, 0))
fcntl.ioctl(uffd, 0xc020aa00, struct.pack('QQQQ', page, 4096, 1, 0))
def bind_there(fd):
    began = time.monotonic()
    assert libc.bind(fd, ctypes.c_void_p(page), 16) == -1
    return ctypes.get_errno(), time.monotonic() - began
";

fn never_read() {
    let supd = Supd::start();
    let port = free_port();
    let good = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    supd.launch("web", &unit(&supd, &at(port), &good));
    let bad_port = free_port();
    let said = supd.app().join("said");
    let bad = format!(
        "{NEVER_READ}s = socket.socket()
open({said:?} + '.begun', 'w').close()
errno, took = bind_there(s.fileno())
open({said:?}, 'w').write('%d %.1f' % (errno, took))
s = tcp('127.0.0.1', {bad_port}); s.listen(5)
serve(s)
"
    );
    let text = unit(&supd, &at(bad_port), &bad).replace("server.py", "bad.py");
    fs::rename(supd.app().join("server.py"), supd.app().join("bad.py")).expect("a program");
    unit(&supd, &at(port), &good);
    supd.write_unit("bad", &text);
    supd.ctl(&["daemon-reload"]).expect(0);
    let start = supd.ctl_start(&["start", "bad"]);
    let begun = Path::new(&format!("{}.begun", said.display())).to_owned();
    wait_until("the bind to wait", SOON, || begun.exists());
    // supd answers everybody else meanwhile, and other servers bind.
    let asked = Instant::now();
    supd.status("web");
    assert!(asked.elapsed() < Duration::from_millis(900), "{:?}", asked.elapsed());
    warm_round(&supd);
    // It waited for that once; after that its binds are refused at once, so that nobody waits behind them.
    start.finish(SOON).expect(7);
    let text = fs::read_to_string(&said).expect("what it said");
    assert!(text.starts_with(&format!("{} ", libc_efault())), "{text}");
    assert!(supd.log().contains("its binds are refused from now on"), "{}", supd.log());
    ask(port);
}

fn libc_efault() -> i32 {
    nix::errno::Errno::EFAULT as i32
}

/// Whoever closes such a socket last waits for as long as its owner likes (SO_LINGER). The worker sees to it
/// that this is whoever looks at what it binds.
const LINGER: &str = "
import ctypes, struct
libc = ctypes.CDLL(None)
far = socket.socket(); far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
far.bind(('127.0.0.1', 0)); far.listen(200)
address = struct.pack('<H', 2) + struct.pack('>H', 9) + bytes([127, 0, 0, 1]) + bytes(8)
for at in range(100):
    near = socket.socket(); near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    near.connect(far.getsockname()); near.setblocking(False)
    try:
        while True: near.send(b'x' * 65536)
    except BlockingIOError: pass
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 15))
    fd = near.detach()
    child = os.fork()
    if child == 0:
        libc.bind(fd, address, 16)
        os._exit(0)
    os.close(fd)
    # At another moment of the look each time.
    time.sleep(0.0002 * (at % 20))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
open('tried', 'w').close()
";

fn close_that_waits() {
    let supd = Supd::start();
    let port = free_port();
    let good = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    supd.launch("web", &unit(&supd, &at(port), &good));
    let text = unit(&supd, &at(free_port()), &format!("{LINGER}time.sleep(600)\n"));
    let text =
        text.replace("server.py", "bad.py").replace("ReadySettleSec", "Ready = \"started\"\nReadySettleSec");
    fs::rename(supd.app().join("server.py"), supd.app().join("bad.py")).expect("a program");
    unit(&supd, &at(port), &good);
    supd.write_unit("bad", &text);
    supd.ctl(&["daemon-reload"]).expect(0);
    let start = supd.ctl_start(&["start", "bad"]);
    let tried = supd.app().join("tried");
    let mut asked = 0;
    while asked < 5 || !tried.exists() {
        let began = Instant::now();
        supd.status("web");
        assert!(began.elapsed() < Duration::from_secs(5), "supd stood still for {:?}", began.elapsed());
        asked += 1;
        assert!(asked < 10_000, "it never comes to its end");
    }
    start.finish(SOON).expect(0);
    warm_round(&supd);
    ask(port);
}

/// What is left of a server that has ended holds none of its sockets: it is no server.
fn helper_left_behind() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "import subprocess
s = tcp('127.0.0.1', {port}); s.listen(5)
subprocess.Popen(['sleep', '600'])
if not os.path.exists('ended'):
    open('ended', 'w').close()
    time.sleep(1)
    os._exit(0)
serve(s)
"
    );
    let text = unit(&supd, &at(port), &program).replace("[Swap]", "Restart = \"always\"\n\n[Swap]");
    supd.launch("web", &text);
    let pid = ask(port);
    assert_eq!(supd.wait_for_state("web", "active").pids(), [pid], "it was launched again");
    assert!(!supd.log().contains("gone into the background"), "{}", supd.log());
}

/// A parent may wait until its server is up, and longer.
fn parent_ends_late() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "s = tcp('127.0.0.1', {port}); s.listen(5)
if os.fork() > 0:
    while not os.path.exists('end'): time.sleep(0.02)
    os._exit(0)
os.setsid()
serve(s)
"
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    let pid = ask(port);
    assert_ne!(supd.status("web").pids(), [pid], "the parent is there still");
    fs::write(supd.app().join("end"), "").expect("a file");
    wait_until("the child to be the server", SOON, || supd.status("web").pids() == [pid]);
    warm_round(&supd);
    assert_eq!(ask(port), pid);
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("the server to end", SOON, || !proc::alive(pid));
}

fn flood() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "import threading
def bind():
    while True:
        o = socket.socket()
        try: o.bind(('127.0.0.2', 1 + int(time.monotonic() * 1e6) % 1000))
        except OSError: pass
        o.close()
for _ in range(32): threading.Thread(target=bind, daemon=True).start()
s = tcp('127.0.0.1', {port}); s.listen(5)
serve(s)
"
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    let rss = proc::rss_kib(supd.pid());
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let asked = Instant::now();
        supd.status("web");
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        ask(port);
    }
    let grown = proc::rss_kib(supd.pid()).saturating_sub(rss);
    assert!(grown < 16 << 10, "supd grew by {grown} KiB");
    let told = supd.log().lines().filter(|line| line.contains("is no [[Socket]]")).count();
    assert!((1..=8).contains(&told), "{told} warnings");
}

fn dies() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    supd.launch("web", &unit(&supd, &at(port), &program));
    let pid = ask(port);
    proc::signal(pid, nix::sys::signal::Signal::SIGKILL);
    // Who comes meanwhile waits.
    let next = ask(port);
    assert_ne!(next, pid);
    assert_eq!(supd.wait_for_state("web", "active").pids(), [next]);
    warm_round(&supd);
}

fn ordinary_user() {
    let supd = Supd::start_with(&Setup { user: Some(65534), ..Setup::default() });
    let port = free_port();
    let program = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    supd.launch("web", &unit(&supd, &at(port), &program));
    let pid = ask(port);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    assert!(status.contains("NoNewPrivs:\t1"), "without root there is no other way: {status}");
    warm_round(&supd);
}

/// A worker that is a supd: its own workers cannot be asked about by two.
fn nested() {
    let supd = Supd::start();
    let (port, inner) = (free_port(), supd.app().join("inner"));
    for name in ["units", "run", "state"] {
        fs::create_dir_all(inner.join(name)).expect("a folder");
    }
    let program = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    let text = unit(&supd, &at(port), &program);
    fs::write(inner.join("units/web.unit"), &text).expect("a unit");
    let outer = format!(
        "[[Socket]]\nListenStream = \"127.0.0.1:{}\"\n[Service]\nExecStart = [{:?}, \"--units\", {:?}, \
         \"--runtime\", {:?}, \"--state\", {:?}]\nHandoff = \"intercept\"\nReady = \"started\"\n{TIMES}",
        free_port(),
        env!("CARGO_BIN_EXE_supd"),
        inner.join("units"),
        inner.join("run"),
        inner.join("state"),
    );
    supd.launch("outer", &outer);
    let told = wait_for("the inner supd to say why", SOON, || {
        let output = supd.ctl(&["logs", "outer"]);
        output.stdout.lines().find(|line| line.contains("be asked about bind(2)")).map(str::to_owned)
    });
    assert!(told.contains("EBUSY") || told.contains("busy"), "{told}");
    assert!(told.contains("write Handoff = \"inherit\""), "{told}");
}

/// The same server, with a unit that forgot to say that it binds for itself.
fn forgotten() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n");
    let text = unit(&supd, &at(port), &program);
    supd.launch("web", &text);
    let pid = ask(port);
    supd.write_unit("web", &text.replace("Handoff = \"intercept\"\n", ""));
    let output = supd.ctl(&["swap", "web"]).expect(1);
    let hint = format!("it seems to bind 127.0.0.1:{port} itself");
    assert!(output.text().contains(&hint), "{output}");
    assert!(output.text().contains("write Handoff = \"intercept\""), "{output}");
    assert_eq!(ask(port), pid);
}
