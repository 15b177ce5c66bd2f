//! Every option of `[[Socket]]`, read back from the kernel.

use super::*;
use nix::sys::socket::{getsockopt, sockopt as of};

fn ints(listener: &Listener, level: i32, name: i32) -> i32 {
    sockopt::get(listener.fd(), level, name).unwrap()
}

#[test]
fn every_option_of_a_tcp_listener_is_in_force() {
    for host in ["127.0.0.1", "::1"] {
        let wanted = with(tcp(host, free_port()), |o| {
            o.backlog = 17;
            o.free_bind = true;
            o.no_delay = true;
            o.keep_alive = true;
            o.keep_alive_time = Some(Duration::from_secs(31));
            o.keep_alive_interval = Some(Duration::from_millis(6_500));
            o.keep_alive_probes = Some(4);
            o.defer_accept = Some(Duration::from_secs(3));
            o.receive_buffer = Some(50_000);
            o.send_buffer = Some(60_000);
            o.bind_to_device = Some("lo".into());
            o.tcp_congestion = Some("reno".into());
            o.pass_packet_info = true;
        });
        let mut listener = bind(&wanted).unwrap();
        listener.listen().unwrap();
        // Not only at first: shutdown(2) must not lose any of them.
        listener.refuse().unwrap();
        listener.listen().unwrap();

        let fd = listener.fd();
        assert!(getsockopt(&fd, of::TcpNoDelay).unwrap());
        assert!(getsockopt(&fd, of::KeepAlive).unwrap());
        assert_eq!(getsockopt(&fd, of::TcpKeepIdle).unwrap(), 31);
        assert_eq!(getsockopt(&fd, of::TcpKeepInterval).unwrap(), 7, "rounded up");
        assert_eq!(getsockopt(&fd, of::TcpKeepCount).unwrap(), 4);
        assert_eq!(getsockopt(&fd, of::RcvBuf).unwrap(), 100_000, "the kernel doubles it");
        assert_eq!(getsockopt(&fd, of::SndBuf).unwrap(), 120_000);
        assert_eq!(getsockopt(&fd, of::BindToDevice).unwrap(), "lo");
        assert_eq!(getsockopt(&fd, of::TcpCongestion).unwrap(), "reno");
        assert!(getsockopt(&fd, of::ReuseAddr).unwrap());
        assert!(!getsockopt(&fd, of::ReusePort).unwrap());
        // Kept as a number of retransmits, so that 3 s become 3 s (1 + 2).
        assert_eq!(ints(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), 3);
        if host == "::1" {
            assert_eq!(ints(&listener, libc::SOL_IPV6, libc::IPV6_FREEBIND), 1);
            assert_eq!(ints(&listener, libc::SOL_IPV6, libc::IPV6_RECVPKTINFO), 1);
        } else {
            assert_eq!(ints(&listener, libc::SOL_IP, libc::IP_FREEBIND), 1);
            assert_eq!(ints(&listener, libc::SOL_IP, libc::IP_PKTINFO), 1);
        }
        assert_eq!(most_waiting(&listener), 17);
        assert_eq!(listener.notes().next(), None);
    }
}

/// The backlog of a listening TCP socket is tcpi_sacked of TCP_INFO (net/ipv4/tcp.c, tcp_get_info).
fn most_waiting(listener: &Listener) -> u32 {
    let mut info = [0; 32];
    sockopt::get_bytes(listener.fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut info).unwrap();
    u32::from_ne_bytes(info[28..].try_into().unwrap())
}

#[test]
fn without_options_the_kernel_decides() {
    let port = free_port();
    let kernels = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let listener = bind(&socket(tcp("127.0.0.1", free_port()))).unwrap();
    let fd = listener.fd();
    assert!(!getsockopt(&fd, of::TcpNoDelay).unwrap());
    assert!(!getsockopt(&fd, of::KeepAlive).unwrap());
    assert_eq!(getsockopt(&fd, of::RcvBuf), getsockopt(&kernels, of::RcvBuf));
    assert_eq!(getsockopt(&fd, of::TcpKeepIdle), getsockopt(&kernels, of::TcpKeepIdle));
    assert_eq!(getsockopt(&fd, of::TcpCongestion), getsockopt(&kernels, of::TcpCongestion));
    assert_eq!(ints(&listener, libc::SOL_IP, libc::IP_FREEBIND), 0);
    assert_eq!(ints(&listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT), 0);
}

