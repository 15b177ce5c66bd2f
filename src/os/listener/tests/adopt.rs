//! Descriptors that supd inherits.

use super::*;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::{UnixListener, UnixStream};

fn adopt(socket: &Arc<Socket>, fd: impl Into<OwnedFd>, folder: &Path) -> Result<Listener, BindError> {
    let fd = fd.into();
    // As they come over exec.
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    Listener::adopt(socket, fd, folder)
}

fn found(socket: &Arc<Socket>, fd: impl Into<OwnedFd>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = adopt(socket, fd, folder.path()).unwrap_err();
    match &error.why {
        Why::Mismatch(found) => found.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tcp_socket_serves_on_and_belongs_to_supd_from_then_on() {
    let std = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = std.local_addr().unwrap().port();
    let queued = connect(port).unwrap();
    let wanted = with(tcp("127.0.0.1", port), |o| o.no_delay = true);
    let mut listener = adopt(&wanted, std, Path::new("/nonexistent")).unwrap();
    assert_eq!(listener.traffic(), Traffic::Open);
    assert_eq!(fcntl(listener.fd(), FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC));
    let server = worker(&listener).accept().unwrap().0;
    assert_eq!(nix::sys::socket::getsockopt(&listener.fd(), nix::sys::socket::sockopt::TcpNoDelay), Ok(true));
    is_served(queued, server);
    listener.refuse().unwrap();
    assert!(refused(port));
    listener.listen().unwrap();
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}

#[test]
fn an_mptcp_socket_counts_as_tcp() {
    use nix::sys::socket;
    #[allow(unsafe_code)]
    // SAFETY: socket(2) takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
    if fd < 0 {
        assert!(matches!(Errno::last(), Errno::EPROTONOSUPPORT | Errno::ENOPROTOOPT));
        return;
    }
    #[allow(unsafe_code)]
    // SAFETY: the kernel just gave it to us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let port = free_port();
    socket::bind(fd.as_raw_fd(), &socket::SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    let mut listener = adopt(&socket(tcp("127.0.0.1", port)), fd, Path::new("/nonexistent")).unwrap();
    assert_eq!(listener.traffic(), Traffic::Refused);
    for _ in 0..2 {
        listener.listen().unwrap();
        is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
        listener.refuse().unwrap();
        assert!(refused(port));
    }
}

#[test]
fn what_is_not_what_the_file_says_is_refused_by_name() {
    let port = free_port();
    let listen = || at_last(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let here = tcp("127.0.0.1", port);
    assert_eq!(found(&socket(tcp("127.0.0.1", port + 1)), listen()), format!("bound to 127.0.0.1:{port}"));
    assert_eq!(found(&socket(tcp("0.0.0.0", port)), listen()), format!("bound to 127.0.0.1:{port}"));
    assert_eq!(found(&socket(udp("127.0.0.1", port)), listen()), "no datagram socket");
    assert_eq!(found(&socket(here.clone()), UdpSocket::bind("127.0.0.1:0").unwrap()), "no stream socket");
    assert_eq!(found(&socket(here.clone()), std::fs::File::open("/dev/null").unwrap()), "no socket");
    assert!(found(&socket(here), UnixStream::pair().unwrap().0).contains("no TCP or UDP"));
    let v6 = TcpListener::bind("[::]:0").unwrap();
    let port = v6.local_addr().unwrap().port();
    let only = with(tcp("::", port), |o| o.bind_ipv6_only = BindIpv6Only::Ipv6Only);
    assert_eq!(found(&only, v6), "bound for IPv4 as well");

    let fifo = socket(Address::Fifo { path: "/nonexistent/fifo".into() });
    assert_eq!(found(&fifo, std::fs::File::open("/dev/null").unwrap()), "no FIFO");
    let kind = SocketKind::Stream;
    let named = socket(Address::Abstract { kind, name: "supd-other".into() });
    assert!(found(&named, UnixStream::pair().unwrap().0).contains("another name"));
    let path = socket(Address::Unix { kind, path: "/nonexistent/s".into() });
    assert_eq!(found(&path, UnixStream::pair().unwrap().0), "bound to no path");
}

#[test]
fn a_strangers_path_is_taken_over_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (path, private) = (folder.path().join("s"), folder.path().join("private"));
    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: path.clone() });
    let std = UnixListener::bind(&path).unwrap();
    let kept = std.try_clone().unwrap();
    let mut listener = adopt(&wanted, std, &private).unwrap();
    assert_eq!(listener.traffic(), Traffic::Open);
    assert!(listener.is_published());
    listener.refuse().unwrap();
    assert!(!path.exists());
    listener.listen().unwrap();
    is_served(UnixStream::connect(&path).unwrap(), kept.accept().unwrap().0);
    std::fs::remove_file(&path).unwrap();
    assert!(listener.republish().unwrap());
    listener.refuse().unwrap();
    listener.close();
    is_served(UnixStream::connect(&path).unwrap(), kept.accept().unwrap().0);
    assert_eq!(std::fs::read_dir(&private).unwrap().count(), 0);

    // Its name is another socket's by now.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(found(&wanted, kept.try_clone().unwrap()), "a socket whose path has been removed");
    let _thief = UnixListener::bind(&path).unwrap();
    assert_eq!(found(&wanted, kept), "another socket than what is at that path now");
}

#[test]
fn what_a_supd_before_left_is_ours_again() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let deep = folder.path().join("d".repeat(120));
    let path = folder.path().join("s");
    for private in [folder.path().join("private"), elsewhere.path().into(), deep] {
        let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: path.clone() });
        let mut first = Listener::bind(&wanted, &private).unwrap();
        first.listen().unwrap();
        // Held off, it is open for the successor.
        first.hold_off().unwrap();
        let second = adopt(&wanted, first.leave(), &private).unwrap();
        assert!(second.is_published());
        is_served(
            UnixStream::connect(&path).unwrap(),
            UnixListener::from(second.fd().try_clone_to_owned().unwrap()).accept().unwrap().0,
        );
        // Refused, its path is gone, and yet it is found.
        let mut second = second;
        second.refuse().unwrap();
        let mut third = adopt(&wanted, second.leave(), &private).unwrap();
        assert!(!third.is_published());
        third.listen().unwrap();
        third.close();
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(&private).unwrap().count(), 0, "{}", private.display());
    }
}

