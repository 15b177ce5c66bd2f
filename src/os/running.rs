//! Listening sockets of a server that already runs, and in which supd has no part: looked for in a child, for
//! it reads every descriptor of all its processes, and taken out of it by pidfd_getfd(2).
//!
//! What is taken is the same open file that the server has, queue and all: both accept from it.

use super::clock::BootId;
use super::intercept::is_elsewhere;
use super::members::{ancestors, everyone};
use super::pidfd::PidFd;
use super::port_holder;
use super::process::{Identity, Stat, is_of};
use super::sock_diag::{self, States};
use super::task::Task;
use super::{Error, listener, sockopt};
use crate::model::{Address, SocketKind};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getpeername, getsockname};
use nix::sys::stat::fstat;
use nix::unistd::getpid;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// No more processes of one server are looked into.
const PROCESSES_MAX: usize = 1024;

/// No more descriptors of one process are looked at.
const DESCRIPTORS_MAX: usize = 65_536;

/// So many addresses where it listens besides are told.
const ELSEWHERE_MAX: usize = 16;

/// So many processes that have a socket are told, to be waited for.
const HOLDERS_MAX: usize = 32;

/// A socket that is wanted, in the hands of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which of the addresses that were asked for.
    pub wanted: usize,
    /// The process that has it, and when that was started ([`Stat::start`]).
    pub process: (i32, u64),
    /// Its number there.
    pub number: RawFd,
    /// Its inode, as fstat(2) shows it.
    pub inode: u64,
    /// How many more sockets listen at that address, each with a queue of its own (SO_REUSEPORT).
    pub others: usize,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Who it is, as `nginx (pid 7, nginx.service)`.
    pub shown: String,
    /// The same in short: `nginx.service`, or `nginx (pid 7)`.
    pub name: String,
    /// What a person types to end it.
    pub remedy: String,
    /// What it has of what was asked for.
    pub sockets: Vec<Held>,
    /// Those of its processes that have any of these, and when each was started.
    pub holders: Vec<(i32, u64)>,
    /// Where it listens besides, for people.
    pub elsewhere: Vec<String>,
    /// A process that the kernel does not let supd look into, and why.
    pub closed: Option<(i32, Errno)>,
}

/// Searches the process `pid`, its descendants, and what else is in its .service of systemd, for sockets at
/// these addresses. `uid`: only processes that are this user's. The answer is for [`decode`].
///
/// # Errors
/// What [`Task::run`] says.
pub fn search(pid: i32, uid: Option<u32>, wanted: &[Address], bound: Duration) -> Result<Task, Error> {
    let supd = getpid().as_raw();
    Task::run("the search for what a server listens on", bound, &[], || {
        Ok(encode(&find(pid, uid, wanted, supd)).into_bytes())
    })
}

/// Takes a socket that was found out of its process, and out of no other: not if that has ended, is not (any
/// more) this user's, or has something else under that number by now.
///
/// # Errors
/// Why not, in words: it is to be asked for anew.
pub fn take(held: &Held, uid: Option<u32>, boot: &BootId) -> Result<OwnedFd, String> {
    let (pid, start) = held.process;
    let gone = || format!("process {pid}, which had it, has ended");
    let changed = || format!("process {pid} has changed meanwhile");
    let identity = Identity { pid, start, boot: boot.clone(), inode: None };
    let process = identity.matches_live(boot).ok_or_else(gone)?;
    let fd = process.descriptor(held.number).map_err(|errno| match errno {
        _ if process.is_over() => gone(),
        Errno::ESRCH => gone(),
        Errno::EBADF => changed(),
        other => other.desc().to_owned(),
    })?;
    let inode = fstat(&fd).map(|found| found.st_ino).map_err(|errno| errno.desc().to_owned())?;
    // Last: whose it is now, it was when the descriptor was taken.
    let allowed = uid.is_none_or(|uid| is_of(pid, uid));
    match (inode == held.inode && allowed, process.is_over()) {
        (true, false) => Ok(fd),
        (false, false) => Err(changed()),
        (_, true) => Err(gone()),
    }
}

