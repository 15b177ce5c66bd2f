//! Servers that bind for themselves in ways that are rare: from another namespace or thread, what the kernel
//! refuses, what is not the unit's, and what supd says of it.

use crate::harness::{Supd, free_port};
use crate::intercept::{ask, at, unit, warm_round};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use std::fs;
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("rare_binds::listener_that_nobody_serves_is_named", one_for_two),
        test("rare_binds::server_that_ends_at_once", ends_at_once),
        test("rare_binds::udp_ports_that_are_not_its_own", strange_udp),
        test("rare_binds::told_once_for_all_launches", told_once),
        test("rare_binds::what_the_kernel_refuses", refused),
        test_with("rare_binds::another_network_namespace", &[Need::Root], other_network),
        test_with("rare_binds::another_user_namespace", &[Need::Root], other_users),
        test("rare_binds::copy_made_before", copied),
        test("rare_binds::thread_that_outlives_the_first", first_thread_ends),
        test("rare_binds::thread_with_descriptors_of_its_own", own_descriptors),
        test("rare_binds::libraries_that_bind", libraries),
        test("rare_binds::ready_in_other_ways", other_readiness),
        test("rare_binds::options_set_before", options),
        test("rare_binds::by_io_uring", io_uring),
    ]
}

/// One socket at `PORT` of all programs below.
fn serving(port: u16) -> String {
    format!("s = tcp('127.0.0.1', {port}); s.listen(5)\nserve(s)\n")
}

fn one_for_two() {
    let supd = Supd::start();
    let port = free_port();
    let second = format!("[[Socket]]\nName = \"b\"\nListenStream = \"127.0.0.2:{port}\"\n");
    let program = format!("s = tcp('0.0.0.0', {port}); s.listen(5)\nserve(s)\n");
    supd.launch("web", &unit(&supd, &at(port), &program));
    let text =
        unit(&supd, &(at(port) + &second), &program).replace("StartSec = \"10s\"", "StartSec = \"1s\"");
    supd.write_unit("web", &text);
    let output = supd.ctl(&["swap", "web"]).expect(1);
    let told = format!("nobody listened on 127.0.0.2:{port} (b): each [[Socket]] needs a bind(2) of its own");
    assert!(output.text().contains("was not ready within 1s") && output.text().contains(&told), "{output}");
    // A server that binds nothing lacks both.
    supd.write_unit(
        "web",
        &unit(&supd, &at(port), "time.sleep(600)\n").replace("StartSec = \"10s\"", "StartSec = \"1s\""),
    );
    let output = supd.ctl(&["swap", "web"]).expect(1);
    assert!(output.text().contains(&format!("nobody listened on 127.0.0.1:{port} (http)")), "{output}");
    ask(port);
}

fn ends_at_once() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &serving(port)));
    supd.write_unit("web", &unit(&supd, &at(port), "if os.fork() > 0: os._exit(0)\n"));
    let output = supd.ctl(&["swap", "web"]).expect(1);
    let told = "a server that goes into the background is followed, but no process was left";
    assert!(output.text().contains(told), "{output}");
    assert!(!output.text().contains("in the foreground"), "{output}");
    ask(port);
}

fn strangers(supd: &Supd) -> Vec<String> {
    supd.log().lines().filter(|line| line.contains("is no [[Socket]]")).map(str::to_owned).collect()
}

fn strange_udp() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "def udp(port):
    o = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); o.bind(('127.0.0.3', port)); return o
for _ in range(200): udp(0)
kept = []
for port in range(20001, 20031):
    kept += [udp(port)]; kept.pop().close(); kept += [udp(port)]
s = tcp('127.0.0.3', 20001)
{}",
        serving(port)
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    let told = strangers(&supd);
    let udp: Vec<&String> =
        told.iter().filter(|line| line.contains(" (UDP), which is no [[Socket]]")).collect();
    assert!(udp.len() == 4 && told.len() == 5, "{told:?}");
    assert!(
        udp[0].contains("127.0.0.3:20001") && udp[0].contains("SO_REUSEADDR or SO_REUSEPORT"),
        "{told:?}"
    );
    assert!(udp[3].contains("more of UDP are not told"), "{told:?}");
    assert!(told[4].contains("it binds 127.0.0.3:20001, which"), "TCP has its own: {told:?}");
}

