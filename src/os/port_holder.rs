//! Who holds an address that supd wants: process, program, systemd unit, and what to type.
//!
//! A best guess for an error message, never a reason to act: processes come and go meanwhile, and
//! other users' are hidden from an unprivileged supd. Bounded in time, for supd's loop waits for it.

use super::sock_diag::{self, States, UnixSocket};
use crate::model::{Address, SocketKind};
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// Descriptors looked at, of all processes together: some 2 us each.
const MOST_DESCRIPTORS: usize = 50_000;
/// Of one process: a proxy has 100,000 connections, but listened before it had the first.
const MOST_OF_ONE: usize = 4_096;
/// And on a machine that has no time to spare:
const SEARCH: Duration = Duration::from_secs(1);
/// Holders named; a preforking server has as many as it has workers.
const MOST_HOLDERS: usize = 8;

/// One process that holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `None`: the kernel says that somebody holds it, but supd may not see or did not find who.
    pub pid: Option<u32>,
    /// The name of its executable, without control characters; empty if unknown.
    pub program: String,
    /// The user that made the socket.
    pub uid: Option<u32>,
    /// The .service that it runs in.
    pub systemd_unit: Option<SystemdUnit>,
    /// SUPD_UNIT in its environment: it is a worker of a supd.
    pub supd_unit: Option<String>,
}

/// A .service of the system's manager or of a user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdUnit {
    /// As `nginx.service`.
    pub name: String,
    /// Run by `systemd --user`.
    pub of_user: bool,
}

/// The processes that hold `address` or one that overlaps it; empty if nobody was found.
#[must_use]
pub fn holders(address: &Address) -> Vec<Holder> {
    match address {
        Address::Ip { kind, host, port } => of_port(*kind == SocketKind::Datagram, *host, *port),
        Address::Abstract { name, .. } => {
            let wanted = [b"\0", name.as_bytes()].concat();
            of_unix(|socket| socket.name == wanted)
        }
        Address::Unix { path, .. } => match fs::symlink_metadata(path) {
            Ok(file) => of_unix(|socket| is_bound_to(socket, file.dev(), file.ino(), path)),
            Err(_) => Vec::new(),
        },
        Address::Fifo { path } => match fs::symlink_metadata(path) {
            Ok(file) => processes(&Wanted::File { device: file.dev(), inode: file.ino() }),
            Err(_) => Vec::new(),
        },
    }
}

/// Whether any living socket, listening or not, is bound to this file; `None`: the kernel does not tell.
#[must_use]
pub fn is_bound(device: u64, inode: u64, path: &Path) -> Option<bool> {
    let found = sock_diag::unix(|socket| is_bound_to(socket, device, inode, path));
    found.ok().map(|found| !found.is_empty())
}

/// By the file, or where devices cannot be compared (btrfs), by half of that and the name.
fn is_bound_to(socket: &UnixSocket, device: u64, inode: u64, path: &Path) -> bool {
    socket.file.is_some_and(|file| {
        file.is(device, inode) || file.has_inode(inode) && socket.name == path.as_os_str().as_bytes()
    })
}

