//! TCP and UDP addresses: which get in each other's way, and what a person is told.

use super::*;
use std::net::{Ipv6Addr, UdpSocket};

fn open(socket: &Arc<Socket>) -> Listener {
    let mut listener = bind(socket).unwrap();
    listener.listen().unwrap();
    listener
}

fn why(socket: &Arc<Socket>) -> String {
    bind(socket).unwrap_err().to_string()
}

#[test]
fn ipv4_and_ipv6_share_a_port_as_two_listeners() {
    let port = free_port();
    let v4 = open(&socket(tcp("0.0.0.0", port)));
    let v6 = open(&with(tcp("::", port), |o| o.bind_ipv6_only = BindIpv6Only::Ipv6Only));
    is_served(connect(port).unwrap(), worker(&v4).accept().unwrap().0);
    let client = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    is_served(client, worker(&v6).accept().unwrap().0);
}

#[test]
fn a_port_alone_takes_both() {
    let port = free_port();
    let both = open(&with(tcp("::", port), |o| o.bind_ipv6_only = BindIpv6Only::Both));
    is_served(connect(port).unwrap(), worker(&both).accept().unwrap().0);
    let client = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
    is_served(client, worker(&both).accept().unwrap().0);
    let error = why(&socket(tcp("0.0.0.0", port)));
    assert!(error.contains("another listener of this supd"), "{error}");
    assert!(error.contains("BindIPv6Only = \"ipv6-only\""), "{error}");
}

