//! Why a listener could not be had, and what to do about it.

use crate::model::settings::Socket;
use crate::model::{Address, ListenerName, SocketKind};
use crate::os::Error;
use crate::os::port_holder::{self, Holder};
use nix::errno::Errno;
use nix::unistd::geteuid;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

/// A listener that could not be bound, taken over or made public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindError {
    /// Which listener.
    pub listener: ListenerName,
    /// Where it should have listened.
    pub address: Address,
    /// What happened.
    pub why: Why,
    /// What to type or to change; empty if there is nothing to add.
    pub remedy: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Somebody else has the address; who, if that could be found out.
    InUse(Vec<Holder>),
    /// At the path there is something that is no socket (or FIFO) and is never removed: "a file", …
    Occupied(&'static str),
    /// SocketUser or SocketGroup names somebody that the system does not know: directive, name.
    Unknown(&'static str, String),
    /// A descriptor that supd inherited is not what the unit file says: what it is.
    Mismatch(String),
    /// What a server that runs has there is not what the unit file says: what it is.
    Otherwise(String),
    /// The kernel refused.
    Kernel(Error),
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<super::owner::Unknown> for Why {
    fn from(super::owner::Unknown(directive, name): super::owner::Unknown) -> Self {
        Self::Unknown(directive, name)
    }
}

impl BindError {
    pub(super) fn new(socket: &Socket, why: Why) -> Self {
        let remedy = match &why {
            Why::InUse(holders) => let_go(socket, holders),
            Why::Occupied(_) => "supd never removes what is no socket: remove it, or listen elsewhere".into(),
            Why::Unknown(directive, _) => format!("make it, or correct {directive}"),
            Why::Mismatch(_) => "make the .socket unit and the unit file say the same".into(),
            Why::Otherwise(_) => "let the unit file say the same as the server".into(),
            Why::Kernel(error) => kernel(socket, error),
        };
        Self { listener: socket.name.clone(), address: socket.address.clone(), why, remedy }
    }

    /// The errno behind it, for those who count or compare.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match &self.why {
            Why::InUse(_) => Errno::EADDRINUSE,
            Why::Occupied(_) => Errno::EEXIST,
            Why::Unknown(..) => Errno::ENOENT,
            Why::Mismatch(_) | Why::Otherwise(_) => Errno::EINVAL,
            Why::Kernel(error) => error.errno,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {}: ", self.listener)?;
        match &self.why {
            Why::InUse(holders) => {
                // By the time that this is read they may be gone: no more is said than was seen.
                write!(f, "{} was in use", self.address)?;
                for (n, holder) in holders.iter().take(3).enumerate() {
                    write!(f, "{}{holder}", if n == 0 { " by " } else { ", " })?;
                }
                if holders.len() > 3 {
                    write!(f, " and {} more", holders.len() - 3)?;
                }
            }
            Why::Occupied(what) => write!(f, "there is {what} at {}", self.address)?,
            Why::Unknown(directive, name) => write!(f, "{directive} = \"{name}\" is not known here")?,
            Why::Mismatch(found) => {
                write!(f, "the descriptor handed to supd for {} is {found}", self.address)?;
            }
            Why::Otherwise(found) => {
                write!(f, "what the running server has at {} is {found}", self.address)?;
            }
            Why::Kernel(error) => write!(f, "{error}")?,
        }
        if self.remedy.is_empty() { Ok(()) } else { write!(f, ": {}", self.remedy) }
    }
}

impl std::error::Error for BindError {}

/// What makes the holders let go.
fn let_go(socket: &Socket, holders: &[Holder]) -> String {
    let elsewhere = "or listen elsewhere";
    let ours = |holder: &&Holder| holder.pid == Some(std::process::id());
    if holders.iter().any(|holder| ours(&holder)) {
        let both = if matches!(socket.address, Address::Ip { .. }) {
            "; [::] takes IPv4 as well unless BindIPv6Only = \"ipv6-only\""
        } else {
            ""
        };
        return format!("another listener of this supd has it, so change one of the two{both}");
    }
    match (holders.first(), &socket.address) {
        (Some(holder), address) => format!("{}, {elsewhere}", holder.remedy(address)),
        (None, Address::Ip { port, .. }) => {
            format!("nobody was seen there by now; try again, or ss -anp 'sport = :{port}' as root")
        }
        (None, _) => format!("as root, ss -xlp shows who answers there; stop them, {elsewhere}"),
    }
}

/// What to do about an errno, by what was being done.
fn kernel(socket: &Socket, error: &Error) -> String {
    let options = &socket.options;
    match (error.doing, error.errno, &socket.address) {
        (_, Errno::EMFILE, _) => "supd may open no more files: raise LimitNOFILE of its service".into(),
        (_, Errno::ENFILE, _) => "the machine may open no more files: raise fs.file-max".into(),
        ("bind", Errno::EACCES, Address::Ip { port, .. }) => privileged(*port),
        ("bind", Errno::EADDRNOTAVAIL, Address::Ip { host, .. }) => format!(
            "no interface has {host} now (ip addr shows them); FreeBind = true binds before it is there"
        ),
        ("bind", Errno::EINVAL, Address::Ip { host: IpAddr::V6(host), .. })
            if host.is_unicast_link_local() && options.bind_to_device.is_none() =>
        {
            "a link-local address needs BindToDevice with its interface".into()
        }
        ("open", Errno::EAFNOSUPPORT, Address::Ip { host: IpAddr::V6(_), .. }) => {
            "this kernel has no IPv6: listen on 0.0.0.0 or another IPv4 address".into()
        }
        (_, Errno::EPIPE, Address::Unix { .. }) => {
            "a worker has shut it down, and a path cannot listen again: swap to a version that does not".into()
        }
        ("steer", Errno::EPERM, _) => "workers have locked every slot of it (SO_LOCK_FILTER): mend the \
                                       program, and stop and start the unit"
            .into(),
        ("steer", Errno::EINVAL, Address::Ip { kind: SocketKind::Datagram, .. }) => {
            "a worker has tied the socket to one peer (connect(2)) or bound it to an interface, which takes it out \
             of the kernel's choice: mend the program, and where that serves already, stop and start the unit"
                .into()
        }
        ("steer", Errno::EINVAL, _) => "a worker had locked the socket (SO_LOCK_FILTER) before it \
                                        listened: mend the program, and stop and start the unit"
            .into(),
        ("set", errno, _) if error.what.starts_with("BindToDevice") => match errno {
            Errno::ENODEV => "there is no such interface: ip link shows them".into(),
            Errno::EPERM => "supd needs CAP_NET_RAW for that".into(),
            _ => String::new(),
        },
        ("set", errno, _) if error.what.starts_with("TCPCongestion") => match errno {
            Errno::ENOENT => "sysctl net.ipv4.tcp_available_congestion_control lists what there is".into(),
            Errno::EPERM => "supd needs CAP_NET_ADMIN for one that is not in \
                             net.ipv4.tcp_allowed_congestion_control"
                .into(),
            _ => String::new(),
        },
        ("set", Errno::EINVAL, _) => "the value is out of range: tcp(7) says which it takes".into(),
        ("change the owner of", Errno::EPERM, _) => {
            "only root gives files away: run supd as root, or leave SocketUser and SocketGroup out".into()
        }
        (_, Errno::EACCES | Errno::EPERM, Address::Unix { path, .. } | Address::Fifo { path }) => {
            let folder = path.parent().unwrap_or(Path::new("/")).display();
            format!("supd (user {}) needs write permission in {folder}", geteuid())
        }
        ("take over" | "publish", Errno::ESTALE | Errno::ENOENT, _) => {
            "its socket is gone from the file system: stop and start the unit".into()
        }
        ("publish", Errno::EBUSY, _) => "somebody else keeps making that name: stop them".into(),
        _ => String::new(),
    }
}

/// bind(2) of a low port (ip(7), ip_unprivileged_port_start).
fn privileged(port: u16) -> String {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let first: u32 =
        std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    if u32::from(port) >= first {
        return "a security module or sandbox forbids it".into();
    }
    format!(
        "ports below {first} need CAP_NET_BIND_SERVICE (AmbientCapabilities of supd's service), or \
         sysctl -w net.ipv4.ip_unprivileged_port_start={port}"
    )
}

/// EADDRINUSE names who has the address; everything else stays what it is.
pub(super) fn in_use(address: &Address, error: Error) -> Why {
    if error.errno == Errno::EADDRINUSE {
        Why::InUse(port_holder::holders(address))
    } else {
        Why::Kernel(error)
    }
}