impl Holder {
    /// What a person types to make it let go.
    #[must_use]
    pub fn remedy(&self, address: &Address) -> String {
        let Some(pid) = self.pid else {
            let flag = if address.kind() == Some(SocketKind::Datagram) { "u" } else { "t" };
            return match address {
                Address::Ip { port, .. } => format!("as root, ss -l{flag}np 'sport = :{port}' shows who"),
                _ => "as root, ss -lxp shows who".into(),
            };
        };
        match (self.program.as_str(), address, &self.supd_unit, &self.systemd_unit) {
            ("docker-proxy", Address::Ip { port, .. }, ..) => {
                format!("docker ps --filter publish={port} shows the container to stop")
            }
            ("systemd", ..) => "systemctl list-sockets shows the .socket unit to stop".into(),
            (_, _, Some(unit), _) => format!("supctl stop {unit}, or kill {pid} if its supd is gone"),
            (_, _, _, Some(unit)) if unit.of_user => format!("systemctl --user stop {}", unit.name),
            (_, _, _, Some(unit)) => format!("systemctl stop {}", unit.name),
            _ => format!("kill {pid}"),
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.pid, self.uid) {
            (None, Some(uid)) => return write!(f, "a process of user {uid} that supd cannot see"),
            (None, None) => return f.write_str("a process that supd cannot see"),
            (Some(pid), _) => write!(f, "{} (pid {pid}", self.program)?,
        }
        match (&self.supd_unit, &self.systemd_unit) {
            (Some(unit), _) => write!(f, ", supd's unit {unit})"),
            (None, Some(unit)) => write!(f, ", {})", unit.name),
            (None, None) => f.write_str(")"),
        }
    }
}

fn of_port(udp: bool, host: IpAddr, port: u16) -> Vec<Holder> {
    let states = if udp { States::ALL } else { States::WAITING };
    let mut sockets = sock_diag::inet(udp, port, states).unwrap_or_default();
    if sockets.is_empty() {
        // A port of the ephemeral range may be taken by the near end of an outgoing connection.
        sockets = sock_diag::inet(udp, port, States::ALL).unwrap_or_default();
    }
    if sockets.iter().any(|s| overlap(host, s.host)) {
        sockets.retain(|s| overlap(host, s.host));
    }
    found(sockets.iter().map(|s| s.inode).collect(), sockets.first().map(|s| s.uid))
}

fn of_unix(mine: impl FnMut(&UnixSocket) -> bool) -> Vec<Holder> {
    let sockets = sock_diag::unix(mine).unwrap_or_default();
    found(sockets.iter().map(|s| s.inode).collect(), None)
}

/// The processes, or one that nobody can see if there are sockets but no process.
fn found(inodes: Vec<u32>, uid: Option<u32>) -> Vec<Holder> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let mut holders = processes(&Wanted::Sockets(inodes));
    for holder in &mut holders {
        holder.uid = uid;
    }
    if holders.is_empty() {
        let program = String::new();
        holders.push(Holder { pid: None, program, uid, systemd_unit: None, supd_unit: None });
    }
    holders
}

/// Whether two sockets on one port get in each other's way. An IPv6 wildcard may be IPv6 only:
/// not told here, and asked only once the kernel has said that there is a conflict.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    let (one, other) = (one.to_canonical(), other.to_canonical());
    let wildcard_over =
        |wild: IpAddr, host: IpAddr| wild.is_unspecified() && (wild.is_ipv6() || host.is_ipv4());
    one == other || wildcard_over(one, other) || wildcard_over(other, one)
}

enum Wanted {
    Sockets(Vec<u32>),
    File { device: u64, inode: u64 },
}

impl Wanted {
    fn is(&self, link: &Path) -> bool {
        let Ok(target) = fs::read_link(link) else { return false };
        let Some(target) = target.to_str() else { return false };
        match self {
            Self::Sockets(inodes) => target
                .strip_prefix("socket:[")
                .and_then(|rest| rest.strip_suffix(']')?.parse().ok())
                .is_some_and(|inode| inodes.contains(&inode)),
            // A stat through the link could wait for a dead NFS server: only after the cheap test.
            Self::File { device, inode } => {
                target.starts_with('/')
                    && !target.starts_with("/dev/")
                    && fs::metadata(link).is_ok_and(|m| (m.dev(), m.ino()) == (*device, *inode))
            }
        }
    }
}