fn told_once() {
    let supd = Supd::start();
    let (port, other) = (free_port(), free_port());
    let program = format!(
        "o = tcp('127.0.0.1', {other}); o.listen(5)
{}",
        serving(port)
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    for _ in 0..3 {
        let pid = ask(port);
        proc::signal(pid, nix::sys::signal::Signal::SIGKILL);
        wait_until("another", SOON, || ask(port) != pid);
    }
    assert_eq!(strangers(&supd).len(), 1, "{}", supd.log());
    supd.ctl(&["stop", "web", "--now"]).expect(0);
    supd.ctl(&["start", "web"]).expect(0);
    assert_eq!(strangers(&supd).len(), 2, "another generation: {}", supd.log());
}

/// What the kernel says is what it says without supd.
fn refused() {
    let supd = Supd::start();
    let port = free_port();
    let program = |port: u16, file: &str| {
        format!(
            "import ctypes, struct
libc = ctypes.CDLL(None, use_errno=True)
def bind(s, address): return ctypes.get_errno() if libc.bind(s.fileno(), address, len(address)) else 0
def family(number): return struct.pack('=H', number)
def fresh(family, only=0):
    s = socket.socket(family)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    return s
at = struct.pack('>H', {port})
four = at + bytes([127, 0, 0, 1]) + bytes(8)
six = lambda host: at + bytes(4) + host + bytes(4)
mapped = six(bytes(10) + bytes([255, 255, 127, 0, 0, 1]))
INET, INET6 = socket.AF_INET, socket.AF_INET6
bound = fresh(INET); bound.bind(('127.0.0.1', 0))
said = [
    bind(fresh(INET6), family(2) + four), bind(fresh(INET6), family(2) + four + bytes(12)),
    bind(fresh(INET6, 1), family(10) + mapped), bind(fresh(INET), family(10) + mapped),
    bind(fresh(INET), family(0) + four), bind(fresh(INET), (family(2) + four)[:15]),
    bind(fresh(INET6), (family(10) + mapped)[:23]), bind(fresh(INET), family(77) + four),
    bind(bound, family(2) + four),
]
open({file:?}, 'w').write(str(said))
"
        )
    };
    let folder = supd.app();
    let file = |name: &str| folder.join(name).display().to_string();
    let alone = format!("import socket\n{}", program(free_port(), &file("kernel")));
    let output = Command::new("python3").args(["-c", &alone]).output().expect("python3");
    assert!(output.status.success(), "{output:?}");
    let asked = program(port, &file("supd")) + &serving(port);
    supd.launch("web", &unit(&supd, &at(port), &asked));
    let read = |name: &str| fs::read_to_string(folder.join(name)).expect("what it said");
    assert_eq!(read("supd"), read("kernel"));
    assert!(!read("kernel").contains(" 0"), "each of them is refused: {}", read("kernel"));
    ask(port);
}

/// Enters another namespace in a child, which binds there; what it says of it comes back.
const APART: &str = "
import ctypes, fcntl, struct
libc = ctypes.CDLL(None, use_errno=True)
def apart(flag, act):
    if os.fork() == 0:
        assert libc.unshare(flag) == 0, ctypes.get_errno()
        act()
        os._exit(0)
    assert os.wait()[1] == 0, 'the child'
";

fn other_network() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "{APART}
def there():
    o = socket.socket()
    flags = struct.pack('16sh', b'lo', 1)
    fcntl.ioctl(o.fileno(), 0x8914, flags)
    o = tcp('127.0.0.1', {port}); o.listen(5)
    c = socket.create_connection(('127.0.0.1', {port}))
    o.accept()[0].sendall(b'there')
    assert c.recv(5) == b'there'
apart(0x40000000, there)
{}",
        serving(port)
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    let told = "in another network namespace than supd's: that is no listener of the unit";
    assert!(supd.log().contains(&format!("it binds 127.0.0.1:{port} {told}")), "{}", supd.log());
    assert!(strangers(&supd).is_empty(), "{}", supd.log());
    assert_eq!(supd.status("web").pids(), [ask(port)]);
}

