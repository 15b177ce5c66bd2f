//! The options of `[[Socket]]`, each told to the kernel by the name that the unit file has for it.

use crate::model::settings::{BindIpv6Only, SocketOptions};
use crate::model::{Address, SocketKind};
use crate::os::steering::{self, Mechanism};
use crate::os::{Error, sockopt};
use nix::errno::Errno;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// The kernel doubles what it is given and keeps it in an int (net/core/sock.c, __sock_set_rcvbuf).
const LARGEST_BUFFER: u64 = (i32::MAX / 2) as u64;

/// What can only be said before bind(2).
pub(super) fn before_bind(
    fd: BorrowedFd<'_>,
    address: &Address,
    options: &SocketOptions,
) -> Result<(), Error> {
    let Address::Ip { kind, host, .. } = address else { return Ok(()) };
    if *kind == SocketKind::Stream {
        // Else the TIME_WAIT rows of the last server keep the port for a minute. Never for UDP:
        // there it would let a stranger bind the same port and take the datagrams.
        set(fd, "SO_REUSEADDR", libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    }
    if host.is_ipv6() {
        match options.bind_ipv6_only {
            BindIpv6Only::Default => {}
            BindIpv6Only::Both => set(fd, "BindIPv6Only", libc::SOL_IPV6, libc::IPV6_V6ONLY, 0)?,
            BindIpv6Only::Ipv6Only => set(fd, "BindIPv6Only", libc::SOL_IPV6, libc::IPV6_V6ONLY, 1)?,
        }
    }
    if options.free_bind {
        let (level, name) = match host {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_FREEBIND),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_FREEBIND),
        };
        set(fd, "FreeBind", level, name, 1)?;
    }
    if let Some(device) = &options.bind_to_device {
        sockopt::set_bytes(fd, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())
            .map_err(|errno| Error::new("set", format!("BindToDevice = \"{device}\""), errno))?;
    }
    Ok(())
}

/// What may be said at any time: new connections take it over from the listening socket.
///
/// `None` leaves the kernel's default. What the kernel gave less of than was asked for is noted.
pub(super) fn at_any_time(
    fd: BorrowedFd<'_>,
    address: &Address,
    options: &SocketOptions,
    cuts: &mut Vec<String>,
) -> Result<(), Error> {
    match address {
        Address::Fifo { .. } => return Ok(()),
        Address::Ip { kind: SocketKind::Stream, .. } => tcp(fd, options, cuts)?,
        Address::Ip { .. } | Address::Unix { .. } | Address::Abstract { .. } => {}
    }
    if let Address::Ip { host, .. } = address {
        let (level, name) = match host {
            IpAddr::V4(_) => (libc::SOL_IP, libc::IP_PKTINFO),
            IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        };
        switch(fd, "PassPacketInfo", level, name, options.pass_packet_info.into())?;
    }
    let buffers = [
        ("ReceiveBuffer", options.receive_buffer, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, "net.core.rmem_max"),
        ("SendBuffer", options.send_buffer, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, "net.core.wmem_max"),
    ];
    for (key, bytes, force, name, limit) in buffers {
        if let Some(bytes) = bytes {
            buffer(fd, key, bytes, force, name, limit, cuts)?;
        }
    }
    Ok(())
}

fn tcp(fd: BorrowedFd<'_>, options: &SocketOptions, cuts: &mut Vec<String>) -> Result<(), Error> {
    let tcp = libc::IPPROTO_TCP;
    switch(fd, "NoDelay", tcp, libc::TCP_NODELAY, options.no_delay.into())?;
    switch(fd, "KeepAlive", libc::SOL_SOCKET, libc::SO_KEEPALIVE, options.keep_alive.into())?;
    if let Some(time) = options.keep_alive_time {
        set(fd, "KeepAliveTimeSec", tcp, libc::TCP_KEEPIDLE, seconds(time))?;
    }
    if let Some(time) = options.keep_alive_interval {
        set(fd, "KeepAliveIntervalSec", tcp, libc::TCP_KEEPINTVL, seconds(time))?;
    }
    if let Some(probes) = options.keep_alive_probes {
        let probes = i32::try_from(probes).unwrap_or(i32::MAX);
        set(fd, "KeepAliveProbes", tcp, libc::TCP_KEEPCNT, probes)?;
    }
    let defer = match (options.defer_accept, steering::best()) {
        (Some(_), Mechanism::Classic(why)) => {
            // They would be in no queue, and in that of nobody once their generation has ended.
            cuts.push(format!(
                "DeferAcceptSec is left out: without eBPF clients that say nothing cannot follow to the next \
                 generation ({why})"
            ));
            0
        }
        (defer, _) => defer.map_or(0, seconds),
    };
    switch(fd, "DeferAcceptSec", tcp, libc::TCP_DEFER_ACCEPT, defer)?;
    if let Some(algorithm) = &options.tcp_congestion {
        sockopt::set_bytes(fd, tcp, libc::TCP_CONGESTION, algorithm.as_bytes())
            .map_err(|errno| Error::new("set", format!("TCPCongestion = \"{algorithm}\""), errno))?;
    }
    Ok(())
}

