//! The eBPF program that chooses a slot for each new connection, one for each listener.
//!
//! What all listeners of a unit share is in two words ([`super::table::Table`]): one store of the first
//! flips them all. The program asks in this order: is it a probe? is the client the candidate's by its
//! share? else it is the active one's. A slot without a member (closed, shut down) is left out.

use super::hash::{FIRST, FOLD, LAST, SECOND};
use crate::model::Share;
use crate::os::Error;
use crate::os::bpf::{
    self, Assembler, Condition, Map, Operation, Width, add_at_once, call, exit, from_network,
    from_network_short, half, half_number, load, store, store_number, wide, wide_number,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// In the first word: where each part begins.
pub(super) const CANDIDATE_AT: u32 = 8;
/// See [`CANDIDATE_AT`].
pub(super) const SHARE_AT: u32 = 16;
/// See [`CANDIDATE_AT`]: somebody probes.
pub(super) const PROBES: u64 = 1 << 32;
/// See [`CANDIDATE_AT`]: by the client's address.
pub(super) const STICKY: u64 = 1 << 33;

/// The key of a probe: 16 bytes of address, 2 of port, both as the network writes them, 2 of nothing.
pub(super) const PROBE_KEY: usize = 20;

// enum bpf_func_id.
const MAP_LOOKUP: i32 = 1;
const RANDOM: i32 = 7;
const LOAD_BYTES_RELATIVE: i32 = 68;
const SELECT_REUSEPORT: i32 = 82;

// struct sk_reuseport_md.
const DATA: i16 = 0;
const DATA_END: i16 = 8;
const ETH_PROTOCOL: i16 = 20;
const MIGRATING: i16 = 48;

/// Where in the stack the probe's key is, and the number of a slot.
const KEY: i16 = -24;
const INDEX: i16 = -4;

// Registers that calls leave alone, and the frame.
const CONTEXT: u8 = 6;
const WORD: u8 = 7;
const SALT: u8 = 8;
const CHOSEN: u8 = 9;
const FRAME: u8 = 10;

const PASS: i32 = 1;
const DROP: i32 = 0;

/// Loads the program of one listener. `counts`: where in the words, in bytes, its slots are counted.
///
/// # Errors
/// What the kernel or its verifier says.
pub(super) fn load_for(
    words: BorrowedFd<'_>,
    probes: &Map,
    sockets: &Map,
    counts: i16,
    udp: bool,
) -> Result<OwnedFd, Error> {
    let mut program = Assembler::default();
    begin(&mut program, words, udp);
    read_client(&mut program);
    ask_probes(&mut program, probes, sockets);
    draw(&mut program, udp);
    choose(&mut program, sockets);
    count(&mut program, words, counts);
    bpf::load_reuseport("supd_steer", program)
}

/// Reads the words, and who needs to know the client. What a closed slot leaves behind may come without
/// a packet: it goes to the active slot, unless the candidate receives everything.
fn begin(program: &mut Assembler, words: BorrowedFd<'_>, udp: bool) {
    program.add(&[wide(Operation::Move, CONTEXT, 1)]);
    program.value(2, words);
    program.add(&[
        load(Width::Eight, WORD, 2, 0),
        load(Width::Four, SALT, 2, 8),
        load(Width::Eight, 1, CONTEXT, MIGRATING),
        wide_number(Operation::Move, 0, Share::PARTS as i32 - 1),
    ]);
    program.jump_if(1, Condition::Differs, 0, "choose");
    if !udp {
        program.add(&[wide(Operation::Move, 1, WORD), wide_number(Operation::Shift, 1, 32)]);
        program.jump_if(1, Condition::AnyOf, ((PROBES | STICKY) >> 32) as i32, "client");
        program.jump("random");
        program.label("client");
    }
}

/// Puts the client's address and port on the stack. What cannot be read is drawn by lot.
fn read_client(program: &mut Assembler) {
    const ETH_IP: i32 = (0x0800_u16).to_be() as i32;
    const ETH_IPV6: i32 = (0x86dd_u16).to_be() as i32;
    program.add(&[
        store_number(Width::Eight, FRAME, KEY, 0),
        store_number(Width::Eight, FRAME, KEY + 8, 0),
        store_number(Width::Four, FRAME, KEY + 16, 0),
        wide(Operation::Move, 3, FRAME),
        wide_number(Operation::Add, 3, KEY as i32),
        load(Width::Four, 1, CONTEXT, ETH_PROTOCOL),
    ]);
    program.jump_if(1, Condition::Equal, ETH_IP, "ipv4");
    program.jump_if(1, Condition::Differs, ETH_IPV6, "random");
    program.add(&[wide_number(Operation::Move, 2, 8), wide_number(Operation::Move, 4, 16)]);
    program.jump("load");
    program.label("ipv4");
    program.add(&[
        store_number(Width::Two, FRAME, KEY + 10, -1),
        wide_number(Operation::Add, 3, 12),
        wide_number(Operation::Move, 2, 12),
        wide_number(Operation::Move, 4, 4),
    ]);
    program.label("load");
    // From where the network's header begins: BPF_HDR_START_NET.
    program.add(&[
        wide(Operation::Move, 1, CONTEXT),
        wide_number(Operation::Move, 5, 1),
        call(LOAD_BYTES_RELATIVE),
    ]);
    program.jump_if(0, Condition::Differs, 0, "random");
    program.add(&[
        load(Width::Eight, 1, CONTEXT, DATA),
        load(Width::Eight, 2, CONTEXT, DATA_END),
        wide(Operation::Move, 3, 1),
        wide_number(Operation::Add, 3, 2),
    ]);
    program.jump_if_both(3, Condition::Greater, 2, "random");
    program.add(&[load(Width::Two, 1, 1, 0), store(Width::Two, FRAME, KEY + 16, 1)]);
}

/// A probe gets to its slot or to nobody: one that is served by another would prove what is not so.
fn ask_probes(program: &mut Assembler, probes: &Map, sockets: &Map) {
    program.add(&[wide(Operation::Move, 1, WORD), wide_number(Operation::Shift, 1, 32)]);
    program.jump_if(1, Condition::AnyOf, (PROBES >> 32) as i32, "probes");
    program.jump("no probe");
    program.label("probes");
    program.map(1, probes.as_fd());
    program.add(&[
        wide(Operation::Move, 2, FRAME),
        wide_number(Operation::Add, 2, KEY as i32),
        call(MAP_LOOKUP),
    ]);
    program.jump_if(0, Condition::Equal, 0, "no probe");
    program.add(&[load(Width::Four, CHOSEN, 0, 0)]);
    select(program, sockets);
    program.jump_if(0, Condition::Equal, 0, "taken");
    program.add(&[wide_number(Operation::Move, 0, DROP), exit()]);
    program.label("no probe");
}

/// A number below 10,000 in register 0: by the client ([`super::hash::draw`]), or by lot.
fn draw(program: &mut Assembler, udp: bool) {
    program.add(&[wide(Operation::Move, 1, WORD), wide_number(Operation::Shift, 1, 32)]);
    program.add(&[wide_number(Operation::And, 1, (STICKY >> 32) as i32)]);
    if !udp {
        program.jump_if(1, Condition::Equal, 0, "random");
    }
    program.add(&[half(Operation::Move, 0, SALT)]);
    for word in 0..4 {
        program.add(&[
            load(Width::Four, 2, FRAME, KEY + 4 * word),
            from_network(2),
            half(Operation::Xor, 0, 2),
            half_number(Operation::Multiply, 0, FOLD as i32),
        ]);
    }
    if udp {
        // One address may be a whole office: without a word for it, its ports are clients.
        program.jump_if(1, Condition::Differs, 0, "mix");
        program.add(&[
            load(Width::Two, 2, FRAME, KEY + 16),
            from_network_short(2),
            half(Operation::Xor, 0, 2),
            half_number(Operation::Multiply, 0, FOLD as i32),
        ]);
        program.label("mix");
    }
    for (shift, factor) in [FIRST, SECOND] {
        shift_in(program, shift);
        program.add(&[half_number(Operation::Multiply, 0, factor as i32)]);
    }
    shift_in(program, LAST);
    program.jump("drawn");
    program.label("random");
    program.add(&[call(RANDOM)]);
    program.label("drawn");
    program.add(&[half_number(Operation::Modulo, 0, i32::from(Share::PARTS))]);
}

fn shift_in(program: &mut Assembler, bits: u32) {
    program.add(&[
        half(Operation::Move, 2, 0),
        half_number(Operation::Shift, 2, bits as i32),
        half(Operation::Xor, 0, 2),
    ]);
}

/// The candidate below its share, else the active one; then whoever of the two is there; then the
/// kernel's own hash.
fn choose(program: &mut Assembler, sockets: &Map) {
    program.label("choose");
    program.add(&[
        wide(Operation::Move, 1, WORD),
        wide_number(Operation::Shift, 1, SHARE_AT as i32),
        wide_number(Operation::And, 1, 0xffff),
    ]);
    program.jump_if_both(0, Condition::Less, 1, "candidate");
    program.jump("active");
    program.label("candidate");
    candidate(program);
    select(program, sockets);
    program.jump_if(0, Condition::Equal, 0, "taken");
    program.label("active");
    program.add(&[wide(Operation::Move, CHOSEN, WORD), wide_number(Operation::And, CHOSEN, 0xff)]);
    select(program, sockets);
    program.jump_if(0, Condition::Equal, 0, "taken");
    candidate(program);
    select(program, sockets);
    program.jump_if(0, Condition::Equal, 0, "taken");
    program.jump("pass");
}

/// One more for the slot in `CHOSEN`.
fn count(program: &mut Assembler, words: BorrowedFd<'_>, counts: i16) {
    const WORD_OF_8: i32 = 3;
    program.label("taken");
    program.value(2, words);
    program.add(&[
        wide_number(Operation::And, CHOSEN, i32::from(super::SLOTS) - 1),
        wide_number(Operation::ShiftUp, CHOSEN, WORD_OF_8),
        wide(Operation::Add, 2, CHOSEN),
        wide_number(Operation::Move, 1, 1),
        add_at_once(Width::Eight, 2, counts, 1),
    ]);
    program.label("pass");
    program.add(&[wide_number(Operation::Move, 0, PASS), exit()]);
}

fn candidate(program: &mut Assembler) {
    program.add(&[
        wide(Operation::Move, CHOSEN, WORD),
        wide_number(Operation::Shift, CHOSEN, CANDIDATE_AT as i32),
        wide_number(Operation::And, CHOSEN, 0xff),
    ]);
}

/// Tries the slot in `CHOSEN`; 0 in register 0 if it has a member.
fn select(program: &mut Assembler, sockets: &Map) {
    program.add(&[store(Width::Four, FRAME, INDEX, CHOSEN), wide(Operation::Move, 1, CONTEXT)]);
    program.map(2, sockets.as_fd());
    program.add(&[
        wide(Operation::Move, 3, FRAME),
        wide_number(Operation::Add, 3, INDEX as i32),
        wide_number(Operation::Move, 4, 0),
        call(SELECT_REUSEPORT),
    ]);
}