fn other_users() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "{APART}
apart(0x10000000, lambda: tcp('127.0.0.1', {port}).listen(5))
{}",
        serving(port)
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    let told =
        format!("a process of it in another user namespace binds 127.0.0.1:{port} and gets the listener");
    assert!(supd.log().contains(&told), "{}", supd.log());
    ask(port);
}

fn copied() {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &serving(port)));
    // Of two that were one, supd gives the one that binds its listener; the other is as it was.
    let program = format!(
        "a = socket.socket(); b = a.dup()
a.bind(('127.0.0.1', {port}))
print('port', b.getsockname()[1], flush=True)
b.listen(5)
serve(b)
"
    );
    let text = unit(&supd, &at(port), &program).replace("StartSec = \"10s\"", "StartSec = \"1s\"");
    supd.write_unit("web", &text);
    let output = supd.ctl(&["swap", "web"]).expect(1);
    assert!(output.text().contains("port 0"), "{output}");
    assert!(output.text().contains(&format!("nobody listened on 127.0.0.1:{port}")), "{output}");
    assert!(supd.log().contains("a copy that was made before bind(2)"), "{}", supd.log());
    // The one that binds serves whatever was copied, and a copy of that is the listener.
    let program = format!(
        "a = socket.socket(); b = a.dup()
a.bind(('127.0.0.1', {port})); c = a.dup(); a.close(); c.listen(5)
serve(c)
"
    );
    supd.write_unit("web", &unit(&supd, &at(port), &program));
    supd.ctl(&["swap", "web"]).expect(0);
    ask(port);
}

/// exit(2) of one thread alone, as pthread_exit(3) in main() makes it.
fn first_thread_ends() {
    let program = "import ctypes, threading
libc = ctypes.CDLL(None)
def later():
    time.sleep(0.3)
    s = tcp('127.0.0.1', PORT); s.listen(5)
    serve(s)
threading.Thread(target=later).start()
libc.syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)
";
    threaded(program);
}

fn own_descriptors() {
    let program = "import ctypes, threading
libc = ctypes.CDLL(None)
def apart():
    assert libc.unshare(0x400) == 0
    for at in range(100): os.dup(2)
    s = tcp('127.0.0.1', PORT); s.listen(5)
    serve(s)
threading.Thread(target=apart).start()
threading.Event().wait()
";
    threaded(program);
}

fn threaded(program: &str) {
    let supd = Supd::start();
    let port = free_port();
    supd.launch("web", &unit(&supd, &at(port), &program.replace("PORT", &port.to_string())));
    warm_round(&supd);
    let status = supd.status("web");
    assert_eq!(status.pids_in(status.active().expect("active")), [ask(port)]);
}

/// A resolver binds a netlink socket and UDP ports; what looks up users may do the same.
fn libraries() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "import pwd
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0); netlink.bind((0, 0))
packet = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); packet.bind('')
for _ in range(50):
    socket.getaddrinfo('localhost', 80, 0, 0, 0, socket.AI_ADDRCONFIG)
    socket.if_nameindex(); pwd.getpwnam('nobody')
    q = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); q.bind(('0.0.0.0', 0)); q.close()
{}",
        serving(port)
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    ask(port);
    assert!(strangers(&supd).is_empty(), "{}", supd.log());
    warm_round(&supd);
}

fn other_readiness() {
    let notify = "n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
while not os.path.exists('now'): time.sleep(0.02)
n.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])
";
    for (ready, speak) in [("started", ""), ("notify", notify)] {
        let supd = Supd::start();
        let port = free_port();
        let program = format!("s = tcp('127.0.0.1', {port}); s.listen(5)\n{speak}serve(s)\n");
        let text = unit(&supd, &at(port), &program);
        supd.write_unit("web", &text.replace("[Service]\n", &format!("[Service]\nReady = \"{ready}\"\n")));
        supd.ctl(&["daemon-reload"]).expect(0);
        let start = supd.ctl_start(&["start", "web"]);
        if ready == "notify" {
            wait_until("the worker", SOON, || !supd.status("web").pids().is_empty());
            assert_ne!(supd.status("web").state(), "active", "it has not said so");
            fs::write(supd.app().join("now"), "").expect("a file");
        }
        start.finish(SOON).expect(0);
        ask(port);
        warm_round(&supd);
    }
}