fn find(pid: i32, uid: Option<u32>, wanted: &[Address], supd: i32) -> Found {
    let mut found = told(pid, wanted);
    let mut seen = Seen::default();
    for stat in family(pid, supd) {
        if uid.is_some_and(|uid| !is_of(stat.pid, uid)) {
            continue;
        }
        match look_into(&stat, wanted, &mut seen, &mut found) {
            // It has ended.
            Ok(()) | Err(Errno::ESRCH | Errno::ENOENT) => {}
            Err(errno) => drop(found.closed.get_or_insert((stat.pid, errno))),
        }
    }
    found.holders = seen.holders.into_iter().collect();
    // The one that was named is waited for in any case.
    found.holders.sort_by_key(|(holder, _)| *holder != pid);
    found.holders.truncate(HOLDERS_MAX);
    for at in 0..found.sockets.len() {
        let its = found.sockets[at].wanted;
        let own = found.sockets.iter().filter(|other| other.wanted == its).count();
        found.sockets[at].others = own.max(listening(&wanted[its])).saturating_sub(1);
    }
    found
}

/// Who it is, in words. In the child: where a process is stuck, its environment cannot be read until it is not.
fn told(pid: i32, wanted: &[Address]) -> Found {
    let holder = port_holder::describe(pid.unsigned_abs(), None);
    let name = match (&holder.supd_unit, &holder.systemd_unit) {
        (None, Some(unit)) => unit.name.clone(),
        _ => format!("{} (pid {pid})", holder.program),
    };
    let remedy = wanted.first().map_or_else(|| format!("kill {pid}"), |address| holder.remedy(address));
    Found { shown: holder.to_string(), name, remedy, ..Found::default() }
}

/// Of how many listening sockets at a port of TCP the kernel knows, whoever has them; 0: it does not tell.
fn listening(address: &Address) -> usize {
    let Address::Ip { kind: SocketKind::Stream, host, port } = address else { return 0 };
    let sockets = sock_diag::inet(false, *port, States::LISTENING).unwrap_or_default();
    sockets.iter().filter(|socket| socket.host == *host).count()
}

/// The process itself, those that descend from it, and those in its .service. supd is in no such family, and
/// what descends from supd only if the one that was named does, too.
fn family(pid: i32, supd: i32) -> Vec<Stat> {
    let (all, us) = (everyone(), getpid().as_raw());
    let service = service(pid).filter(|its| Some(its) != service(supd).as_ref());
    let is_kin = |stat: &Stat| {
        let mut parents = ancestors(stat, &all);
        let first = parents.find(|parent| *parent == pid || *parent == supd);
        match first {
            Some(parent) if parent == pid => pid != 1,
            Some(_) => false,
            None => service.is_some() && service == self::service(stat.pid),
        }
    };
    let others = all.values().filter(|stat| ![pid, supd, us].contains(&stat.pid) && is_kin(stat));
    let mut others: Vec<Stat> = others.copied().collect();
    others.sort_unstable_by_key(|stat| stat.pid);
    let own = all.get(&pid).copied().filter(|_| pid != supd);
    own.into_iter().chain(others).filter(|stat| !stat.zombie).take(PROCESSES_MAX).collect()
}

/// The cgroup of the .service that a process is in.
fn service(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    service_of(&text).map(str::to_owned)
}

fn service_of(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let end = path.rfind(".service").filter(|_| matches!(controllers, "" | "name=systemd"))?;
        let path = &path[..end + ".service".len()];
        let name = path.rsplit('/').next()?;
        // The manager of a user: what is in it is no service of its own.
        (!name.starts_with("user@")).then_some(path)
    })
}

/// The sockets that were looked at, and who has those that are wanted.
#[derive(Default)]
struct Seen {
    sockets: BTreeMap<u64, bool>,
    holders: BTreeSet<(i32, u64)>,
}

/// Looks at each socket of one process that no other had.
fn look_into(stat: &Stat, wanted: &[Address], seen: &mut Seen, found: &mut Found) -> Result<(), Errno> {
    let process = PidFd::open(stat.pid).map_err(|error| error.errno)?;
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    let entries = fs::read_dir(format!("/proc/{}/fd", stat.pid)).map_err(errno)?;
    for entry in entries.flatten().take(DESCRIPTORS_MAX) {
        let number = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        let link = fs::read_link(entry.path()).ok();
        let inode =
            link.as_deref().and_then(|link| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']'));
        let (Some(number), Some(Ok(inode))) = (number, inode.map(str::parse::<u64>)) else { continue };
        let is_wanted = match seen.sockets.get(&inode) {
            Some(known) => *known,
            None => {
                let fd = match process.descriptor(number) {
                    // It was closed meanwhile.
                    Err(Errno::EBADF) => continue,
                    other => other?,
                };
                let at = look_at(&fd, wanted, found);
                if let Some(wanted) = at {
                    let process = (stat.pid, stat.start);
                    found.sockets.push(Held { wanted, process, number, inode, others: 0 });
                }
                seen.sockets.insert(inode, at.is_some());
                at.is_some()
            }
        };
        if is_wanted {
            seen.holders.insert((stat.pid, stat.start));
        }
    }
    Ok(())
}

