//! The notify socket of a generation: datagrams in, each with who sent it by the kernel's word.

use super::Error;
use super::ancillary::{Raw, pass_pidfds, receive_datagram};
use super::pidfd::PidFd;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, lstat};
use nix::unistd::{Gid, Uid, fchownat};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// systemd's limit: PIPE_BUF. What is longer is dropped whole.
pub const DATAGRAM_MAX: usize = 4096;
/// The longest path of a UNIX socket, without its NUL (unix(7)).
const PATH_MAX: usize = 107;

/// A socket bound at a path, that everyone in the generation is told as NOTIFY_SOCKET.
///
/// Its file is only supd's until the launch gives it to User ([`super::spawn::Plan`]). It is not
/// removed when this is dropped: the path is to survive supd.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
    path: PathBuf,
}

/// A message, and who sent it.
#[derive(Debug)]
pub struct Datagram {
    /// The sender's number when it sent; root alone may give another one that exists.
    pub pid: i32,
    /// The sender's user.
    pub uid: u32,
    /// The sender's group.
    pub gid: u32,
    /// The sender itself, where the kernel gives it (SO_PASSPIDFD, 6.5): proof that the number has
    /// not changed hands since.
    pub process: Option<PidFd>,
    /// What it says; no NUL in it.
    pub text: String,
    /// What it carries. Closed when dropped.
    pub descriptors: Vec<OwnedFd>,
}

/// What a look at the socket gave.
#[derive(Debug)]
pub enum Received {
    /// Nothing is there.
    Nothing,
    /// A message.
    Datagram(Datagram),
    /// A datagram that counts as not sent: worth a warning, and nothing else.
    Dropped {
        /// Why.
        why: Dropped,
        /// Whose it was, if the kernel said; 0 if not.
        pid: i32,
    },
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The kernel did not say who sent it, as for a sender in another PID namespace.
    NoCredentials,
    /// It carries more than there is room for, or than supd may have open.
    TooManyDescriptors,
    /// It is longer than [`DATAGRAM_MAX`].
    TooLong,
    /// It has a NUL that is not its last byte.
    Nul,
    /// It is not UTF-8.
    NotUtf8,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCredentials => "without credentials (from another PID namespace?)",
            Self::TooManyDescriptors => "with more descriptors than supd can take",
            Self::TooLong => "longer than 4096 bytes",
            Self::Nul => "with a NUL inside",
            Self::NotUtf8 => "that is not UTF-8",
        })
    }
}

/// Makes the folder for notify sockets: anyone may pass through, only supd may look and change.
///
/// # Errors
/// What mkdir(2) says.
pub fn make_folder(path: &Path) -> Result<(), Error> {
    let failed = |error: &std::io::Error| Error::from_io("make", path.display(), error);
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(|error| failed(&error))?;
    // Whatever the umask was.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(path, mode).map_err(|error| failed(&error))
}

impl NotifySocket {
    /// One that another supd bound at `path`.
    #[must_use]
    pub fn of(fd: OwnedFd, path: &Path) -> Self {
        Self { fd, path: path.into() }
    }

