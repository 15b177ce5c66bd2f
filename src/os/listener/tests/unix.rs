//! UNIX sockets at a path: who may have it, and clients on their way.

use super::*;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::mpsc;

const KINDS: [SocketKind; 3] = [SocketKind::Stream, SocketKind::Datagram, SocketKind::SequentialPacket];

/// A folder with the public path `s` and a folder for private names.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn public(&self) -> PathBuf {
        self.0.path().join("s")
    }

    fn private(&self) -> PathBuf {
        self.0.path().join("private")
    }

    fn socket(&self) -> Arc<Socket> {
        socket(Address::Unix { kind: SocketKind::Stream, path: self.public() })
    }

    fn bind(&self) -> Result<Listener, BindError> {
        Listener::bind(&self.socket(), &self.private())
    }

    fn open(&self) -> Listener {
        let mut listener = self.bind().unwrap();
        listener.listen().unwrap();
        listener
    }

    /// Names in both folders, so that nothing is left behind in secret.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in [self.0.path(), &self.private()] {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                names.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        names.sort();
        names
    }
}

pub(super) fn unix_worker(listener: &Listener) -> UnixListener {
    listener.fd().try_clone_to_owned().unwrap().into()
}

fn serves(listener: &Listener, path: &Path) {
    let client = UnixStream::connect(path).unwrap();
    is_served(client, unix_worker(listener).accept().unwrap().0);
}

/// A client of any kind, which does not wait.
fn try_connect(kind: SocketKind, path: &Path) -> Result<OwnedFd, Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let kind = match kind {
        SocketKind::Stream => SockType::Stream,
        SocketKind::Datagram => SockType::Datagram,
        SocketKind::SequentialPacket => SockType::SeqPacket,
    };
    let client = socket(AddressFamily::Unix, kind, SockFlag::SOCK_NONBLOCK, None)?;
    connect(client.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(client)
}

fn why(result: Result<Listener, BindError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_path_is_public_only_while_it_is_open_and_right_from_the_first_moment() {
    for kind in KINDS {
        let stage = Stage::new();
        let mut wanted = socket(Address::Unix { kind, path: stage.public() });
        Arc::make_mut(&mut wanted).options.mode = 0o624;
        if is_root_or_skip(
            "unix::a_path_is_public_only_while_it_is_open_and_right_from_the_first_moment (in part)",
        ) {
            Arc::make_mut(&mut wanted).options.user = Some("12345".into());
            Arc::make_mut(&mut wanted).options.group = Some("54321".into());
        }
        let mut listener = Listener::bind(&wanted, &stage.private()).unwrap();
        assert_eq!(stage.names(), ["http.0", "private"]);
        assert!(!listener.is_published());
        let private = std::fs::symlink_metadata(stage.private().join("http.0")).unwrap();
        listener.listen().unwrap();
        assert!(listener.is_published());
        let public = std::fs::symlink_metadata(stage.public()).unwrap();
        for found in [&private, &public] {
            assert!(found.file_type().is_socket());
            assert_eq!(found.permissions().mode() & 0o7777, 0o624, "{kind:?}");
            if is_root() {
                assert_eq!((found.uid(), found.gid()), (12345, 54321));
            }
        }
        assert_eq!(private.ino(), public.ino());
        try_connect(kind, &stage.public()).unwrap();

        listener.refuse().unwrap();
        assert_eq!(stage.names(), ["http.0", "private"]);
        assert_eq!(try_connect(kind, &stage.public()).unwrap_err(), Errno::ENOENT);
        listener.listen().unwrap();
        try_connect(kind, &stage.public()).unwrap();
        listener.close();
        assert_eq!(stage.names(), ["private"]);
    }
}

#[test]
fn the_private_folder_is_supds_alone_and_missing_folders_are_made() {
    let stage = Stage::new();
    let path = stage.0.path().join("a/b/s");
    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: path.clone() });
    let mut listener = Listener::bind(&wanted, &stage.private()).unwrap();
    listener.listen().unwrap();
    serves(&listener, &path);
    assert_eq!(std::fs::metadata(stage.private()).unwrap().mode() & 0o777, 0o700);
    std::fs::remove_dir_all(stage.0.path().join("a")).unwrap();
    assert!(listener.republish().unwrap());
    serves(&listener, &path);
}