/// Which of the wanted addresses a socket listens at; another one is noted.
fn look_at(fd: &OwnedFd, wanted: &[Address], found: &mut Found) -> Option<usize> {
    let place = listens_at(fd.as_fd())?;
    let elsewhere = is_elsewhere(fd);
    let is_it = |address: &Address| !elsewhere && listener::is_at(fd.as_fd(), address);
    let at = wanted.iter().position(is_it);
    if at.is_none() && found.elsewhere.len() < ELSEWHERE_MAX {
        let note = if elsewhere { " (in another network namespace)" } else { "" };
        let text = format!("{place}{note}");
        if !found.elsewhere.contains(&text) {
            found.elsewhere.push(text);
        }
    }
    at
}

/// Where a socket waits for clients, in words; `None`: it does not.
fn listens_at(fd: BorrowedFd<'_>) -> Option<String> {
    let option = |name| sockopt::get(fd, libc::SOL_SOCKET, name).ok();
    let datagrams = option(libc::SO_TYPE)? == libc::SOCK_DGRAM;
    let waits = match datagrams {
        true => getpeername::<SockaddrStorage>(fd.as_raw_fd()) == Err(Errno::ENOTCONN),
        false => option(libc::SO_ACCEPTCONN) == Some(1),
    };
    let name: SockaddrStorage = getsockname(fd.as_raw_fd()).ok().filter(|_| waits)?;
    let kind = if datagrams { "datagrams at " } else { "" };
    if let (Some(AddressFamily::Unix), Some(unix)) = (name.family(), name.as_unix_addr()) {
        let path = unix.path().map(|path| path.display().to_string());
        let named = unix.as_abstract().map(|name| format!("@{}", String::from_utf8_lossy(name)));
        return path.or(named).map(|place| format!("{kind}{}", port_holder::printable(&place)));
    }
    let v4 = name.as_sockaddr_in().map(|v4| (v4.port(), v4.to_string()));
    let (port, place) = v4.or_else(|| name.as_sockaddr_in6().map(|v6| (v6.port(), v6.to_string())))?;
    // What only ever sends is bound by the kernel, and nobody would look for it.
    (port != 0).then(|| format!("{kind}{place}"))
}

/// A line for each thing, what is free text at its end.
fn encode(found: &Found) -> String {
    let mut text = format!("shown {}\nname {}\nremedy {}\n", found.shown, found.name, found.remedy);
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(args);
        text.push('\n');
    };
    for Held { wanted, process: (pid, start), number, inode, others } in &found.sockets {
        line(format_args!("socket {wanted} {pid} {start} {number} {inode} {others}"));
    }
    found.holders.iter().for_each(|(pid, start)| line(format_args!("holder {pid} {start}")));
    found.elsewhere.iter().for_each(|place| line(format_args!("elsewhere {place}")));
    found.closed.iter().for_each(|(pid, errno)| line(format_args!("closed {pid} {}", *errno as i32)));
    text
}