/// In this thread, and only here, the kernel has no IPv6 any more.
#[allow(unsafe_code)]
fn forget_ipv6() {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let op = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    // struct seccomp_data: the call's number at 0, its first argument at 16.
    let first = if cfg!(target_endian = "little") { 16 } else { 20 };
    let mut program = [
        op(LOAD, 0, 0),
        op(EQUAL, u32::try_from(libc::SYS_socket).unwrap(), 3),
        op(LOAD, first, 0),
        op(EQUAL, u32::try_from(libc::AF_INET6).unwrap(), 1),
        op(RETURN, libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EAFNOSUPPORT).unwrap(), 0),
        op(RETURN, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let filter = libc::sock_fprog { len: 6, filter: program.as_mut_ptr() };
    // SAFETY: prctl(2) with numbers, and with a program that outlives the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

#[test]
fn without_ipv6_a_port_alone_is_ipv4_and_says_so() {
    let port = free_port();
    let udp_port = free_port();
    let listener = std::thread::spawn(move || {
        forget_ipv6();
        assert!(TcpListener::bind("[::1]:0").is_err(), "the test's own filter");
        let error = why(&socket(tcp("::1", port)));
        assert!(error.contains("this kernel has no IPv6"), "{error}");
        let only = with(tcp("::", port), |o| o.bind_ipv6_only = BindIpv6Only::Ipv6Only);
        assert_eq!(bind(&only).unwrap_err().errno(), Errno::EAFNOSUPPORT);
        // With an option whose name differs between the two.
        bind(&with(udp("::", udp_port), |o| o.pass_packet_info = true)).unwrap();
        open(&with(tcp("::", port), |o| o.free_bind = true))
    });
    let listener = listener.join().unwrap();
    assert_eq!(listener.address(), &tcp("::", port), "as the file says it");
    assert!(listener.notes().any(|note| note.contains("0.0.0.0")));
    is_served(connect(port).unwrap(), worker(&listener).accept().unwrap().0);
}

#[test]
fn a_bound_port_is_nobody_elses_although_nobody_listens() {
    let port = free_port();
    let mut first = bind(&socket(tcp("127.0.0.1", port))).unwrap();
    assert!(refused(port));
    // std sets SO_REUSEADDR, as nearly every server does.
    assert!(TcpListener::bind(local(port)).is_err());
    let error = why(&socket(tcp("127.0.0.1", port)));
    assert!(error.contains(&format!("127.0.0.1:{port} was in use by ")), "{error}");
    assert!(error.contains("another listener of this supd"), "{error}");

    first.listen().unwrap();
    assert!(TcpListener::bind(local(port)).is_err());
    first.refuse().unwrap();
    assert!(refused(port));
    assert!(TcpListener::bind(local(port)).is_err());
    first.close();
    at_last(|| TcpListener::bind(local(port)));
}

#[test]
fn a_strangers_port_names_the_stranger() {
    let port = free_port();
    let other = Other::start(&format!("tcp 127.0.0.1:{port}"));
    for host in ["127.0.0.1", "0.0.0.0", "::"] {
        let error = bind(&socket(tcp(host, port))).unwrap_err();
        let Why::InUse(holders) = &error.why else { panic!("{error}") };
        assert_eq!(holders[0].pid, Some(other.pid()), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("(pid {}", other.pid())), "{text}");
        assert!(text.contains("or listen elsewhere"), "{text}");
    }
}

#[test]
fn a_udp_port_names_its_holder_too() {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let error = why(&socket(udp("0.0.0.0", holder.local_addr().unwrap().port())));
    assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
}

#[test]
fn connections_that_outlive_a_listener_do_not_keep_its_port() {
    let port = free_port();
    let mut first = open(&socket(tcp("127.0.0.1", port)));
    let client = connect(port).unwrap();
    let server = worker(&first).accept().unwrap().0;
    // In TIME_WAIT on the server's side, which closes first.
    let other = connect(port).unwrap();
    drop(worker(&first).accept().unwrap());
    drop(other);
    // A connection made after a refusal must not be another kind of thing than one made before.
    first.refuse().unwrap();
    first.listen().unwrap();
    let late = (connect(port).unwrap(), worker(&first).accept().unwrap().0);
    first.close();
    let mut second = at_last(|| bind(&socket(tcp("127.0.0.1", port))));
    second.listen().unwrap();
    is_served(connect(port).unwrap(), worker(&second).accept().unwrap().0);
    is_served(client, server);
    is_served(late.0, late.1);
}

#[test]
fn an_address_that_is_not_there_yet_needs_free_bind() {
    // TEST-NET-1 of RFC 5737 and the documentation prefix of RFC 3849.
    for host in ["192.0.2.77", "2001:db8::77"] {
        let port = free_port();
        let error = why(&socket(tcp(host, port)));
        assert!(error.contains(&format!("no interface has {host}")), "{error}");
        assert!(error.contains("FreeBind = true"), "{error}");
        bind(&with(tcp(host, port), |o| o.free_bind = true)).unwrap();
        bind(&with(udp(host, port), |o| o.free_bind = true)).unwrap();
    }
}

#[test]
fn errors_say_what_to_do() {
    let port = free_port();
    let error = why(&with(tcp("127.0.0.1", port), |o| o.bind_to_device = Some("nosuch0".into())));
    assert!(error.contains("BindToDevice = \"nosuch0\"") && error.contains("ip link"), "{error}");
    let error = why(&with(tcp("127.0.0.1", port), |o| o.tcp_congestion = Some("nosuch".into())));
    assert!(error.contains("tcp_available_congestion_control"), "{error}");
    let error = why(&with(tcp("127.0.0.1", port), |o| o.keep_alive_probes = Some(4_000_000_000)));
    assert!(error.contains("KeepAliveProbes") && error.contains("out of range"), "{error}");
    let error = why(&socket(tcp("fe80::1", port)));
    assert!(error.contains("BindToDevice"), "{error}");
    assert!(error.starts_with("listener http: cannot bind [fe80::1]:"), "{error}");

    let low = std::thread::spawn(|| {
        // Capabilities are the thread's.
        caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_BIND_SERVICE).unwrap();
        why(&socket(tcp("127.0.0.1", 1)))
    });
    let error = low.join().unwrap();
    assert!(error.contains("CAP_NET_BIND_SERVICE"), "{error}");
    assert!(error.contains("sysctl -w net.ipv4.ip_unprivileged_port_start=1"), "{error}");
}