#[test]
fn a_socket_is_born_closed_to_everybody_else() {
    let stage = Stage::new();
    let _fd = crate::os::listener::unix::bind_at(&stage.public(), SocketKind::Datagram).unwrap();
    let born = std::fs::symlink_metadata(stage.public()).unwrap();
    assert_eq!(born.permissions().mode() & 0o077, 0);
}

#[test]
fn no_umask_reaches_the_mode() {
    alone("unix::no_umask_reaches_the_mode", || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o777));
        let stage =
            Stage(tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o700)).tempdir().unwrap());
        std::fs::set_permissions(stage.0.path(), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir(stage.private()).unwrap();
        std::fs::set_permissions(stage.private(), PermissionsExt::from_mode(0o700)).unwrap();
        let listener = stage.open();
        let found = std::fs::symlink_metadata(stage.public()).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, 0o666);
        serves(&listener, &stage.public());
    });
}

#[test]
fn an_owner_that_nobody_knows_or_that_supd_may_not_set_is_told() {
    let stage = Stage::new();
    for (key, user, group) in
        [("SocketUser", Some("nobody-such"), None), ("SocketGroup", None, Some("nogroup-such"))]
    {
        let mut wanted = stage.socket();
        Arc::make_mut(&mut wanted).options.user = user.map(Into::into);
        Arc::make_mut(&mut wanted).options.group = group.map(Into::into);
        let error = why(Listener::bind(&wanted, &stage.private()));
        assert!(error.contains(&format!("{key} = \"no")) && error.contains("not known here"), "{error}");
    }
    let mut wanted = stage.socket();
    Arc::make_mut(&mut wanted).options.user = Some(if is_root() { "12345".into() } else { "0".to_string() });
    let private = stage.private();
    let error = std::thread::spawn(move || {
        caps::clear(None, caps::CapSet::Effective).unwrap();
        why(Listener::bind(&wanted, &private))
    });
    let error = error.join().unwrap();
    assert!(error.contains("only root gives files away"), "{error}");
    assert_eq!(stage.names(), ["private"], "what was made is gone again");
}

#[test]
fn a_user_alone_brings_its_group() {
    let stage = Stage::new();
    let mut wanted = stage.socket();
    Arc::make_mut(&mut wanted).options.user = Some("root".into());
    if is_root_or_skip("unix::a_user_alone_brings_its_group (in part)") {
        let _listener = Listener::bind(&wanted, &stage.private()).unwrap();
        let found = std::fs::symlink_metadata(stage.private().join("http.0")).unwrap();
        assert_eq!((found.uid(), found.gid()), (0, 0));
    }
    let owner = Owner::look_up(&wanted.options).unwrap_or_else(|_| panic!("root is known"));
    assert!(format!("{owner:?}").contains("gid: Some(Gid(0))"), "{owner:?}");
}

#[test]
fn a_stale_path_is_replaced_when_it_listens_and_not_before() {
    let stage = Stage::new();
    drop(UnixListener::bind(stage.public()).unwrap());
    let stale = std::fs::symlink_metadata(stage.public()).unwrap().ino();
    let mut listener = at_last(|| stage.bind());
    assert_eq!(std::fs::symlink_metadata(stage.public()).unwrap().ino(), stale);
    listener.listen().unwrap();
    serves(&listener, &stage.public());
}

#[test]
fn a_path_where_somebody_answers_names_who() {
    for kind in ["stream", "datagram"] {
        let stage = Stage::new();
        let other = Other::start(&format!("{kind} {}", stage.public().display()));
        let error = why(stage.bind());
        assert!(error.contains("was in use by"), "{error}");
        assert!(error.contains(&format!("(pid {}", other.pid())), "{error}");
        assert!(stage.public().exists());
        assert_eq!(stage.names(), ["private", "s"]);
        drop(other);
        serves(&stage.open(), &stage.public());
    }
}

#[test]
fn somebody_of_another_network_namespace_is_not_pushed_aside() {
    if !is_root_or_skip("unix::somebody_of_another_network_namespace_is_not_pushed_aside") {
        return;
    }
    let stage = Stage::new();
    let path = stage.public();
    let there = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        UnixListener::bind(path).unwrap()
    });
    let there = there.join().unwrap();
    let error = stage.bind().unwrap_err();
    let Why::InUse(holders) = &error.why else { panic!("{error}") };
    assert_eq!(holders[0].pid, Some(std::process::id()), "{error}");
    drop(there);
    at_last(|| stage.bind());
}

