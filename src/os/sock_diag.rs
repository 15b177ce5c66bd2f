//! sock_diag(7): what the kernel tells about sockets of this network namespace, by netlink.
//!
//! Asked instead of /proc/net/tcp because the kernel filters by port and state: on a machine with
//! a million connections the text file takes seconds to read, this a table walk inside the kernel.
//! The answers are those of the kernel's netlink(7) and never wait; every loop is bounded all the same.

use super::error::Error;
use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

// linux/sock_diag.h, linux/inet_diag.h, linux/unix_diag.h, linux/netlink.h; libc has none of them.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_ICONS: u16 = 3;
const UNIX_DIAG_RQLEN: u16 = 4;
const UDIAG_SHOW_NAME: u32 = 1;
const UDIAG_SHOW_VFS: u32 = 2;
const UDIAG_SHOW_ICONS: u32 = 8;
const UDIAG_SHOW_RQLEN: u32 = 0x10;

/// Rows after which a dump is cut off: a port has a handful, a busy desktop 2,000 UNIX sockets.
const MOST_ROWS: usize = 100_000;

/// States of TCP and UDP sockets as a mask (net/tcp_states.h). Those of UNIX sockets are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States(pub u32);

impl States {
    /// Listening, and bound without listening (TCP_BOUND_INACTIVE, Linux 6.8; ignored before).
    pub const WAITING: Self = Self(1 << 10 | 1 << 13);
    /// Listening.
    pub const LISTENING: Self = Self(1 << 10);
    /// Connected, and not finished by the server's own will: established, both FIN_WAITs (it has said
    /// all, and may still read), CLOSE_WAIT (the client has said all, and may still be answered).
    pub const OPEN: Self = Self(1 << 1 | 1 << 4 | 1 << 5 | 1 << 8);
    /// The server has said all, and not yet heard all.
    const FIN_WAIT: Self = Self(1 << 4 | 1 << 5);
    /// A handshake half done: SYN_RECV, by the name the kernel shows and the one it keeps.
    pub const HALF_OPEN: Self = Self(1 << 3 | 1 << 12);
    /// Every state.
    pub const ALL: Self = Self(0xffff_ffff);

    fn has(self, state: u8) -> bool {
        1u32.checked_shl(state.into()).is_some_and(|bit| self.0 & bit != 0)
    }
}

/// A TCP or UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InetSocket {
    /// Its local address; an IPv6 wildcard may take IPv4 as well.
    pub host: IpAddr,
    /// Its number in /proc/PID/fd (`socket:[inode]`); 0 if it belongs to the kernel or nobody any more.
    pub inode: u32,
    /// The user that made it.
    pub uid: u32,
}

/// A UNIX socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixSocket {
    /// Its number in /proc/PID/fd (`socket:[inode]`).
    pub inode: u32,
    /// The name as bound: a path as somebody wrote it, or NUL and an abstract name.
    pub name: Vec<u8>,
    /// The file it is bound to, whatever names that has by now.
    pub file: Option<BoundFile>,
    /// Listening: connections waiting for accept. Else: bytes waiting to be read.
    pub queue: Option<u32>,
    /// Listening: no more connections may wait.
    pub most: Option<u32>,
    /// Listening: the number of the client's socket that has waited longest for accept. Only
    /// [`unix_waiting`] asks for it.
    pub first: Option<u32>,
}

/// A TCP connection of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpConnection {
    /// Its local address; on an IPv6 socket that of an IPv4 client is mapped.
    pub host: IpAddr,
    /// Its local port.
    pub port: u16,
    /// How far it is.
    pub phase: TcpPhase,
    /// Its number in /proc/PID/fd; 0: nobody has accepted it yet, or the server has closed it.
    pub inode: u32,
    /// Never another's as long as the machine is up.
    pub cookie: u64,
}

/// See [`TcpConnection`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TcpPhase {
    /// Its handshake is half done.
    Arriving,
    /// The server may still say something.
    Open,
    /// The server has said all.
    Finishing,
}

/// The server's end of a connection over a UNIX socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixConnection {
    /// Its number in /proc/PID/fd.
    pub inode: u32,
    /// Never another's as long as the machine is up.
    pub cookie: u64,
    /// The name of the listener that it was accepted from, as in [`UnixSocket::name`].
    pub name: Vec<u8>,
}

/// A file as sock_diag knows it: the kernel's own device number, and half of the inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundFile {
    device: u32,
    inode: u32,
}