/// Every process with a descriptor that is wanted: this one first, the others in the order of their pids.
fn processes(wanted: &Wanted) -> Vec<Holder> {
    let end = Instant::now() + SEARCH;
    let mut left = MOST_DESCRIPTORS;
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let own = std::process::id();
    pids.sort_unstable_by_key(|pid| (*pid != own, *pid));
    let mut holders = Vec::new();
    for pid in pids {
        if holders.len() >= MOST_HOLDERS || left == 0 || Instant::now() >= end {
            break;
        }
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let holds = descriptors.take(left.min(MOST_OF_ONE)).any(|entry| {
            left -= 1;
            wanted.is(&entry.path())
        });
        if holds {
            holders.push(describe(pid, None));
        }
    }
    holders
}

/// What can be told of a process, which may be gone already.
#[must_use]
pub fn describe(pid: u32, uid: Option<u32>) -> Holder {
    let folder = format!("/proc/{pid}");
    let program = fs::read_link(format!("{folder}/exe"))
        .ok()
        .and_then(|exe| Some(exe.file_name()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned()))
        .or_else(|| start_of(&format!("{folder}/comm")).map(|comm| comm.trim_end().to_owned()));
    Holder {
        pid: Some(pid),
        program: printable(&program.unwrap_or_default()),
        uid,
        systemd_unit: start_of(&format!("{folder}/cgroup")).and_then(|text| systemd_unit(&text)),
        supd_unit: start_of(&format!("{folder}/environ"))
            .and_then(|all| Some(printable(all.split('\0').find_map(|one| one.strip_prefix("SUPD_UNIT="))?))),
    }
}