#[test]
fn a_full_queue_and_a_socket_that_does_not_listen_yet_are_somebody() {
    let stage = Stage::new();
    let full = UnixListener::bind(stage.public()).unwrap();
    sockopt::listen(full.as_fd(), 0).unwrap();
    while try_connect(SocketKind::Stream, &stage.public()).is_ok() {}
    assert!(why(stage.bind()).contains(&format!("pid {}", std::process::id())));
    drop(full);
    std::fs::remove_file(stage.public()).unwrap();

    let silent = try_bind(&stage.public());
    assert_eq!(try_connect(SocketKind::Stream, &stage.public()).unwrap_err(), Errno::ECONNREFUSED);
    assert!(why(stage.bind()).contains(&format!("pid {}", std::process::id())));
    drop(silent);
    at_last(|| stage.bind());
}

fn try_bind(path: &Path) -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    fd
}

#[test]
fn what_is_no_socket_is_never_removed() {
    type Make = fn(&Path);
    let kinds: [(&str, Make); 4] = [
        ("a file", |path| std::fs::write(path, "precious").unwrap()),
        ("a directory", |path| std::fs::create_dir(path).unwrap()),
        ("a symbolic link", |path| std::os::unix::fs::symlink("/etc/passwd", path).unwrap()),
        ("a FIFO", |path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap()),
    ];
    for (what, make) in kinds {
        let stage = Stage::new();
        make(&stage.public());
        let before = std::fs::symlink_metadata(stage.public()).unwrap().ino();
        let error = why(stage.bind());
        assert!(error.contains(&format!("there is {what} at {}", stage.public().display())), "{error}");
        assert_eq!(std::fs::symlink_metadata(stage.public()).unwrap().ino(), before);

        // Also if it comes between bind and listen.
        std::fs::rename(stage.public(), stage.0.path().join("aside")).unwrap();
        let mut listener = stage.bind().unwrap();
        std::fs::rename(stage.0.path().join("aside"), stage.public()).unwrap();
        assert_eq!(listener.listen().unwrap_err().errno(), Errno::EEXIST);
        assert_eq!(listener.traffic(), Traffic::Refused);
        listener.close();
        assert_eq!(std::fs::symlink_metadata(stage.public()).unwrap().ino(), before);
    }
}

#[test]
fn a_public_path_that_somebody_removed_is_put_back() {
    let stage = Stage::new();
    let listener = stage.open();
    assert!(!listener.republish().unwrap(), "nothing to do");
    std::fs::remove_file(stage.public()).unwrap();
    assert!(!listener.is_published());
    assert!(listener.republish().unwrap());
    serves(&listener, &stage.public());
    // Servers that clean up after themselves take the name that getsockname(2) shows them.
    std::fs::remove_file(stage.private().join("http.0")).unwrap();
    assert!(!listener.republish().unwrap());
    std::fs::remove_file(stage.public()).unwrap();
    assert!(listener.republish().unwrap(), "the private name was put back from the public one");
    serves(&listener, &stage.public());

    std::fs::remove_file(stage.private().join("http.0")).unwrap();
    std::fs::remove_file(stage.public()).unwrap();
    let error = listener.republish().unwrap_err().to_string();
    assert!(error.contains("stop and start the unit"), "{error}");
}

#[test]
fn somebody_who_took_the_path_meanwhile_keeps_it() {
    let stage = Stage::new();
    let mut listener = stage.open();
    std::fs::remove_file(stage.public()).unwrap();
    let thief = UnixListener::bind(stage.public()).unwrap();
    assert_eq!(listener.republish().unwrap_err().errno(), Errno::EADDRINUSE);
    listener.refuse().unwrap();
    assert!(UnixStream::connect(stage.public()).is_ok());
    assert_eq!(listener.listen().unwrap_err().errno(), Errno::EADDRINUSE);
    listener.close();
    assert!(UnixStream::connect(stage.public()).is_ok(), "it is not ours to remove");
    assert_eq!(stage.names(), ["private", "s"]);
    drop(thief);
}

#[test]
fn two_listeners_for_one_path_do_not_push_each_other_aside() {
    let stage = Stage::new();
    let mut first = stage.bind().unwrap();
    let mut second = stage.bind().unwrap();
    assert_eq!(stage.names(), ["http.0", "http.1", "private"]);
    first.listen().unwrap();
    let error = second.listen().unwrap_err().to_string();
    assert!(error.contains("another listener of this supd"), "{error}");
    serves(&first, &stage.public());
}