/// What a search found.
#[must_use]
pub fn decode(answer: &[u8]) -> Found {
    let mut found = Found::default();
    for line in String::from_utf8_lossy(answer).lines() {
        let Some((what, rest)) = line.split_once(' ') else { continue };
        let mut numbers = rest.split(' ').map(|number| number.parse::<u64>().unwrap_or_default());
        let mut next = || numbers.next().unwrap_or_default();
        let small = |number: u64| i32::try_from(number).unwrap_or_default();
        match what {
            "shown" => found.shown = rest.to_owned(),
            "name" => found.name = rest.to_owned(),
            "remedy" => found.remedy = rest.to_owned(),
            "elsewhere" => found.elsewhere.push(rest.to_owned()),
            "holder" => found.holders.push((small(next()), next())),
            "closed" => found.closed = Some((small(next()), Errno::from_raw(small(next())))),
            "socket" => found.sockets.push(Held {
                wanted: usize::try_from(next()).unwrap_or(usize::MAX),
                process: (small(next()), next()),
                number: small(next()),
                inode: next(),
                others: usize::try_from(next()).unwrap_or(usize::MAX),
            }),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::task::tests::finish;
    use nix::unistd::geteuid;
    use std::net::TcpListener;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::process::{Child, Command, Stdio};

    /// A server with these sockets as its standard input and output.
    fn server(input: OwnedFd, output: OwnedFd) -> Child {
        let mut command = Command::new("sleep");
        command.arg("60").stdin(Stdio::from(input)).stdout(Stdio::from(output));
        command.spawn().expect("sleep is there")
    }

    fn searched(server: &Child, uid: Option<u32>, wanted: &[Address]) -> Found {
        let pid = i32::try_from(server.id()).unwrap();
        decode(&finish(search(pid, uid, wanted, Duration::from_secs(60)).unwrap()).unwrap())
    }

    fn tcp(port: u16) -> Address {
        Address::Ip { kind: SocketKind::Stream, host: "127.0.0.1".parse().unwrap(), port }
    }

    #[test]
    fn a_socket_is_found_and_taken_from_the_very_process_that_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let name = format!("supd-running-{}", std::process::id());
        let named = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let inode = fstat(&listener).unwrap().st_ino;
        let mut server = server(listener.try_clone().unwrap().into(), named.into());
        let wanted = [tcp(1), tcp(port)];

        let found = searched(&server, None, &wanted);
        let [held] = found.sockets.as_slice() else { panic!("{found:?}") };
        assert_eq!((held.wanted, held.number, held.inode, held.others), (1, 0, inode, 0));
        let pid = i32::try_from(server.id()).unwrap();
        assert_eq!((found.holders.as_slice(), held.process.0), ([held.process].as_slice(), pid));
        assert_eq!(found.elsewhere, [format!("@{name}")]);
        assert!(found.closed.is_none() && found.shown.contains(&format!("(pid {pid}")), "{found:?}");

        let boot = BootId::read().unwrap();
        let uid = geteuid().as_raw();
        let taken = take(held, Some(uid), &boot).unwrap();
        assert_eq!(fstat(&taken).unwrap().st_ino, inode);
        assert!(take(held, Some(uid + 1), &boot).unwrap_err().contains("has changed"));
        assert!(take(&Held { inode: inode + 1, ..held.clone() }, None, &boot).is_err());
        assert!(take(&Held { number: 99, ..held.clone() }, None, &boot).is_err());
        let (pid, start) = held.process;
        let later = Held { process: (pid, start + 1), ..held.clone() };
        assert!(
            take(&later, None, &boot).unwrap_err().contains("has ended"),
            "its number is another's by now"
        );
        server.kill().unwrap();
        server.wait().unwrap();
        assert!(take(held, None, &boot).unwrap_err().contains("has ended"));
    }

    #[test]
    fn nothing_of_another_users_process_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut server = server(listener.into(), other.into());
        let found = searched(&server, Some(geteuid().as_raw() + 1), &[tcp(port)]);
        assert!(found.sockets.is_empty() && found.elsewhere.is_empty(), "{found:?}");
        server.kill().unwrap();
        server.wait().unwrap();
    }

    #[test]
    fn what_is_found_comes_over_the_pipe() {
        let found = Found {
            shown: "nginx (pid 7, nginx.service)".into(),
            name: "nginx.service".into(),
            remedy: "systemctl stop nginx.service".into(),
            sockets: vec![Held { wanted: 1, process: (7, 8), number: 9, inode: 10, others: 11 }],
            holders: vec![(7, 8), (12, 13)],
            elsewhere: vec!["0.0.0.0:80".into(), "/run/a b".into()],
            closed: Some((14, Errno::EPERM)),
        };
        assert_eq!(decode(encode(&found).as_bytes()), found);
        assert_eq!(decode(b"garbage\nsocket x\n\xff").sockets.len(), 1);
    }

    #[test]
    fn the_cgroup_of_a_service_is_told_from_that_of_a_session() {
        assert_eq!(service_of("0::/system.slice/nginx.service\n"), Some("/system.slice/nginx.service"));
        assert_eq!(service_of("0::/system.slice/nginx.service/w"), Some("/system.slice/nginx.service"));
        assert_eq!(service_of("4:cpu:/a.service\n1:name=systemd:/b.service\n"), Some("/b.service"));
        let user = "/user.slice/user-1.slice/user@1.service";
        assert_eq!(service_of(&format!("0::{user}/init.scope")), None);
        assert_eq!(
            service_of(&format!("0::{user}/app.slice/x.service")),
            Some(&*format!("{user}/app.slice/x.service"))
        );
        assert_eq!(service_of("0::/user.slice/session-3.scope"), None);
    }
}