    /// Binds a socket at `path`, in the place of whatever an earlier supd left there: the folder is
    /// supd's alone.
    ///
    /// # Errors
    /// ENAMETOOLONG where the path has more than 107 bytes: choose a shorter `--runtime`. Else what
    /// the kernel says.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |errno| Error::new("bind the notify socket", path.display(), errno);
        if path.as_os_str().len() > PATH_MAX {
            return Err(failed(Errno::ENAMETOOLONG));
        }
        match nix::unistd::unlink(path) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(failed)?;
        // Before there is a name to send to, or the first message would come without them.
        setsockopt(&fd, sockopt::PassCred, &true).map_err(failed)?;
        pass_pidfds(&fd);
        // bind(2) gives the file the mode that the socket has, less the umask.
        fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(failed)?;
        bind(fd.as_raw_fd(), &address).map_err(failed)?;
        // No SO_RCVBUF: a UNIX datagram waits in its sender's buffer, and how many may wait is
        // net.unix.max_dgram_qlen.
        Ok(Self { fd, path: path.to_path_buf() })
    }

    /// The same, for workers that have outlived the socket before: whoever could send to that can send to this.
    ///
    /// # Errors
    /// As [`NotifySocket::bind`].
    pub fn bind_again(path: &Path) -> Result<Self, Error> {
        let failed = |errno| Error::new("bind the notify socket", path.display(), errno);
        let old = lstat(path).ok().filter(|old| old.st_mode & libc::S_IFMT == libc::S_IFSOCK);
        let again = Self::bind(path)?;
        if let Some(old) = old {
            let mode = Mode::from_bits_truncate(old.st_mode & 0o777);
            fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink).map_err(failed)?;
            let (user, group) = (Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)));
            fchownat(AT_FDCWD, path, user, group, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        Ok(again)
    }

    /// Where it is bound.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the next datagram. Never blocks. To be called until it says [`Received::Nothing`], or
    /// for a bounded number of times and again in the next turn.
    ///
    /// # Errors
    /// What recvmsg(2) says, other than that nothing is there.
    pub fn receive(&self) -> Result<Received, Error> {
        let mut bytes = [0u8; DATAGRAM_MAX];
        let Raw { length, truncated, ancillary } = loop {
            match receive_datagram(&self.fd, &mut bytes) {
                Ok(raw) => break raw,
                Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                // "Nothing" would end the caller's turn, and an edge comes once.
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::new("receive from", self.path.display(), errno)),
            }
        };
        let pid = ancillary.credentials.map_or(0, |credentials| credentials.pid);
        let dropped = |why| Ok(Received::Dropped { why, pid });
        let Some(credentials) = ancillary.credentials.filter(|credentials| credentials.pid > 0) else {
            return dropped(Dropped::NoCredentials);
        };
        if truncated {
            return dropped(Dropped::TooManyDescriptors);
        }
        let Some(text) = bytes.get(..length) else { return dropped(Dropped::TooLong) };
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        if text.contains(&0) {
            return dropped(Dropped::Nul);
        }
        let Ok(text) = String::from_utf8(text.to_vec()) else { return dropped(Dropped::NotUtf8) };
        Ok(Received::Datagram(Datagram {
            pid,
            uid: credentials.uid,
            gid: credentials.gid,
            process: ancillary.process.map(|fd| PidFd::from_fd(fd, pid)),
            text,
            descriptors: ancillary.descriptors,
        }))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::{Datagram, Dropped, NotifySocket, Received, make_folder};
    use crate::os::alone::{alone, root_or_skip};
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, UnixCredentials, sendmsg};
    use std::io::IoSlice;
    use std::os::fd::{AsRawFd, RawFd};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    struct Bench {
        socket: NotifySocket,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { socket: NotifySocket::bind(&folder.path().join("web.8")).unwrap(), _folder: folder }
        }

        fn send(&self, bytes: &[u8]) {
            let client = UnixDatagram::unbound().unwrap();
            assert_eq!(client.send_to(bytes, self.socket.path()).unwrap(), bytes.len());
        }

        fn send_with(&self, bytes: &[u8], with: &[ControlMessage<'_>]) {
            let client = UnixDatagram::unbound().unwrap();
            let to = UnixAddr::new(self.socket.path()).unwrap();
            sendmsg(client.as_raw_fd(), &[IoSlice::new(bytes)], with, MsgFlags::empty(), Some(&to)).unwrap();
        }

        fn datagram(&self) -> Datagram {
            match self.socket.receive().unwrap() {
                Received::Datagram(datagram) => datagram,
                other => panic!("{other:?}"),
            }
        }

        fn dropped(&self) -> Dropped {
            match self.socket.receive().unwrap() {
                Received::Dropped { why, pid } => {
                    assert_eq!(pid, nix::unistd::getpid().as_raw());
                    why
                }
                other => panic!("{other:?}"),
            }
        }

        fn is_empty(&self) -> bool {
            matches!(self.socket.receive().unwrap(), Received::Nothing)
        }
    }

    #[test]
    fn who_sent_it_comes_from_the_kernel() {
        let bench = Bench::new();
        assert!(bench.is_empty());
        bench.send(b"READY=1\n");
        let datagram = bench.datagram();
        assert_eq!(datagram.pid, nix::unistd::getpid().as_raw());
        assert_eq!(
            (datagram.uid, datagram.gid),
            (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw())
        );
        assert_eq!((datagram.text.as_str(), datagram.descriptors.len()), ("READY=1\n", 0));
        if let Some(process) = datagram.process {
            assert!(!process.is_over());
        }
        assert!(bench.is_empty());
    }

    #[test]
    fn what_is_dropped_and_why() {
        let bench = Bench::new();
        for (bytes, why) in [
            (vec![b'x'; 4097], Dropped::TooLong),
            (vec![b'x'; 65_536], Dropped::TooLong),
            (b"READY=1\0STATUS=x".to_vec(), Dropped::Nul),
            (b"READY=1\0\0".to_vec(), Dropped::Nul),
            (b"STATUS=\xff\xfe".to_vec(), Dropped::NotUtf8),
            // 4096 bytes of which the last is half a character.
            ([vec![b'x'; 4095], vec![0xc3]].concat(), Dropped::NotUtf8),
        ] {
            bench.send(&bytes);
            assert_eq!(bench.dropped(), why);
        }
        for (bytes, length) in [(vec![b'x'; 4096], 4096), (b"READY=1\0".to_vec(), 7), (Vec::new(), 0)] {
            bench.send(&bytes);
            assert_eq!(bench.datagram().text.len(), length);
        }
        assert!(bench.is_empty());
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }

    #[test]
    fn descriptors_are_close_on_exec_and_closed_with_the_datagram() {
        alone("os::notify::tests::descriptors_are_close_on_exec_and_closed_with_the_datagram", || {
            let bench = Bench::new();
            let file = tempfile::tempfile().unwrap();
            let before = open_descriptors();
            for count in [1, 200, 253] {
                let numbers: Vec<RawFd> = vec![file.as_raw_fd(); count];
                bench.send_with(b"FDSTORE=1", &[ControlMessage::ScmRights(&numbers)]);
                let datagram = bench.datagram();
                assert_eq!(datagram.descriptors.len(), count);
                for fd in &datagram.descriptors {
                    assert_eq!(fcntl(fd, FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
                }
                drop(datagram);
                // Those of a datagram that is dropped too.
                bench.send_with(&[0xff], &[ControlMessage::ScmRights(&numbers)]);
                assert_eq!(bench.dropped(), Dropped::NotUtf8);
                assert_eq!(open_descriptors(), before, "{count}");
            }
            String::new()
        });
    }

    #[test]
    fn no_room_for_descriptors_costs_a_datagram_only() {
        alone("os::notify::tests::no_room_for_descriptors_costs_a_datagram_only", || {
            use crate::model::settings::Resource;
            use crate::os::original::set_raw;
            let bench = Bench::new();
            let file = tempfile::tempfile().unwrap();
            bench.send_with(b"READY=1", &[ControlMessage::ScmRights(&[file.as_raw_fd(); 200])]);
            bench.send(b"STATUS=after");
            let before = open_descriptors();
            let (_, hard) =
                nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
            set_raw(Resource::Nofile, 40, hard).unwrap();
            assert_eq!(bench.dropped(), Dropped::TooManyDescriptors);
            assert_eq!(open_descriptors(), before);
            assert_eq!(bench.datagram().text, "STATUS=after");
            String::new()
        });
    }

    #[test]
    fn only_root_can_speak_for_another() {
        if !root_or_skip("only_root_can_speak_for_another") {
            return;
        }
        let bench = Bench::new();
        let forged = libc::ucred { pid: 1, uid: 65534, gid: 65534 };
        bench.send_with(b"READY=1", &[ControlMessage::ScmCredentials(&UnixCredentials::from(forged))]);
        let datagram = bench.datagram();
        assert_eq!((datagram.pid, datagram.uid, datagram.gid), (1, 65534, 65534));
    }

    #[test]
    fn a_flood_fills_its_sender_not_us() {
        let bench = Bench::new();
        let client = UnixDatagram::unbound().unwrap();
        client.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while client.send_to(&[b'x'; 4000], bench.socket.path()).is_ok() {
            sent += 1;
            assert!(sent < 100_000, "no end to it");
        }
        for _ in 0..sent {
            assert_eq!(bench.datagram().text.len(), 4000);
        }
        assert!(bench.is_empty());
    }

    #[test]
    fn the_file_is_ours_alone_until_it_is_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("notify");
        make_folder(&inside).unwrap();
        make_folder(&inside).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&inside), 0o711);
        let path = inside.join("web.8");
        let first = NotifySocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        // The path of a supd that is gone is taken over.
        drop(first);
        assert!(path.exists());
        let second = NotifySocket::bind(&path).unwrap();
        UnixDatagram::unbound().unwrap().send_to(b"READY=1", &path).unwrap();
        assert!(matches!(second.receive().unwrap(), Received::Datagram(_)));
    }

    #[test]
    fn a_path_that_is_too_long_is_said_so() {
        let error = NotifySocket::bind(Path::new(&format!("/tmp/{}", "x".repeat(103)))).unwrap_err();
        assert_eq!(error.errno, Errno::ENAMETOOLONG);
    }
}