#[test]
fn paths_longer_than_a_sockets_address_are_bound_and_probed() {
    let stage = Stage::new();
    let deep = stage.0.path().join("d".repeat(120));
    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: deep.join("s") });
    let mut listener = Listener::bind(&wanted, &deep.join("private")).unwrap();
    listener.listen().unwrap();
    assert_eq!(Listener::bind(&wanted, &deep.join("private")).unwrap_err().errno(), Errno::EADDRINUSE);
    let short = crate::os::sun_path::SunPath::of(&deep.join("s"));
    serves(&listener, short.as_path());
    listener.hold_off().unwrap();
    assert_eq!(try_connect(SocketKind::Stream, short.as_path()).unwrap_err(), Errno::EAGAIN);
    listener.listen().unwrap();
    serves(&listener, short.as_path());
}

#[test]
fn on_another_file_system_the_private_name_is_beside_the_public_one() {
    let stage = Stage::new();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let device = |path: &Path| std::fs::metadata(path).unwrap().dev();
    assert_ne!(device(elsewhere.path()), device(stage.0.path()), "/dev/shm is one of its own");
    let mut listener = Listener::bind(&stage.socket(), elsewhere.path()).unwrap();
    assert_eq!(stage.names(), [".supd-http.0"]);
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    listener.listen().unwrap();
    serves(&listener, &stage.public());
    listener.hold_off().unwrap();
    assert_eq!(try_connect(SocketKind::Stream, &stage.public()).unwrap_err(), Errno::EAGAIN);
    listener.listen().unwrap();
    std::fs::remove_file(stage.public()).unwrap();
    assert!(listener.republish().unwrap());
    serves(&listener, &stage.public());
    listener.close();
    assert_eq!(stage.names(), [] as [&str; 0]);
}

#[test]
fn names_that_a_dead_supd_left_are_used_again() {
    let stage = Stage::new();
    for _ in 0..3 {
        let mut listener = at_last(|| stage.bind());
        listener.hold_off().unwrap();
        listener.listen().unwrap();
        drop(listener.leave());
        assert_eq!(stage.names(), ["http.0", "private", "s"]);
    }
    let mut listener = at_last(|| stage.bind());
    listener.listen().unwrap();
    serves(&listener, &stage.public());
    drop(listener);
    assert_eq!(stage.names(), ["private"]);
}