/// Past the administrator's limit if supd may, else up to it.
fn buffer(
    fd: BorrowedFd<'_>,
    key: &'static str,
    bytes: u64,
    force: i32,
    name: i32,
    limit: &str,
    cuts: &mut Vec<String>,
) -> Result<(), Error> {
    let asked = i32::try_from(bytes.min(LARGEST_BUFFER)).expect("at most half of it");
    match sockopt::set(fd, libc::SOL_SOCKET, force, asked) {
        Err(Errno::EPERM) => set(fd, key, libc::SOL_SOCKET, name, asked)?,
        other => other.map_err(|errno| Error::new("set", format!("{key} = {bytes}"), errno))?,
    }
    let got = sockopt::get(fd, libc::SOL_SOCKET, name).map_err(|errno| Error::new("read", key, errno))? / 2;
    if got < asked {
        cuts.push(format!("{key} = {bytes} is cut to {got} by {limit}: sysctl -w {limit}={bytes}"));
    }
    Ok(())
}

/// What of `new` does not take effect on a socket that is bound already, by the file's names.
pub(super) fn needs_new_bind(
    address: &Address,
    old: &SocketOptions,
    new: &SocketOptions,
) -> Vec<&'static str> {
    let ip = matches!(address, Address::Ip { .. });
    let v6 = matches!(address, Address::Ip { host: IpAddr::V6(_), .. });
    let tcp = matches!(address, Address::Ip { kind: SocketKind::Stream, .. });
    let socket = !matches!(address, Address::Fifo { .. });
    // The kernel's own value is not set anew: it may have been another when the socket was made.
    fn dropped<T>(old: Option<&T>, new: Option<&T>) -> bool {
        old.is_some() && new.is_none()
    }
    [
        ("BindIPv6Only", v6 && old.bind_ipv6_only != new.bind_ipv6_only),
        ("FreeBind", ip && old.free_bind != new.free_bind),
        ("BindToDevice", ip && old.bind_to_device != new.bind_to_device),
        ("KeepAliveTimeSec", tcp && dropped(old.keep_alive_time.as_ref(), new.keep_alive_time.as_ref())),
        (
            "KeepAliveIntervalSec",
            tcp && dropped(old.keep_alive_interval.as_ref(), new.keep_alive_interval.as_ref()),
        ),
        ("KeepAliveProbes", tcp && dropped(old.keep_alive_probes.as_ref(), new.keep_alive_probes.as_ref())),
        ("TCPCongestion", tcp && dropped(old.tcp_congestion.as_ref(), new.tcp_congestion.as_ref())),
        ("ReceiveBuffer", socket && dropped(old.receive_buffer.as_ref(), new.receive_buffer.as_ref())),
        ("SendBuffer", socket && dropped(old.send_buffer.as_ref(), new.send_buffer.as_ref())),
    ]
    .into_iter()
    .filter_map(|(key, changed)| changed.then_some(key))
    .collect()
}

/// `new` as far as it took effect: what needs a new bind stays as it was, so that it is found again.
pub(super) fn in_force(old: &SocketOptions, new: &SocketOptions) -> SocketOptions {
    SocketOptions {
        bind_ipv6_only: old.bind_ipv6_only,
        free_bind: old.free_bind,
        bind_to_device: old.bind_to_device.clone(),
        keep_alive_time: new.keep_alive_time.or(old.keep_alive_time),
        keep_alive_interval: new.keep_alive_interval.or(old.keep_alive_interval),
        keep_alive_probes: new.keep_alive_probes.or(old.keep_alive_probes),
        tcp_congestion: new.tcp_congestion.clone().or_else(|| old.tcp_congestion.clone()),
        receive_buffer: new.receive_buffer.or(old.receive_buffer),
        send_buffer: new.send_buffer.or(old.send_buffer),
        ..new.clone()
    }
}

/// A note if the kernel cuts the backlog (listen(2)).
pub(super) fn backlog_note(backlog: u32) -> Option<String> {
    let most: u32 = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()?;
    (most < backlog).then(|| {
        format!(
            "Backlog = {backlog} is cut to {most}: sysctl -w net.core.somaxconn={backlog} lets it through"
        )
    })
}

/// As [`set`]; 0 only where it is something else, for an MPTCP socket that supd inherited refuses to
/// hear of options that it does not have, even to switch them off.
fn switch(fd: BorrowedFd<'_>, key: &'static str, level: i32, name: i32, value: i32) -> Result<(), Error> {
    if value == 0 && matches!(sockopt::get(fd, level, name), Ok(0) | Err(_)) {
        return Ok(());
    }
    set(fd, key, level, name, value)
}

fn set(fd: BorrowedFd<'_>, key: &'static str, level: i32, name: i32, value: i32) -> Result<(), Error> {
    sockopt::set(fd, level, name, value)
        .map_err(|errno| Error::new("set", format!("{key} (to {value})"), errno))
}

/// Whole seconds, never 0 of a time that is more than that: the kernel refuses 0 or takes it for "off".
fn seconds(time: Duration) -> i32 {
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    i32::try_from(whole).unwrap_or(i32::MAX)
}