#[test]
fn a_fifo_of_before_is_ours_again_and_another_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (path, private) = (folder.path().join("f"), folder.path().join("private"));
    let wanted = socket(Address::Fifo { path: path.clone() });
    let mut first = Listener::bind(&wanted, &private).unwrap();
    first.listen().unwrap();
    let second = adopt(&wanted, first.leave(), &private).unwrap();
    let copy = second.fd().try_clone_to_owned().unwrap();
    second.close();
    assert!(!path.exists());
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(found(&wanted, copy), "another one than what is at that path now");
}

#[test]
fn whoever_it_was_taken_from_loses_nobody() {
    let std = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = std.local_addr().unwrap().port();
    let wanted = socket(tcp("127.0.0.1", port));
    let copy = std.try_clone().unwrap();
    let mut listener = Listener::borrow(&wanted, copy.into(), Path::new("/nonexistent")).unwrap();
    assert!(listener.is_borrowed() && listener.traffic() == Traffic::Open);
    listener.refuse().unwrap();
    assert_eq!(listener.traffic(), Traffic::Refused);
    is_served(connect(port).unwrap(), std.accept().unwrap().0);
    assert!(!listener.hold_off().unwrap(), "it would be held off from the server, too");
    assert_eq!(listener.traffic(), Traffic::Open);
    is_served(connect(port).unwrap(), std.accept().unwrap().0);
    // Once that is gone, what should be refused is.
    listener.refuse().unwrap();
    listener.is_ours().unwrap();
    assert!(!listener.is_borrowed() && refused(port));
    listener.listen().unwrap();
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}

#[test]
fn a_path_that_was_taken_goes_with_supd_once_its_server_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (path, private) = (folder.path().join("s"), folder.path().join("private"));
    let wanted = socket(Address::Unix { kind: SocketKind::Stream, path: path.clone() });
    let std = UnixListener::bind(&path).unwrap();
    let mut listener = Listener::borrow(&wanted, std.try_clone().unwrap().into(), &private).unwrap();
    listener.refuse().unwrap();
    is_served(UnixStream::connect(&path).unwrap(), std.accept().unwrap().0);
    listener.close();
    assert!(path.exists(), "the server goes on");
    let mut listener = Listener::borrow(&wanted, std.try_clone().unwrap().into(), &private).unwrap();
    listener.is_ours().unwrap();
    listener.close();
    assert!(!path.exists());
    let error = Listener::borrow(&wanted, std.into(), &private).unwrap_err();
    assert!(error.to_string().contains("what the running server has at"), "{error}");
}