#[test]
fn a_udp_listener_has_its_buffers_and_packet_info_and_nobody_beside_it() {
    let port = free_port();
    let wanted = with(udp("::", port), |o| {
        o.receive_buffer = Some(300_000);
        o.pass_packet_info = true;
        o.bind_ipv6_only = BindIpv6Only::Both;
    });
    let listener = bind(&wanted).unwrap();
    assert!(getsockopt(&listener.fd(), of::Ipv6RecvPacketInfo).unwrap());
    assert!(!getsockopt(&listener.fd(), of::Ipv6V6Only).unwrap());
    assert!(!getsockopt(&listener.fd(), of::ReuseAddr).unwrap(), "a stranger could take the datagrams");
    let error = bind(&socket(udp("127.0.0.1", port))).unwrap_err();
    assert_eq!(error.errno(), Errno::EADDRINUSE);
}

#[test]
fn a_buffer_past_the_limit_is_forced_or_the_cut_is_noted() {
    let limit: u64 = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
    let wanted = with(tcp("127.0.0.1", free_port()), |o| o.receive_buffer = Some(limit * 2));
    let got =
        |listener: &Listener| u64::try_from(getsockopt(&listener.fd(), of::RcvBuf).unwrap()).unwrap() / 2;
    if is_root_or_skip("options::a_buffer_past_the_limit_is_forced_or_the_cut_is_noted (in part)") {
        let listener = bind(&wanted).unwrap();
        assert_eq!(got(&listener), limit * 2);
        assert_eq!(listener.notes().next(), None);
    }
    // Capabilities are the thread's.
    let cut = std::thread::spawn(move || {
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_ADMIN).unwrap();
        bind(&wanted).unwrap()
    });
    let cut = cut.join().unwrap();
    assert_eq!(got(&cut), limit);
    assert!(cut.notes().any(|note| note.contains("net.core.rmem_max")));
}

#[test]
fn a_backlog_that_the_kernel_cuts_is_noted() {
    let listener = bind(&with(tcp("127.0.0.1", free_port()), |o| o.backlog = u32::MAX)).unwrap();
    assert!(listener.notes().any(|note| note.contains("net.core.somaxconn")));
}

#[test]
fn ipv6_only_is_as_the_file_says_it() {
    for (says, alone) in [(BindIpv6Only::Both, false), (BindIpv6Only::Ipv6Only, true)] {
        let listener = bind(&with(tcp("::", free_port()), |o| o.bind_ipv6_only = says)).unwrap();
        assert_eq!(getsockopt(&listener.fd(), of::Ipv6V6Only).unwrap(), alone);
    }
}

#[test]
fn descriptors_are_close_on_exec_and_blocking() {
    use nix::fcntl::{FcntlArg, fcntl};
    let folder = tempfile::tempdir().unwrap();
    let kind = SocketKind::Stream;
    for address in [
        tcp("127.0.0.1", free_port()),
        udp("127.0.0.1", free_port()),
        Address::Unix { kind, path: folder.path().join("s") },
        Address::Abstract { kind, name: format!("supd-flags-{}", std::process::id()) },
        Address::Fifo { path: folder.path().join("f") },
    ] {
        let mut listener = Listener::bind(&socket(address.clone()), &folder.path().join("p")).unwrap();
        listener.listen().unwrap();
        listener.hold_off().unwrap();
        assert_eq!(fcntl(listener.fd(), FcntlArg::F_GETFD), Ok(libc::FD_CLOEXEC), "{address}");
        let flags = fcntl(listener.fd(), FcntlArg::F_GETFL).unwrap();
        assert_eq!(flags & libc::O_NONBLOCK, 0, "{address}");
    }
}

#[test]
fn what_can_change_changes_at_once_and_the_rest_is_named() {
    let port = free_port();
    let mut listener = bind(&with(tcp("::", port), |o| {
        o.keep_alive_time = Some(Duration::from_secs(9));
        o.receive_buffer = Some(40_000);
    }))
    .unwrap();
    listener.listen().unwrap();
    let waiting = connect(port).unwrap();

    let mut new = plain();
    new.backlog = 33;
    new.no_delay = true;
    new.send_buffer = Some(80_000);
    new.bind_ipv6_only = BindIpv6Only::Ipv6Only;
    new.free_bind = true;
    let later = listener.apply_options(&new).unwrap();
    assert_eq!(later, ["BindIPv6Only", "FreeBind", "KeepAliveTimeSec", "ReceiveBuffer"]);
    assert_eq!(listener.apply_options(&new).unwrap(), later, "they are not forgotten");
    let fd = listener.fd();
    assert!(getsockopt(&fd, of::TcpNoDelay).unwrap());
    assert_eq!(getsockopt(&fd, of::SndBuf).unwrap(), 160_000);
    assert_eq!(getsockopt(&fd, of::TcpKeepIdle).unwrap(), 9, "as before");
    assert_eq!(most_waiting(&listener), 33);
    is_served(waiting, worker(&listener).accept().unwrap().0);

    // A bad value changes what is said, not what is served.
    new.tcp_congestion = Some("nonsense".into());
    let error = listener.apply_options(&new).unwrap_err();
    assert!(error.to_string().contains("tcp_available_congestion_control"), "{error}");
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}