impl BoundFile {
    /// Whether this is the file that stat(2) calls so. On btrfs, whose stat(2) shows a device for each
    /// subvolume, it never is.
    #[must_use]
    pub fn is(self, device: u64, inode: u64) -> bool {
        // MKDEV of linux/kdev_t.h: 12 bits of major, 20 of minor; libc packs them in another way.
        libc::makedev(self.device >> 20, self.device & 0xf_ffff) == device && self.has_inode(inode)
    }

    /// Whether the inode number fits, whatever the device.
    #[must_use]
    pub fn has_inode(self, inode: u64) -> bool {
        u64::from(self.inode) == inode & 0xffff_ffff
    }
}

/// All TCP (or with `udp`, UDP) sockets with this local port, over IPv4 and IPv6. An MPTCP socket is
/// among them: its inner TCP socket carries the inode of the descriptor (Linux 5.7).
///
/// # Errors
/// ENOENT or EPROTONOSUPPORT where the kernel lacks the module, EPERM in some sandboxes.
pub fn inet(udp: bool, port: u16, states: States) -> Result<Vec<InetSocket>, Error> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = u8::try_from(family).expect("address families are small");
        dump(&inet_request(family, udp, port, states), |row| found.extend(inet_row(row, port)))?;
    }
    Ok(found)
}

/// Every TCP connection over IPv4, or IPv6, with this local port (0: with any), of those states.
/// Whether `each` was given all of them: after `most` rows the list is cut off.
///
/// # Errors
/// As [`inet`].
pub fn tcp_connections(
    six: bool,
    port: u16,
    states: States,
    most: usize,
    mut each: impl FnMut(TcpConnection),
) -> Result<bool, Error> {
    let family = if six { libc::AF_INET6 } else { libc::AF_INET };
    let family = u8::try_from(family).expect("address families are small");
    let request = inet_request(family, false, port, states);
    dump_some(&request, most, |row| tcp_row(row).into_iter().for_each(&mut each))
}

/// The server's end of one TCP connection, by both addresses; `None`: there is none, or it is no longer
/// connected.
///
/// # Errors
/// As [`inet`].
pub fn tcp_connection(server: SocketAddr, client: SocketAddr) -> Result<Option<TcpConnection>, Error> {
    let mut found = None;
    let answer = dump(&tcp_request(server, client), |row| {
        // Where there is no such connection the kernel may show who listens there.
        if row.get(1).is_some_and(|state| States::OPEN.has(*state)) {
            found = tcp_row(row);
        }
    });
    match answer {
        Err(Error { errno: Errno::ENOENT, .. }) => Ok(None),
        other => other.map(|()| found),
    }
}

/// The server's end of every connection over a UNIX socket. Whether `each` was given all of them.
///
/// # Errors
/// As [`inet`].
pub fn unix_connections(most: usize, mut each: impl FnMut(UnixConnection)) -> Result<bool, Error> {
    let request = unix_request(NLM_F_DUMP, States::OPEN, 0, UDIAG_SHOW_NAME);
    dump_some(&request, most, |row| {
        let Some(UnixSocket { inode, name, .. }) = unix_row(row) else { return };
        // The clients have no names of their own.
        if let Some(cookie) = cookie(row, 8).filter(|_| !name.is_empty()) {
            each(UnixConnection { inode, cookie, name });
        }
    })
}

/// The queue of every listening UNIX socket, by its inode.
///
/// # Errors
/// As [`inet`].
pub fn unix_queues() -> Result<HashMap<u32, u32>, Error> {
    let mut found = HashMap::new();
    let request = unix_request(NLM_F_DUMP, States::LISTENING, 0, UDIAG_SHOW_RQLEN);
    dump(&request, |row| found.extend(unix_row(row).and_then(|socket| Some((socket.inode, socket.queue?)))))?;
    Ok(found)
}

/// All UNIX sockets that `keep` wants.
///
/// # Errors
/// As [`inet`].
pub fn unix(mut keep: impl FnMut(&UnixSocket) -> bool) -> Result<Vec<UnixSocket>, Error> {
    let mut found = Vec::new();
    let request = unix_request(NLM_F_DUMP, States::ALL, 0, UDIAG_SHOW_NAME | UDIAG_SHOW_VFS);
    dump(&request, |row| found.extend(unix_row(row).filter(|socket| keep(socket))))?;
    Ok(found)
}

