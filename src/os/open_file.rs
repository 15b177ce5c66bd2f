//! An open file that somebody else has given, and whether two descriptors are of the same one.
//!
//! What it is was chosen by a stranger: a question that the file's own server answers, as FUSE's, may
//! take for ever. So nothing is asked here that the kernel does not know by itself.
#![allow(unsafe_code)]

use super::sockopt::cookie;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::cmp::Ordering;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// KCMP_FILE of linux/kcmp.h
const KCMP_FILE: libc::c_int = 0;

/// A descriptor, told from others by its open file.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    seen: Seen,
}

/// What tells open files apart where the kernel compares none for us: device, inode and flags; and for
/// those of which many share an inode, as eventfds do, the descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    mode: u32,
    device: (u32, u32),
    inode: u64,
    flags: i32,
    unique: RawFd,
}

impl OpenFile {
    /// Takes one.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Self {
        let seen = Seen::of(fd.as_fd());
        Self { fd, seen }
    }

    /// Whether it may be waited for. Nothing on a disk may be, and of some it would be the file's own server
    /// that is asked.
    #[must_use]
    pub fn may_be_watched(&self) -> bool {
        !matches!(self.seen.mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK)
    }

    /// An order in which equal is the same open file (kcmp(2)): whatever it is, it stays. Where supd may not
    /// ask, two descriptors of one eventfd, say, are not found equal.
    #[must_use]
    pub fn order(&self, other: &Self) -> Ordering {
        compare(self.fd.as_fd(), other.fd.as_fd()).unwrap_or_else(|_| self.seen.cmp(&other.seen))
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Seen {
    fn of(fd: BorrowedFd<'_>) -> Self {
        let flags = fcntl(fd, FcntlArg::F_GETFL).unwrap_or_default();
        let mut buffer = MaybeUninit::<libc::statx>::zeroed();
        let how = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
        let mask = libc::STATX_TYPE | libc::STATX_INO;
        // SAFETY: an empty path that ends, and room for one answer.
        let done = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), how, mask, buffer.as_mut_ptr()) };
        // SAFETY: zeros are a valid answer, and the kernel writes a whole one or none.
        let found = unsafe { buffer.assume_init() };
        let mode = u32::from(found.stx_mode);
        let tells =
            matches!(mode & libc::S_IFMT, libc::S_IFSOCK | libc::S_IFIFO | libc::S_IFREG | libc::S_IFDIR);
        let unique = if tells && done == 0 { -1 } else { fd.as_raw_fd() };
        let device = (found.stx_dev_major, found.stx_dev_minor);
        Self { mode, device, inode: found.stx_ino, flags, unique }
    }
}

/// The inode of an open file.
#[must_use]
pub fn inode(fd: BorrowedFd<'_>) -> u64 {
    Seen::of(fd).inode
}

/// A name that every descriptor of this open file has, and of no other: the kernel's number of a socket (SO_COOKIE),
/// of a BPF map or program (fdinfo of bpf(2)), or of a file. `None`: the kernel has none for it, as for eventfds.
#[must_use]
pub fn name(fd: BorrowedFd<'_>) -> Option<String> {
    let seen = Seen::of(fd);
    if seen.mode & libc::S_IFMT == libc::S_IFSOCK {
        return cookie(fd).ok().map(|cookie| format!("socket-{cookie:x}"));
    }
    if seen.unique == -1 {
        let (major, minor) = seen.device;
        // The two ends of a pipe share an inode.
        let mode = seen.flags & libc::O_ACCMODE;
        return Some(format!("file-{major:x}.{minor:x}-{:x}-{mode}", seen.inode));
    }
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    told.lines().find_map(|line| {
        let (key, number) = line.split_once(':')?;
        let number = number.trim();
        match key {
            "map_id" => Some(format!("bpf-map-{number}")),
            "prog_id" => Some(format!("bpf-program-{number}")),
            _ => None,
        }
    })
}

fn compare(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<Ordering, Errno> {
    let pid = std::process::id();
    let (one, other) = (one.as_raw_fd(), other.as_raw_fd());
    // SAFETY: compares two numbers of this process's own table; touches nothing.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one, other) };
    match Errno::result(order)? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        // Unequal, and no more is known.
        _ => Err(Errno::ENOTSUP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::eventfd::EventFd;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::unix::net::UnixStream;

    fn file(fd: impl Into<OwnedFd>) -> OpenFile {
        OpenFile::new(fd.into())
    }

    fn copy(of: &OpenFile) -> OpenFile {
        OpenFile::new(of.fd.try_clone().unwrap())
    }

    #[test]
    fn a_name_is_of_one_open_file() {
        let (one, other) = UnixStream::pair().unwrap();
        let copy = one.try_clone().unwrap();
        assert_eq!(name(one.as_fd()), name(copy.as_fd()));
        assert!(name(one.as_fd()).unwrap().starts_with("socket-"));
        assert_ne!(name(one.as_fd()), name(other.as_fd()));
        let files = [memfd_create(c"a", MFdFlags::MFD_CLOEXEC), memfd_create(c"a", MFdFlags::MFD_CLOEXEC)];
        let [first, second] = files.map(|file| name(file.unwrap().as_fd()).unwrap());
        assert!(first.starts_with("file-") && first != second, "{first}");
        let event = EventFd::new().unwrap();
        assert_eq!(name(event.as_fd()), None, "they all share an inode");
    }

    #[test]
    fn copies_are_equal_and_everything_else_has_one_order() {
        let (one, two) = UnixStream::pair().unwrap();
        let (reads, writes) = nix::unistd::pipe().unwrap();
        let null = || std::fs::File::open("/dev/null").unwrap();
        let mut all: Vec<OpenFile> =
            [one.into(), two.into(), reads, writes, null().into(), null().into()].map(OpenFile::new).into();
        all.extend([file(EventFd::new().unwrap()), file(EventFd::new().unwrap())]);
        all.push(file(memfd_create(c"state", MFdFlags::MFD_CLOEXEC).unwrap()));
        for one in &all {
            assert_eq!(one.order(&copy(one)), Ordering::Equal);
            assert_eq!(all.iter().filter(|other| one.order(other) == Ordering::Equal).count(), 1);
        }
        all.sort_by(OpenFile::order);
        assert!(all.windows(2).all(|pair| pair[0].order(&pair[1]) == Ordering::Less));
    }

    #[test]
    fn where_nobody_compares_the_inode_does() {
        let (one, two) = UnixStream::pair().unwrap();
        let (reads, writes) = nix::unistd::pipe().unwrap();
        let all = [one.into(), two.into(), reads, writes].map(OpenFile::new);
        for one in &all {
            assert_eq!(one.seen, copy(one).seen);
            assert_eq!(all.iter().filter(|other| one.seen == other.seen).count(), 1);
        }
        let (one, two) = (file(EventFd::new().unwrap()), file(EventFd::new().unwrap()));
        assert_ne!(one.seen, two.seen, "they have one inode");
    }

    #[test]
    fn what_is_on_a_disk_is_not_waited_for() {
        let memory = file(memfd_create(c"state", MFdFlags::MFD_CLOEXEC).unwrap());
        assert!(!memory.may_be_watched());
        assert!(file(UnixStream::pair().unwrap().0).may_be_watched());
    }
}
