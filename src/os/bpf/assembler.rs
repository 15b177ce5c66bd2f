//! The few instructions that supd's own programs are made of, and jumps between them.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One instruction (struct bpf_insn; Linux' bpf/standardization/instruction-set.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// A register, 0 to 10.
pub type Register = u8;

/// How many bytes a load or a store is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Width {
    /// Four.
    Four = 0x00,
    /// Two.
    Two = 0x08,
    /// Eight.
    Eight = 0x18,
}

/// What is done to two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// `+`
    Add = 0x00,
    /// `*`
    Multiply = 0x20,
    /// `&`
    And = 0x50,
    /// `<<`
    ShiftUp = 0x60,
    /// `>>`, filled with 0.
    Shift = 0x70,
    /// `%`
    Modulo = 0x90,
    /// `^`
    Xor = 0xa0,
    /// Takes the second.
    Move = 0xb0,
}

/// When a jump is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Condition {
    /// `==`
    Equal = 0x10,
    /// `>`, without a sign.
    Greater = 0x20,
    /// One of these bits is set.
    AnyOf = 0x40,
    /// `!=`
    Differs = 0x50,
    /// `<`, without a sign.
    Less = 0xa0,
}

// Classes and modes of instructions.
const LOAD: u8 = 0x61;
const STORE_NUMBER: u8 = 0x62;
const STORE: u8 = 0x63;
const JUMP: u8 = 0x05;
const BY_REGISTER: u8 = 0x08;
const LOAD_WIDE: u8 = 0x18;
const TO_BIG_ENDIAN: u8 = 0xdc;
const ADD_AT_ONCE: u8 = 0xc3;

const fn instruction(code: u8, to: Register, from: Register, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// `to = *(from + offset)`
#[must_use]
pub const fn load(width: Width, to: Register, from: Register, offset: i16) -> Instruction {
    instruction(LOAD | width as u8, to, from, offset, 0)
}

/// `*(to + offset) = from`
#[must_use]
pub const fn store(width: Width, to: Register, offset: i16, from: Register) -> Instruction {
    instruction(STORE | width as u8, to, from, offset, 0)
}

/// `*(to + offset) = number`
#[must_use]
pub const fn store_number(width: Width, to: Register, offset: i16, number: i32) -> Instruction {
    instruction(STORE_NUMBER | width as u8, to, 0, offset, number)
}

/// `*(to + offset) += from`, at once for whoever else does so (BPF_ATOMIC | BPF_ADD).
#[must_use]
pub const fn add_at_once(width: Width, to: Register, offset: i16, from: Register) -> Instruction {
    instruction(ADD_AT_ONCE | width as u8, to, from, offset, 0)
}

/// 64 bits: `to = to OPERATION from`
#[must_use]
pub const fn wide(operation: Operation, to: Register, from: Register) -> Instruction {
    instruction(0x07 | BY_REGISTER | operation as u8, to, from, 0, 0)
}

/// 64 bits: `to = to OPERATION number`
#[must_use]
pub const fn wide_number(operation: Operation, to: Register, number: i32) -> Instruction {
    instruction(0x07 | operation as u8, to, 0, 0, number)
}

/// 32 bits, the upper half becomes 0: `to = to OPERATION from`
#[must_use]
pub const fn half(operation: Operation, to: Register, from: Register) -> Instruction {
    instruction(0x04 | BY_REGISTER | operation as u8, to, from, 0, 0)
}

/// 32 bits, the upper half becomes 0: `to = to OPERATION number`
#[must_use]
pub const fn half_number(operation: Operation, to: Register, number: i32) -> Instruction {
    instruction(0x04 | operation as u8, to, 0, 0, number)
}

/// 32 bits, read as the network writes them.
#[must_use]
pub const fn from_network(to: Register) -> Instruction {
    instruction(TO_BIG_ENDIAN, to, 0, 0, 32)
}

/// 16 bits, read as the network writes them.
#[must_use]
pub const fn from_network_short(to: Register) -> Instruction {
    instruction(TO_BIG_ENDIAN, to, 0, 0, 16)
}

/// Calls a function of the kernel (enum bpf_func_id): arguments in registers 1 to 5, result in 0.
#[must_use]
pub const fn call(function: i32) -> Instruction {
    instruction(0x85, 0, 0, 0, function)
}

/// Ends the program with what is in register 0.
#[must_use]
pub const fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

/// A program on its way: jumps lead to labels that are put down later.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    /// Which instruction jumps to which label.
    jumps: Vec<(usize, &'static str)>,
    labels: Vec<(&'static str, usize)>,
}

impl Assembler {
    /// Adds instructions.
    pub fn add(&mut self, instructions: &[Instruction]) {
        self.code.extend_from_slice(instructions);
    }

    /// `to` = the address of a map, as functions take it.
    pub fn map(&mut self, to: Register, map: BorrowedFd<'_>) {
        self.wide_address(to, 1, map);
    }

    /// `to` = the address of the first value of an array.
    pub fn value(&mut self, to: Register, array: BorrowedFd<'_>) {
        self.wide_address(to, 2, array);
    }

    fn wide_address(&mut self, to: Register, kind: u8, fd: BorrowedFd<'_>) {
        self.add(&[instruction(LOAD_WIDE, to, kind, 0, fd.as_raw_fd()), instruction(0, 0, 0, 0, 0)]);
    }

    /// Jumps.
    pub fn jump(&mut self, label: &'static str) {
        self.jumps.push((self.code.len(), label));
        self.add(&[instruction(JUMP, 0, 0, 0, 0)]);
    }

    /// Jumps if a register compares so with a number.
    pub fn jump_if(&mut self, left: Register, condition: Condition, number: i32, label: &'static str) {
        self.jumps.push((self.code.len(), label));
        self.add(&[instruction(JUMP | condition as u8, left, 0, 0, number)]);
    }

    /// Jumps if a register compares so with another.
    pub fn jump_if_both(
        &mut self,
        left: Register,
        condition: Condition,
        right: Register,
        label: &'static str,
    ) {
        self.jumps.push((self.code.len(), label));
        self.add(&[instruction(JUMP | BY_REGISTER | condition as u8, left, right, 0, 0)]);
    }

    /// Where jumps to this label lead.
    pub fn label(&mut self, label: &'static str) {
        self.labels.push((label, self.code.len()));
    }

    /// The whole, every jump with its way.
    pub(super) fn finish(mut self) -> Result<Vec<Instruction>, Errno> {
        for (at, label) in self.jumps {
            let (_, to) = self.labels.iter().find(|(known, _)| *known == label).ok_or(Errno::EINVAL)?;
            let ahead = to.checked_sub(at + 1).ok_or(Errno::ELOOP)?;
            self.code[at].offset = i16::try_from(ahead).map_err(|_| Errno::E2BIG)?;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_leads_to_its_label_and_never_back() {
        let mut lost = Assembler::default();
        lost.jump("nowhere");
        assert_eq!(lost.finish(), Err(Errno::EINVAL));
        let mut back = Assembler::default();
        back.label("start");
        back.jump("start");
        assert_eq!(back.finish(), Err(Errno::ELOOP));
        let mut ahead = Assembler::default();
        ahead.jump_if(1, Condition::Equal, 7, "end");
        ahead.add(&[exit()]);
        ahead.label("end");
        ahead.add(&[exit()]);
        assert_eq!(ahead.finish().unwrap()[0], instruction(0x15, 1, 0, 1, 7));
    }
}