/// The first 128 KiB of a file in /proc.
fn start_of(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(128 * 1024).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A program may be named after an escape sequence, and this ends on somebody's terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The .service in a /proc/PID/cgroup: version 2, or the hierarchy that systemd has in version 1.
fn systemd_unit(cgroups: &str) -> Option<SystemdUnit> {
    cgroups
        .lines()
        .filter_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            matches!(controllers, "" | "name=systemd").then_some(path)
        })
        .find_map(|path| {
            let is_manager = |part: &str| part.starts_with("user@");
            let name = path.split('/').rfind(|part| part.ends_with(".service"))?;
            // A shell in a session of a user's manager belongs to no .service of its own.
            let of_user = path.split('/').any(is_manager);
            (!is_manager(name)).then(|| SystemdUnit { name: printable(name), of_user })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    fn tcp(host: &str, port: u16) -> Address {
        Address::Ip { kind: SocketKind::Stream, host: host.parse().unwrap(), port }
    }

    /// Whether this process holds `address`.
    fn mine(address: &Address) -> bool {
        holders(address).iter().any(|holder| holder.pid == Some(std::process::id()))
    }

    /// That this process holds `address` and no other does. Asked again, as a child that another test
    /// forked holds everything of ours until it execs.
    #[track_caller]
    fn only_mine(address: &Address) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let pids: Vec<Option<u32>> = holders(address).iter().map(|holder| holder.pid).collect();
            if pids == [Some(std::process::id())] {
                return;
            }
            assert!(Instant::now() < end, "{address} is held by {pids:?}");
        }
    }

    #[test]
    fn the_holder_of_each_kind_of_address_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            only_mine(&tcp(host, port));
        }
        let found = holders(&tcp("127.0.0.1", port)).remove(0);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(found.program, exe.file_name().unwrap().to_str().unwrap());

        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = udp.local_addr().unwrap().port();
        only_mine(&Address::Ip { kind: SocketKind::Datagram, host, port });

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _unix = UnixListener::bind(&path).unwrap();
        only_mine(&Address::Unix { kind: SocketKind::Stream, path });

        let name = format!("supd-holder-{}", std::process::id());
        let _named = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        only_mine(&Address::Abstract { kind: SocketKind::Stream, name });

        let path = folder.path().join("f");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let fifo = Address::Fifo { path: path.clone() };
        assert!(!mine(&fifo));
        let _open = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        only_mine(&fifo);
    }

    #[test]
    fn a_connection_that_goes_out_from_the_port_is_found() {
        let far = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(far.local_addr().unwrap()).unwrap();
        only_mine(&tcp("127.0.0.1", near.local_addr().unwrap().port()));
    }

    #[test]
    fn a_bystander_on_another_port_is_not_taken_for_the_holder() {
        use nix::sys::socket;
        use std::os::fd::AsRawFd;
        let cloexec = socket::SockFlag::SOCK_CLOEXEC;
        let stream = socket::SockType::Stream;
        let bound = socket::socket(socket::AddressFamily::Inet, stream, cloexec, None).unwrap();
        socket::bind(bound.as_raw_fd(), &socket::SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        let mut bystander =
            std::process::Command::new("sleep").arg("60").stdin(bound).spawn().expect("sleep is there");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        only_mine(&tcp("127.0.0.1", listener.local_addr().unwrap().port()));
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }

    #[test]
    fn a_bound_file_is_told_from_a_stale_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        let file = fs::symlink_metadata(&path).unwrap();
        // Under another name, too: what counts is the file.
        let other = folder.path().join("other");
        assert_eq!(is_bound(file.dev(), file.ino(), &other), Some(true));
        assert_eq!(is_bound(file.dev() + 1, file.ino(), &other), Some(false));
        drop(socket);
        // A child on its way to exec may hold it a little longer.
        let end = Instant::now() + Duration::from_secs(20);
        while is_bound(file.dev(), file.ino(), &path) != Some(false) {
            assert!(Instant::now() < end);
        }
    }

    #[test]
    fn the_systemd_unit_is_read_from_both_versions_of_cgroups() {
        let unit = |text: &str| systemd_unit(text).map(|unit| (unit.name, unit.of_user));
        let nginx = Some(("nginx.service".to_owned(), false));
        assert_eq!(unit("0::/system.slice/nginx.service\n"), nginx);
        assert_eq!(unit("9:memory:/x.service\n1:name=systemd:/system.slice/nginx.service\n0::/\n"), nginx);
        assert_eq!(unit("0::/system.slice/nginx.service/payload/worker"), nginx);
        let app = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service";
        assert_eq!(unit(app), Some(("web.service".to_owned(), true)));
        assert_eq!(unit("0::/user.slice/user-1000.slice/session-3.scope"), None);
        assert_eq!(unit("0::/user.slice/user-0.slice/user@0.service/tmux-spawn-1.scope"), None);
        assert_eq!(unit("0::/init.scope"), None);
        assert_eq!(unit("nonsense\n:\n::"), None);
    }

    #[test]
    fn remedies_fit_their_holder() {
        let unit = |name: &str, of_user| Some(SystemdUnit { name: name.into(), of_user });
        let holder = |program: &str, systemd_unit, supd_unit: Option<&str>| Holder {
            pid: Some(7),
            program: program.into(),
            uid: Some(0),
            systemd_unit,
            supd_unit: supd_unit.map(Into::into),
        };
        let remedy = |holder: Holder| holder.remedy(&tcp("0.0.0.0", 80));
        assert_eq!(
            remedy(holder("nginx", unit("nginx.service", false), None)),
            "systemctl stop nginx.service"
        );
        assert_eq!(remedy(holder("x", unit("x.service", true), None)), "systemctl --user stop x.service");
        assert_eq!(remedy(holder("python3", None, None)), "kill 7");
        assert!(remedy(holder("docker-proxy", unit("docker.service", false), None)).contains("publish=80"));
        assert!(remedy(holder("systemd", None, None)).contains("list-sockets"));
        assert!(remedy(holder("x", unit("supd.service", false), Some("web"))).starts_with("supctl stop web"));
        let hidden = Holder { pid: None, ..holder("", None, None) };
        assert_eq!(hidden.to_string(), "a process of user 0 that supd cannot see");
        assert!(remedy(hidden).contains("ss -ltnp 'sport = :80'"));
        let named = holder("nginx", unit("nginx.service", false), None);
        assert_eq!(named.to_string(), "nginx (pid 7, nginx.service)");
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\x1b[31mb\n"), "a?[31mb?");
    }
}
