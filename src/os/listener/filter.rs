//! Holding new connections off with a socket filter (classic BPF, Linux' networking/filter.rst).

use crate::os::sockopt;
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// The byte of a TCP header with SYN and ACK, counted from where a TCP socket's filter starts to look.
const FLAGS: u32 = 13;
const SYN: u32 = 0x02;
/// The two bytes of the client's port.
const SOURCE: u32 = 0;
const ACK: u32 = 0x10;

const fn instruction(code: u32, k: u32, jump_false: u8) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt: 0, jf: jump_false, k }
}

/// Drops a segment that asks for a new connection and nothing else.
///
/// The last ACK of a handshake is tried against the listener's filter too: a filter that drops
/// everything would lose the handshakes that are half done. Connections accepted meanwhile inherit
/// the filter for life, so it must be one that an established connection can live with.
const NO_SYN: [libc::sock_filter; 5] = [
    instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, FLAGS, 0),
    instruction(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SYN | ACK, 0),
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, SYN, 1),
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0),
    instruction(libc::BPF_RET | libc::BPF_K, u32::MAX, 0),
];

/// Drops everything.
const NOTHING: [libc::sock_filter; 1] = [instruction(libc::BPF_RET | libc::BPF_K, 0, 0)];

/// New TCP connections get no answer: their SYNs are dropped, and sent again after 1 s, 3 s, 7 s.
///
/// EPERM without CAP_NET_ADMIN: newer kernels (seen on 6.18) want it for a filter on a TCP socket, and
/// only there. IP_MINTTL needs no privilege and drops SYNs as well, but a handshake that was half done
/// would end in a connection that has inherited it, and is deaf.
pub(super) fn drop_new_connections(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::attach_filter(fd, &NO_SYN)
}

/// The same, but for those from these ports.
pub(super) fn drop_all_but(fd: BorrowedFd<'_>, ports: &[u16]) -> Result<(), Errno> {
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, SOURCE, 0)];
    for port in ports {
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, u32::from(*port), 1));
        program.push(instruction(libc::BPF_RET | libc::BPF_K, u32::MAX, 0));
    }
    program.extend(NO_SYN);
    sockopt::attach_filter(fd, &program)
}

/// New datagrams are dropped; those in the queue stay.
pub(super) fn drop_datagrams(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::attach_filter(fd, &NOTHING)
}

/// As if there had never been a filter.
pub(super) fn let_in(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    sockopt::detach_filter(fd)
}
