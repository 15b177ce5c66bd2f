//! Socket options and calls that nix has no type for: setsockopt(2) and listen(2) by number.
#![allow(unsafe_code)]

use nix::errno::Errno;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// setsockopt(2) with an int.
pub(in crate::os) fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> Result<(), Errno> {
    set_bytes(fd, level, name, &value.to_ne_bytes())
}

/// setsockopt(2) with bytes: a name, or a structure that is plain numbers.
pub(in crate::os) fn set_bytes(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads `length` bytes of a slice that lives through the call.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    Errno::result(result).map(drop)
}

/// getsockopt(2) of an int.
pub(in crate::os) fn get(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32, Errno> {
    let mut value = [0; size_of::<i32>()];
    get_bytes(fd, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// getsockopt(2) into bytes: how many of them the kernel filled.
pub(in crate::os) fn get_bytes(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> Result<usize, Errno> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `length` bytes, which is the length of the slice.
    let result =
        unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length) };
    Errno::result(result)?;
    Ok(length as usize)
}

/// SO_COOKIE: which socket it is, among all of the machine's.
pub(in crate::os) fn cookie(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut value = [0; size_of::<u64>()];
    get_bytes(fd, libc::SOL_SOCKET, libc::SO_COOKIE, &mut value)?;
    Ok(u64::from_ne_bytes(value))
}

/// socket(2), close-on-exec, with numbers that the kernel gave.
pub(in crate::os) fn make(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: three numbers.
    let number = Errno::result(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// listen(2). nix's Backlog ends at 4,096, the kernel's at net.core.somaxconn, which may be more.
pub(in crate::os) fn listen(fd: BorrowedFd<'_>, backlog: u32) -> Result<(), Errno> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    // SAFETY: two numbers, and the descriptor is open.
    Errno::result(unsafe { libc::listen(fd.as_raw_fd(), backlog) }).map(drop)
}

/// connect(2) to AF_UNSPEC: a TCP socket listens no more, and is as it was before (tcp_disconnect); one of UDP has
/// neither a peer nor an interface.
pub(in crate::os) fn disconnect(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let length = libc::socklen_t::try_from(size_of_val(&nowhere)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads `length` bytes of a structure that lives through the call.
    Errno::result(unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, length) }).map(drop)
}

/// Attaches a classic BPF program to the socket (SO_ATTACH_FILTER), in the place of an earlier one.
pub(in crate::os) fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> Result<(), Errno> {
    attach_classic(fd, libc::SO_ATTACH_FILTER, program)
}

/// Attaches a classic BPF program to the SO_REUSEPORT group of the socket, in the place of whatever is
/// there. EPERM: somebody has locked the filters of this socket (SO_LOCK_FILTER). A socket that is in
/// no group gets one of its own, if it does not listen yet and SO_REUSEPORT is on.
pub(in crate::os) fn attach_group_filter(
    fd: BorrowedFd<'_>,
    program: &[libc::sock_filter],
) -> Result<(), Errno> {
    attach_classic(fd, libc::SO_ATTACH_REUSEPORT_CBPF, program)
}

fn attach_classic(fd: BorrowedFd<'_>, name: i32, program: &[libc::sock_filter]) -> Result<(), Errno> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let length = libc::socklen_t::try_from(size_of_val(&program)).map_err(|_| Errno::EINVAL)?;
    let place = (&raw const program).cast();
    // SAFETY: the kernel copies the structure and `len` instructions, and writes to neither.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, place, length) };
    Errno::result(result).map(drop)
}

/// The same with a program that was loaded by bpf(2).
pub(in crate::os) fn attach_group_program(fd: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_EBPF, program.as_raw_fd())
}

/// Takes it off again. None there is a success.
pub(in crate::os) fn detach_filter(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match set(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Takes a program off the SO_REUSEPORT group of the socket, whoever put it there. None there, or no group, is a
/// success.
pub(in crate::os) fn detach_group(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match set(fd, libc::SOL_SOCKET, libc::SO_DETACH_REUSEPORT_BPF, 0) {
        Err(Errno::ENOENT | Errno::EINVAL) => Ok(()),
        other => other,
    }
}

/// FIONREAD: bytes that can be read from a pipe at once.
pub(in crate::os) fn readable(fd: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int, to a place that holds one.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut bytes) })?;
    Ok(u32::try_from(bytes).unwrap_or(0))
}