/// Those of the list come with it; the buffers are the unit's (ReceiveBuffer), and the rest supd's.
fn options() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 3)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 9000)
before = s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
s.bind(('::', {port})); s.listen(5)
get = s.getsockopt
print('options', get(socket.SOL_SOCKET, socket.SO_KEEPALIVE), get(socket.IPPROTO_TCP, socket.TCP_NODELAY),
      get(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), get(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT) > 0,
      get(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), get(socket.SOL_SOCKET, socket.SO_RCVBUF) > before, flush=True)
while True:
    client, _ = s.accept()
    print('client', client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), flush=True)
    client.recv(10); client.sendall(b'%d' % os.getpid()); client.close()
"
    );
    let sockets = format!("[[Socket]]\nListenStream = \"[::]:{port}\"\n");
    supd.launch("web", &unit(&supd, &sockets, &program));
    let logs = || supd.ctl(&["logs", "web"]).stdout;
    let told = wait_for("its options", SOON, || {
        logs().lines().find_map(|line| Some(line.split_once("options ")?.1.to_owned()))
    });
    assert_eq!(told, "1 1 77 True 0 True");
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("IPv4 comes as well");
    std::io::Write::write_all(&mut client, b"x").expect("a connection");
    crate::intercept::said(client);
    wait_until("the client's", SOON, || logs().contains("client 1"));
}

/// IORING_OP_BIND (6.11) is no system call of the worker's: nobody is asked, and the address is taken.
const URING: &str = "
import ctypes, mmap, struct
libc = ctypes.CDLL(None, use_errno=True)
params = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 4, params)
if ring < 0: raise SystemExit('no io_uring: %d' % ctypes.get_errno())
sq = struct.unpack_from('IIIIIIIIQ', params, 40)
cq = struct.unpack_from('IIIIIIIIQ', params, 80)
entries = struct.unpack_from('I', params, 0)[0]
map_ = mmap.mmap(ring, max(sq[6] + entries * 4, cq[5] + 8 * 16), mmap.MAP_SHARED, offset=0)
sqes = mmap.mmap(ring, entries * 64, mmap.MAP_SHARED, offset=0x10000000)
def submit(opcode, fd, address=0, more=0):
    tail = struct.unpack_from('I', map_, sq[1])[0]
    sqes[0:64] = struct.pack('BBHiQQIIQHHiQQ', opcode, 0, 0, fd, more, address, 0, 0, 0, 0, 0, 0, 0, 0)
    struct.pack_into('I', map_, sq[6] + 4 * (tail & (entries - 1)), 0)
    struct.pack_into('I', map_, sq[1], tail + 1)
    assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1, ctypes.get_errno()
    head = struct.unpack_from('I', map_, cq[0])[0]
    result = struct.unpack_from('Qi', map_, cq[5] + 16 * (head % (2 * entries)))[1]
    struct.pack_into('I', map_, cq[0], head + 1)
    return result
";

fn io_uring() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!(
        "{URING}s = socket.socket()
where = struct.pack('=H', 2) + struct.pack('>H', {port}) + bytes([127, 0, 0, 1]) + bytes(8)
kept = ctypes.create_string_buffer(where, 16)
result = submit(56, s.fileno(), ctypes.addressof(kept), 16)
print('io_uring said', result, flush=True)
{}",
        serving(port)
    );
    supd.launch("web", &unit(&supd, &at(port), &program));
    let told = wait_for("what io_uring said", SOON, || {
        let logs = supd.ctl(&["logs", "web"]).stdout;
        logs.lines().find_map(|line| Some(line.split_once("io_uring said ")?.1.to_owned()))
    });
    let in_use = nix::errno::Errno::EADDRINUSE as i32;
    let unknown = nix::errno::Errno::EINVAL as i32;
    assert!([-in_use, -unknown].map(|errno| errno.to_string()).contains(&told), "{told}");
    ask(port);
}
