//! How much waits in a listener for a worker.

use crate::model::{Address, SocketKind, Waiting};
use crate::os::sock_diag;
use crate::os::sockopt;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;

/// linux/socket.h, not in libc.
const SO_MEMINFO: i32 = 55;

/// The queues of all UNIX listeners, asked for at once: a thousand questions take the kernel longer
/// than one list. What it does not have is asked for by itself.
#[derive(Debug, Default)]
pub struct Queues(HashMap<u32, u32>);

impl Queues {
    /// As they are now.
    #[must_use]
    pub fn read() -> Self {
        Self(sock_diag::unix_queues().unwrap_or_default())
    }
}

/// What waits for accept(2); `None` if the kernel does not tell.
pub(super) fn waiting(fd: BorrowedFd<'_>, address: &Address) -> Option<Waiting> {
    match address {
        // The kernel gives the memory of datagrams back in large pieces: a server that reads all the time and is
        // overloaded looks as one that reads none.
        Address::Ip { kind: SocketKind::Datagram, .. } | Address::Fifo { .. } => None,
        // In tcpi_sacked it says how many may wait.
        Address::Ip { .. } => {
            let (length, most) = (info(fd, 24)?, info(fd, 28)?);
            Some(Waiting { length, most, ..Waiting::default() })
        }
        Address::Unix { .. } | Address::Abstract { .. } => {
            let socket = sock_diag::unix_waiting(u32::try_from(fstat(fd).ok()?.st_ino).ok()?).ok()?;
            Some(Waiting { length: socket.queue?, most: socket.most?, sent: None, first: socket.first })
        }
    }
}

/// Connections that wait for accept(2); for UDP, datagram sockets and FIFOs the bytes that wait to be
/// read. `None` if the kernel does not tell.
pub(super) fn length(fd: BorrowedFd<'_>, address: &Address, known: &Queues) -> Option<u32> {
    match address {
        Address::Ip { kind: SocketKind::Datagram, .. } => udp(fd),
        Address::Ip { .. } => tcp(fd),
        Address::Unix { .. } | Address::Abstract { .. } => unix(fd, known),
        Address::Fifo { .. } => sockopt::readable(fd).ok(),
    }
}

/// Of a listening socket TCP_INFO says the queue's length in tcpi_unacked (net/ipv4/tcp.c,
/// tcp_get_info); of one that does not listen, 0.
fn tcp(fd: BorrowedFd<'_>) -> Option<u32> {
    info(fd, 24)
}

/// Four bytes of struct tcp_info.
fn info(fd: BorrowedFd<'_>, at: usize) -> Option<u32> {
    let mut info = [0; 32];
    let length = sockopt::get_bytes(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).ok()?;
    let number = info.get(at..at + 4)?.try_into().ok()?;
    (length == info.len()).then(|| u32::from_ne_bytes(number))
}

/// FIONREAD shows the first datagram only; the memory that the queue takes counts them all.
fn udp(fd: BorrowedFd<'_>) -> Option<u32> {
    let mut info = [0; 4];
    sockopt::get_bytes(fd, libc::SOL_SOCKET, SO_MEMINFO, &mut info).ok()?;
    Some(u32::from_ne_bytes(info))
}

fn unix(fd: BorrowedFd<'_>, known: &Queues) -> Option<u32> {
    let inode = u32::try_from(fstat(fd).ok()?.st_ino).ok()?;
    if let Some(queue) = known.0.get(&inode) {
        return Some(*queue);
    }
    sock_diag::unix_by_inode(inode).ok()?.queue
}

/// A listener that was shut down polls as HUP. (A UNIX one of which only reading was shut down refuses
/// as well and does not, net/unix/af_unix.c, unix_poll: nix has no word for the RDHUP that it says.)
pub(super) fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
}
