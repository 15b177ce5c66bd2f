//! The classic BPF program that chooses a place of the row, assembled anew for each split.
//!
//! A load outside of the packet would end it with 0, whoever that is by now; so it reads nothing but
//! headers that the kernel has checked before it looks for a socket.

use super::hash::{FIRST, FOLD, LAST, SECOND, fold, words};
use super::row::Row;
use super::{Slot, Split};
use crate::model::Share;
use libc::sock_filter;
use std::net::{IpAddr, SocketAddr};

// linux/filter.h: beside the packet, and from where the network's header begins.
const PROTOCOL: u32 = 0xffff_f000;
const RANDOM: u32 = 0xffff_f000 + 56;
const NETWORK: u32 = 0xfff0_0000;

const ETH_IP: u32 = 0x0800;
const ETH_IPV6: u32 = 0x86dd;
/// The source address in either header, and how long the second is.
const IPV4_SOURCE: u32 = NETWORK + 12;
const IPV6_SOURCE: u32 = NETWORK + 8;
const IPV6_HEADER: u32 = NETWORK + 40;

const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_SHORT: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_SHORT_AT: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
const KEPT_TO_X: u32 = libc::BPF_LDX | libc::BPF_MEM;
/// X = the length of the IPv4 header.
const IPV4_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const KEEP: u32 = libc::BPF_ST;
const XOR: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_K;
const XOR_X: u32 = libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X;
const MULTIPLY: u32 = libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K;
const SHIFT: u32 = libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K;
const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// Everything to one place of the row.
pub(in crate::os) const fn always(index: u32) -> [sock_filter; 1] {
    [op(RETURN, index)]
}

const fn op(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

/// Skips the next `skip` unless the accumulator is `k`.
fn unless(k: u32, skip: usize) -> sock_filter {
    sock_filter { jf: u8::try_from(skip).expect("a block is short"), ..op(EQUAL, k) }
}

fn ahead(skip: usize) -> sock_filter {
    op(JUMP, u32::try_from(skip).expect("a block is short"))
}

/// The program for a row as it is now.
pub(super) fn program(
    row: &Row,
    split: &Split,
    probes: &[(SocketAddr, Slot)],
    udp: bool,
) -> Vec<sock_filter> {
    let place = |slot: Slot| row.index(slot).and_then(|at| u32::try_from(at).ok());
    let of_candidate = split.candidate.and_then(|(slot, _)| place(slot));
    // Whoever of the two is there; in a row without either, it makes no difference.
    let active = place(split.active).or(of_candidate).unwrap_or(0);
    let candidate = of_candidate.unwrap_or(active);
    let mut program: Vec<sock_filter> =
        probes.iter().filter_map(|(from, slot)| Some(probe(*from, place(*slot)?))).flatten().collect();
    let share = split.candidate.map_or(Share::ZERO, |(_, share)| share);
    if share.is_zero() || share.is_full() || active == candidate {
        program.extend(always(if share.is_full() { candidate } else { active }));
        return program;
    }
    if udp || split.sticky {
        program.extend(draw(split.salt, udp && !split.sticky));
    } else {
        program.push(op(LOAD, RANDOM));
    }
    program.extend([
        op(MODULO, u32::from(Share::PARTS)),
        sock_filter { jf: 1, ..op(AT_LEAST, u32::from(share.parts())) },
        op(RETURN, active),
        op(RETURN, candidate),
    ]);
    program
}

/// Sends what comes from there to its place, and goes on behind itself with everything else.
fn probe(from: SocketAddr, place: u32) -> Vec<sock_filter> {
    let mut tests = match from.ip() {
        IpAddr::V4(v4) => vec![(op(LOAD, PROTOCOL), ETH_IP), (op(LOAD, IPV4_SOURCE), v4.to_bits())],
        ip @ IpAddr::V6(_) => {
            let words = words(ip).into_iter().zip([0, 4, 8, 12]);
            let words = words.map(|(word, at)| (op(LOAD, IPV6_SOURCE + at), word));
            [(op(LOAD, PROTOCOL), ETH_IPV6)].into_iter().chain(words).collect()
        }
    };
    let (length, port) = match from {
        SocketAddr::V4(_) => (Some(op(IPV4_LENGTH, NETWORK)), op(LOAD_SHORT_AT, NETWORK)),
        SocketAddr::V6(_) => (None, op(LOAD_SHORT, IPV6_HEADER)),
    };
    tests.push((port, u32::from(from.port())));
    let total = tests.len() * 2 + usize::from(length.is_some()) + 1;
    let mut block = Vec::with_capacity(total);
    let last = tests.len() - 1;
    for (n, (load, value)) in tests.into_iter().enumerate() {
        block.extend(length.filter(|_| n == last));
        block.push(load);
        block.push(unless(value, total - block.len() - 1));
    }
    block.push(op(RETURN, place));
    block
}

/// [`super::hash::draw`] up to the modulo.
fn draw(salt: u32, by_port: bool) -> Vec<sock_filter> {
    let ipv4 = ipv4(salt, by_port);
    let ipv6 = ipv6(salt, by_port);
    let mut block = vec![op(LOAD, PROTOCOL), unless(ETH_IPV6, ipv6.len() + 1)];
    block.extend(&ipv6);
    block.push(ahead(ipv4.len()));
    block.extend(&ipv4);
    for (shift, factor) in [FIRST, SECOND] {
        block.extend(shift_in(shift));
        block.push(op(MULTIPLY, factor));
    }
    block.extend(shift_in(LAST));
    block
}

fn shift_in(bits: u32) -> [sock_filter; 4] {
    [op(KEEP, 0), op(SHIFT, bits), op(KEPT_TO_X, 0), op(XOR_X, 0)]
}

/// The accumulator, folded into what is kept.
const FOLD_IN: [sock_filter; 3] = [op(KEPT_TO_X, 0), op(XOR_X, 0), op(MULTIPLY, FOLD)];

fn ipv4(salt: u32, by_port: bool) -> Vec<sock_filter> {
    let begun = [0, 0, 0xffff].into_iter().fold(salt, fold);
    let mut block = vec![op(LOAD, IPV4_SOURCE), op(XOR, begun), op(MULTIPLY, FOLD)];
    if by_port {
        block.extend([op(KEEP, 0), op(IPV4_LENGTH, NETWORK), op(LOAD_SHORT_AT, NETWORK)]);
        block.extend(FOLD_IN);
    }
    block
}

fn ipv6(salt: u32, by_port: bool) -> Vec<sock_filter> {
    let mut block = vec![op(LOAD, IPV6_SOURCE), op(XOR, salt), op(MULTIPLY, FOLD)];
    for at in [4, 8, 12] {
        block.extend([op(KEEP, 0), op(LOAD, IPV6_SOURCE + at)]);
        block.extend(FOLD_IN);
    }
    if by_port {
        block.extend([op(KEEP, 0), op(LOAD_SHORT, IPV6_HEADER)]);
        block.extend(FOLD_IN);
    }
    block
}
