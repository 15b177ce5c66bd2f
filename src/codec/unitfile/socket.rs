//! `[[Socket]]`

use super::document::{Node, Value};
use super::keys::LISTEN;
use super::layer::Rows;
use super::report::{Bad, Reading, Report, bad};
use super::section::Section;
use super::values::{account_node, boolean, octal, size, text, unsigned, whole_seconds, word};
use super::{address, defaults};
use crate::codec::fault::quoted;
use crate::model::settings::{BindIpv6Only, Socket, SocketOptions};
use crate::model::{Address, ListenerName, SocketKind, UnitName};
use std::time::Duration;

/// Reads one socket; `None` where it has no address or no name that can be used.
pub(super) fn read(rows: &Rows, unit: &UnitName, report: &mut Report<'_>) -> Option<Socket> {
    let mut section = Section::new(rows, report);
    let name = name(&mut section, unit);
    let address = listen(&mut section);
    let bind_as = section.get("BindAs", |node| address::unix_path(&text(node)?).map_err(|bad| vec![bad]));
    let options = options(&mut section);
    Some(Socket { name: name?, address: address?, bind_as, options })
}

fn name(section: &mut Section<'_, '_>, unit: &UnitName) -> Option<ListenerName> {
    if !section.rows.has("Name") {
        #[cfg(test)]
        section.report.asked.insert("Name");
        return ListenerName::new(unit.as_str()).ok();
    }
    section.get("Name", |node| {
        let name = text(node)?;
        ListenerName::new(&name)
            .or_else(|rule| bad(format!("{} is no name", quoted(&name)), format!("{rule}")))
    })
}

/// The one address. None, and more than one, is a fault of the socket as a whole.
fn listen(section: &mut Section<'_, '_>) -> Option<Address> {
    let mut found = Vec::new();
    for key in LISTEN {
        let address = section.get(key, |node| one_address(key, node));
        if section.rows.has(key) {
            found.push((*key, address));
        }
    }
    if let [(first, _), (second, _), ..] = found.as_slice() {
        let what = format!("this socket has {first} already");
        let bad = Bad::new(what, "a socket has one address: write a further [[Socket]]");
        section.report.fault(section.rows.place(second), second, bad);
    }
    if found.is_empty() && !section.report.alone {
        let bad = Bad::new(
            "it says no address",
            "write ListenStream = \"0.0.0.0:8080\", or another of the Listen keys",
        );
        section.report.fault(section.rows.table.place, "Socket", bad);
    }
    found.into_iter().next().and_then(|(_, address)| address)
}

fn one_address(key: &str, node: &Node) -> Reading<Address> {
    let text = match &node.value {
        // A port alone needs no quotes.
        Value::Integer(port) if key != "ListenFIFO" => port.clone(),
        Value::List(_) => {
            return bad("a list where one address is wanted", "write a further [[Socket]] for each");
        }
        _ => text(node)?,
    };
    let address = match key {
        "ListenFIFO" => address::fifo(&text),
        "ListenDatagram" => address::socket(&text, SocketKind::Datagram),
        "ListenSequentialPacket" => address::socket(&text, SocketKind::SequentialPacket),
        _ => address::socket(&text, SocketKind::Stream),
    };
    address.map_err(|bad| vec![bad])
}

fn options(section: &mut Section<'_, '_>) -> SocketOptions {
    // What the kernel takes at most: tcp(7), MAX_TCP_KEEPIDLE and its sisters in net/tcp.h.
    const KEEP_ALIVE_SECONDS: std::ops::RangeInclusive<u64> = 1..=32_767;
    const BUFFER_BYTES: std::ops::RangeInclusive<u64> = 256..=(i32::MAX as u64) / 2;
    let mut options = defaults::SOCKET;
    section.set(&mut options.backlog, "Backlog", |node| unsigned(node, 1..=i32::MAX as u32));
    section.set_some(&mut options.user, "SocketUser", account_node);
    section.set_some(&mut options.group, "SocketGroup", account_node);
    section.set(&mut options.mode, "SocketMode", octal);
    section.set(&mut options.bind_ipv6_only, "BindIPv6Only", |node| {
        use BindIpv6Only::{Both, Default, Ipv6Only};
        word(node, &[("default", Default), ("both", Both), ("ipv6-only", Ipv6Only)])
    });
    section.set(&mut options.free_bind, "FreeBind", boolean);
    section.set(&mut options.no_delay, "NoDelay", boolean);
    section.set(&mut options.keep_alive, "KeepAlive", boolean);
    let seconds = |node: &Node| whole_seconds(node, KEEP_ALIVE_SECONDS);
    section.set_some(&mut options.keep_alive_time, "KeepAliveTimeSec", seconds);
    section.set_some(&mut options.keep_alive_interval, "KeepAliveIntervalSec", seconds);
    section.set_some(&mut options.keep_alive_probes, "KeepAliveProbes", |node| unsigned(node, 1..=127));
    section.set_some(&mut options.defer_accept, "DeferAcceptSec", |node| whole_seconds(node, 0..=32_767));
    options.defer_accept = options.defer_accept.filter(|span| *span > Duration::ZERO);
    section.set_some(&mut options.receive_buffer, "ReceiveBuffer", |node| size(node, BUFFER_BYTES));
    section.set_some(&mut options.send_buffer, "SendBuffer", |node| size(node, BUFFER_BYTES));
    section.set_some(&mut options.bind_to_device, "BindToDevice", |node| {
        short_name(node, "the name of a network interface, as in \"eth0\"")
    });
    section.set_some(&mut options.tcp_congestion, "TCPCongestion", |node| {
        short_name(node, "the name of an algorithm, as in \"bbr\"")
    });
    section.set(&mut options.pass_packet_info, "PassPacketInfo", boolean);
    options
}

/// A name of at most 15 bytes: IFNAMSIZ and TCP_CA_NAME_MAX are both 16 with the NUL.
fn short_name(node: &Node, wanted: &str) -> Reading<String> {
    let name = text(node)?;
    let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':');
    if name.len() <= 15 && name.chars().all(legal) && name != "." && name != ".." {
        Ok(name)
    } else {
        bad(format!("{} is no such name", quoted(&name)), format!("write {wanted}"))
    }
}