#[test]
fn a_name_that_changed_under_supds_hands_is_given_to_nobody() {
    let stage = Stage::new();
    let precious = stage.0.path().join("shadow");
    std::fs::write(&precious, "precious").unwrap();
    std::fs::set_permissions(&precious, PermissionsExt::from_mode(0o600)).unwrap();
    let mut options = plain();
    options.mode = 0o666;
    let owner = Owner::look_up(&options).unwrap_or_else(|_| panic!("nobody is named"));
    let sock = nix::sys::stat::SFlag::S_IFSOCK;

    std::os::unix::fs::symlink(&precious, stage.public()).unwrap();
    assert!(owner.give_new(&stage.public(), sock).is_err());
    std::fs::remove_file(stage.public()).unwrap();
    std::fs::hard_link(&precious, stage.public()).unwrap();
    assert!(owner.give_new(&stage.public(), sock).is_err());
    std::fs::remove_file(stage.public()).unwrap();
    // Somebody else's socket, linked here.
    let _theirs = UnixListener::bind(stage.0.path().join("theirs")).unwrap();
    std::fs::hard_link(stage.0.path().join("theirs"), stage.public()).unwrap();
    assert!(owner.give_new(&stage.public(), sock).is_err());
    assert_eq!(std::fs::metadata(&precious).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn clients_wait_at_a_path_that_is_held_off_and_get_to_the_real_one() {
    for kind in [SocketKind::Stream, SocketKind::SequentialPacket] {
        let stage = Stage::new();
        let wanted = socket(Address::Unix { kind, path: stage.public() });
        let mut listener = Listener::bind(&wanted, &stage.private()).unwrap();
        listener.listen().unwrap();
        let before = try_connect(kind, &stage.public()).unwrap();
        assert!(listener.hold_off().unwrap());
        assert!(listener.hold_off().unwrap(), "twice is once");
        assert!(listener.is_published());
        assert_eq!(try_connect(kind, &stage.public()).unwrap_err(), Errno::EAGAIN);
        assert_eq!(listener.queue_length(), Some(1), "the one before");
        nix::sys::socket::accept(listener.fd().as_raw_fd()).map(drop_raw).unwrap();
        drop(before);

        // A public name that is removed comes back as what it was.
        std::fs::remove_file(stage.public()).unwrap();
        assert!(!listener.is_published());
        assert!(listener.republish().unwrap());
        assert_eq!(try_connect(kind, &stage.public()).unwrap_err(), Errno::EAGAIN);

        listener.listen().unwrap();
        assert_eq!(stage.names(), ["http.0", "private", "s"], "nothing is left of it");
        try_connect(kind, &stage.public()).unwrap();
        assert_eq!(listener.queue_length(), Some(1));
    }
}

#[allow(unsafe_code)]
fn drop_raw(fd: i32) {
    use std::os::fd::FromRawFd;
    // SAFETY: accept(2) just made it, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
}

/// A blocking client in a thread of its own: its number for the kernel, and its connection one day.
fn client(path: PathBuf) -> (u32, mpsc::Receiver<std::io::Result<UnixStream>>) {
    let (send, receive) = mpsc::channel();
    let (name, named) = mpsc::channel();
    std::thread::spawn(move || {
        name.send(u32::try_from(nix::unistd::gettid().as_raw()).unwrap()).unwrap();
        send.send(UnixStream::connect(path))
    });
    (named.recv().unwrap(), receive)
}

/// Whether a thread of this process sleeps in connect(2).
fn is_connecting(thread: u32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/self/task/{thread}/syscall")).unwrap_or_default();
    call.starts_with(&format!("{} ", libc::SYS_connect))
}

#[test]
fn a_client_that_waits_is_served_later_or_refused_if_that_comes() {
    let stage = Stage::new();
    let mut listener = stage.bind().unwrap();
    for serve in [true, false, true] {
        assert!(listener.hold_off().unwrap());
        let (thread, waiting) = client(stage.public());
        until("it waits", || is_connecting(thread));
        assert!(waiting.try_recv().is_err());
        if serve {
            listener.listen().unwrap();
            let client = waiting.recv_timeout(LONG).unwrap().unwrap();
            is_served(client, unix_worker(&listener).accept().unwrap().0);
        } else {
            listener.refuse().unwrap();
            let error = waiting.recv_timeout(LONG).unwrap().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
    }
}

#[test]
fn what_is_queued_is_served_after_a_refusal() {
    let stage = Stage::new();
    let mut listener = stage.open();
    let client = UnixStream::connect(stage.public()).unwrap();
    listener.refuse().unwrap();
    assert_eq!(listener.queue_length(), Some(1));
    is_served(client, unix_worker(&listener).accept().unwrap().0);
}

#[test]
fn owner_mode_and_backlog_change_on_a_living_path() {
    let stage = Stage::new();
    let mut listener = stage.open();
    let mut new = plain();
    new.mode = 0o600;
    new.send_buffer = Some(100_000);
    if is_root_or_skip("unix::owner_mode_and_backlog_change_on_a_living_path (in part)") {
        new.user = Some("12345".into());
    }
    assert_eq!(listener.apply_options(&new).unwrap(), [] as [&str; 0]);
    let found = std::fs::symlink_metadata(stage.public()).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(!is_root() || found.uid() == 12345);
    serves(&listener, &stage.public());
}

#[test]
fn datagrams_wait_until_a_worker_reads_them() {
    let stage = Stage::new();
    let wanted = socket(Address::Unix { kind: SocketKind::Datagram, path: stage.public() });
    let mut listener = Listener::bind(&wanted, &stage.private()).unwrap();
    listener.listen().unwrap();
    let client = UnixDatagram::unbound().unwrap();
    client.send_to(b"hello", stage.public()).unwrap();
    assert!(listener.queue_length().is_some_and(|bytes| bytes >= 5));
    let worker: UnixDatagram = listener.fd().try_clone_to_owned().unwrap().into();
    let mut got = [0; 9];
    assert_eq!(worker.recv(&mut got).unwrap(), 5);
    assert_eq!(listener.queue_length(), Some(0));
}