/// The one UNIX socket with this inode, as fstat(2) on its descriptor shows it.
///
/// # Errors
/// As [`inet`]; ENOENT also if there is no such socket.
pub fn unix_by_inode(inode: u32) -> Result<UnixSocket, Error> {
    let mut found = None;
    let show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_RQLEN;
    dump(&unix_request(0, States::ALL, inode, show), |row| found = unix_row(row))?;
    found.ok_or_else(|| refused(Errno::ENOENT))
}

/// The same of one that listens, and who waits there first; nobody where more wait than the kernel lists
/// (about a page of them, net/unix/diag.c, unix_diag_get_exact).
///
/// # Errors
/// As [`unix_by_inode`].
pub fn unix_waiting(inode: u32) -> Result<UnixSocket, Error> {
    let mut found = None;
    let show = UDIAG_SHOW_RQLEN | UDIAG_SHOW_ICONS;
    match dump(&unix_request(0, States::ALL, inode, show), |row| found = unix_row(row)) {
        Err(Error { errno: Errno::EMSGSIZE, .. }) => unix_by_inode(inode),
        other => other.and_then(|()| found.ok_or_else(|| refused(Errno::ENOENT))),
    }
}

fn refused(errno: Errno) -> Error {
    Error::new("ask", "the kernel for its sockets (sock_diag)", errno)
}

/// struct inet_diag_req_v2 behind its nlmsghdr.
fn inet_request(family: u8, udp: bool, port: u16, states: States) -> Vec<u8> {
    let inner = if udp { libc::IPPROTO_UDP } else { libc::IPPROTO_TCP };
    let mut body = vec![family, u8::try_from(inner).expect("TCP and UDP fit"), 0, 0];
    body.extend(states.0.to_ne_bytes());
    body.extend(port.to_be_bytes());
    body.resize(8 + 48, 0);
    // The cookie that stands for "any" (INET_DIAG_NOCOOKIE).
    body[48..56].fill(0xff);
    message(NLM_F_DUMP, &body)
}

/// The same for one connection, whose local end is the server's.
fn tcp_request(server: SocketAddr, client: SocketAddr) -> Vec<u8> {
    let family = if server.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let family = u8::try_from(family).expect("address families are small");
    let mut body = vec![family, u8::try_from(libc::IPPROTO_TCP).expect("it is 6"), 0, 0];
    body.extend(States::ALL.0.to_ne_bytes());
    body.extend(server.port().to_be_bytes());
    body.extend(client.port().to_be_bytes());
    for host in [server.ip(), client.ip()] {
        match host {
            IpAddr::V4(host) => body.extend([&host.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(host) => body.extend(host.octets()),
        }
    }
    body.extend([0; 4]);
    body.extend([0xff; 8]);
    message(0, &body)
}

/// struct unix_diag_req behind its nlmsghdr.
fn unix_request(flags: u16, states: States, inode: u32, show: u32) -> Vec<u8> {
    let mut body = vec![u8::try_from(libc::AF_UNIX).expect("address families are small"), 0, 0, 0];
    body.extend(states.0.to_ne_bytes());
    body.extend(inode.to_ne_bytes());
    body.extend(show.to_ne_bytes());
    body.extend([0xff; 8]);
    message(flags, &body)
}

fn message(flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(16 + body.len()).expect("requests are short");
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend((flags | NLM_F_REQUEST).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

fn dump(request: &[u8], row: impl FnMut(&[u8])) -> Result<(), Error> {
    dump_some(request, MOST_ROWS, row).map(drop)
}

/// Sends one request and hands each row of the answer to `row`. Whether these were all.
fn dump_some(request: &[u8], most: usize, mut row: impl FnMut(&[u8])) -> Result<bool, Error> {
    let fd = open().map_err(refused)?;
    socket::send(fd.as_raw_fd(), request, MsgFlags::empty()).map_err(refused)?;
    let one_answer = request[6..8] == NLM_F_REQUEST.to_ne_bytes();
    let mut buffer = vec![0; 32 * 1024];
    let mut rows = 0;
    while rows < most {
        let length = match socket::recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => return Ok(true),
            Ok(length) => length,
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(refused(errno)),
        };
        let mut rest = &buffer[..length];
        while let Some((kind, body, next)) = netlink_message(rest) {
            match kind {
                NLMSG_DONE => return Ok(true),
                NLMSG_ERROR => return error_of(body).map(|()| true),
                SOCK_DIAG_BY_FAMILY => row(body),
                _ => {}
            }
            rows += 1;
            rest = next;
        }
        if one_answer {
            return Ok(true);
        }
    }
    Ok(false)
}

fn open() -> nix::Result<OwnedFd> {
    socket::socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::NetlinkSockDiag,
    )
}

/// struct nlmsgerr: a negative errno, or 0 for an acknowledgement.
fn error_of(body: &[u8]) -> Result<(), Error> {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(refused(Errno::from_raw(code.wrapping_neg()))) }
}

/// The first message of `bytes`: type, body, what follows it.
fn netlink_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = number(bytes, 0)? as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(16..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// struct inet_diag_msg, if it is about `port`: of sockets that are bound and do not listen the kernel
/// gives all, whatever port was asked for (inet_csk_diag_dump of Linux 6.8 filters the others only).
fn inet_row(row: &[u8], port: u16) -> Option<InetSocket> {
    if row.get(4..6)? != port.to_be_bytes() {
        return None;
    }
    Some(InetSocket { host: host(row)?, inode: number(row, 68)?, uid: number(row, 64)? })
}

/// struct inet_diag_msg of a connection.
fn tcp_row(row: &[u8]) -> Option<TcpConnection> {
    let phase = match *row.get(1)? {
        state if States::HALF_OPEN.has(state) => TcpPhase::Arriving,
        state if States::FIN_WAIT.has(state) => TcpPhase::Finishing,
        _ => TcpPhase::Open,
    };
    let port = u16::from_be_bytes(row.get(4..6)?.try_into().ok()?);
    let (inode, cookie) = (number(row, 68)?, cookie(row, 44)?);
    Some(TcpConnection { host: host(row)?, port, phase, inode, cookie })
}

/// The local address of an inet_diag_msg.
fn host(row: &[u8]) -> Option<IpAddr> {
    let address: [u8; 16] = row.get(8..24)?.try_into().ok()?;
    Some(if i32::from(*row.first()?) == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3]))
    } else {
        IpAddr::V6(Ipv6Addr::from(address))
    })
}

/// Two words, the lower one first.
fn cookie(row: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(number(row, at)?) | u64::from(number(row, at + 4)?) << 32)
}

/// struct unix_diag_msg and the attributes behind it.
fn unix_row(row: &[u8]) -> Option<UnixSocket> {
    let (inode, name) = (number(row, 4)?, Vec::new());
    let mut socket = UnixSocket { inode, name, file: None, queue: None, most: None, first: None };
    let mut rest = row.get(16..)?;
    while let (Some(length), Some(kind)) = (short(rest, 0), short(rest, 2)) {
        let Some(value) = rest.get(4..usize::from(length)) else { break };
        match kind {
            // A path comes with the NUL that ends it, an abstract name begins with one.
            UNIX_DIAG_NAME if value.first() != Some(&0) => {
                socket.name = value.strip_suffix(&[0]).unwrap_or(value).to_vec();
            }
            UNIX_DIAG_NAME => socket.name = value.to_vec(),
            UNIX_DIAG_VFS => {
                let file = number(value, 0).zip(number(value, 4));
                socket.file = file.map(|(inode, device)| BoundFile { device, inode });
            }
            UNIX_DIAG_ICONS => socket.first = number(value, 0),
            UNIX_DIAG_RQLEN => (socket.queue, socket.most) = (number(value, 0), number(value, 4)),
            _ => {}
        }
        rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    Some(socket)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    fn inode_of(fd: impl AsFd) -> u32 {
        u32::try_from(nix::sys::stat::fstat(fd).unwrap().st_ino).unwrap()
    }

    /// `None` only where the kernel has no MPTCP, or it is switched off.
    #[allow(unsafe_code)]
    fn mptcp_listener() -> Option<OwnedFd> {
        use std::os::fd::FromRawFd;
        // SAFETY: socket(2) takes three numbers.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 262) };
        if fd < 0 {
            assert!(matches!(Errno::last(), Errno::EPROTONOSUPPORT | Errno::ENOPROTOOPT));
            return None;
        }
        // SAFETY: the kernel just gave it to us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        socket::bind(fd.as_raw_fd(), &socket::SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
        socket::listen(&fd, socket::Backlog::MAXCONN).unwrap();
        Some(fd)
    }

    #[test]
    fn a_listening_socket_is_found_by_its_port() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let found = inet(false, port, States::WAITING).unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(found, [InetSocket { host, inode: inode_of(&tcp), uid }]);

        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let found = inet(true, udp.local_addr().unwrap().port(), States::ALL).unwrap();
        assert_eq!(
            found.iter().map(|s| (s.inode, s.host.is_ipv6())).collect::<Vec<_>>(),
            [(inode_of(&udp), true)]
        );
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_is_found_by_its_port_alone() {
        let bound = || {
            let tcp = SockFlag::SOCK_CLOEXEC;
            let fd = socket::socket(AddressFamily::Inet, SockType::Stream, tcp, None).unwrap();
            socket::bind(fd.as_raw_fd(), &socket::SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
            fd
        };
        let (mine, bystander) = (bound(), bound());
        let port = socket::getsockname::<socket::SockaddrIn>(mine.as_raw_fd()).unwrap().port();
        let found = inet(false, port, States::WAITING).unwrap();
        assert!(found.iter().all(|s| s.inode == inode_of(&mine)), "{found:?} beside {bystander:?}");
    }

    #[test]
    fn an_mptcp_listener_is_found_by_the_descriptor_that_somebody_has() {
        let Some(listener) = mptcp_listener() else { return };
        let port = socket::getsockname::<socket::SockaddrIn>(listener.as_raw_fd()).unwrap().port();
        let found = inet(false, port, States::WAITING).unwrap();
        assert!(found.iter().any(|s| s.inode == inode_of(&listener)), "{found:?}");
    }

    #[test]
    fn a_unix_socket_is_found_by_its_file_and_shows_its_queue() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let file = nix::sys::stat::lstat(&path).unwrap();

        let one = unix_by_inode(inode_of(&socket)).unwrap();
        assert!(one.file.unwrap().is(file.st_dev, file.st_ino), "{one:?} {file:?}");
        assert_eq!((one.name.as_slice(), one.queue), (path.to_str().unwrap().as_bytes(), Some(1)));
        assert_eq!(unix_queues().unwrap().get(&inode_of(&socket)), Some(&1));
        let all = unix(|s| s.file == one.file).unwrap();
        assert!(all.iter().any(|s| s.inode == inode_of(&socket)), "{all:?}");
        let gone = inode_of(&socket);
        drop(socket);
        // A child of another test, on its way to exec, may hold it a little longer.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let error = loop {
            match unix_by_inode(gone) {
                Err(error) => break error,
                Ok(socket) => assert!(std::time::Instant::now() < end, "{socket:?}"),
            }
        };
        assert_eq!(error.errno, Errno::ENOENT);
    }

    #[test]
    fn who_waits_first_is_another_once_that_one_is_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let waiting = || unix_waiting(inode_of(&listener)).unwrap();
        assert_eq!((waiting().queue, waiting().first), (Some(0), None));
        let clients = [(); 3].map(|()| std::os::unix::net::UnixStream::connect(&path).unwrap());
        for (at, client) in clients.iter().enumerate() {
            let left = u32::try_from(clients.len() - at).unwrap();
            assert_eq!((waiting().queue, waiting().first), (Some(left), Some(inode_of(client))));
            drop(listener.accept().unwrap());
        }
        assert!(waiting().most.is_some_and(|most| most > 3), "{:?}", waiting());
        // There may be more than the kernel lists: it is said how many all the same.
        let backlog = waiting().most.unwrap().min(1500);
        let many: Vec<std::os::unix::net::UnixStream> =
            (0..backlog).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        assert_eq!(waiting().queue, Some(backlog));
        drop(many);
    }

    #[test]
    fn answers_cut_short_are_no_rows() {
        assert_eq!(netlink_message(&[0; 3]), None);
        assert_eq!(netlink_message(&[8, 0, 0, 0, 20, 0, 0, 0]), None, "a length within the header");
        assert_eq!(inet_row(&[2; 71], 0x202), None);
        assert_eq!(tcp_row(&[2; 71]), None);
        let odd = [255; 72];
        assert!(tcp_row(&odd).is_some_and(|row| row.phase == TcpPhase::Open), "a state of a later kernel");
        assert_eq!(unix_row(&[0; 15]), None);
        let mut row = vec![0; 16];
        row.extend([2, 0, 0, 0]);
        assert!(unix_row(&row).is_some_and(|s| s.name.is_empty()), "an attribute shorter than its header");
        row[16] = 200;
        assert!(unix_row(&row).is_some_and(|s| s.name.is_empty()), "an attribute longer than the row");
    }
}
