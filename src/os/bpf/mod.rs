//! bpf(2): maps, and programs of a few instructions.
//!
//! No compiler and no library stands behind it: a program of four dozen instructions is assembled here
//! and read by the verifier of the kernel, whose objections go into the error.
#![allow(unsafe_code)]

mod assembler;

use super::Error;
pub use assembler::*;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

// enum bpf_cmd, bpf_map_type, bpf_prog_type and bpf_attach_type of linux/bpf.h; libc has none of them.
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const PROG_TYPE_SK_REUSEPORT: u32 = 21;
const SELECT_OR_MIGRATE: u32 = 40;
/// Of an array: its memory can be mapped (Linux 5.5).
const MMAPABLE: u32 = 1 << 10;

/// What the verifier may say to a program that it refuses; its last words are what matters.
const LOG_BYTES: usize = 64 * 1024;
/// How much of that is told.
const LOG_TOLD: usize = 300;

/// What a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum MapKind {
    /// By any key.
    Hash = 1,
    /// By a number.
    Array = 2,
    /// Sockets of one SO_REUSEPORT group by a number.
    SocketArray = 20,
}

/// Calls bpf(2) with an attribute that is nothing but numbers and addresses.
///
/// # Safety
/// Every address in `attribute` is of memory that the command may read or write as it does.
unsafe fn bpf<T>(command: libc::c_int, attribute: &T) -> Result<libc::c_long, Errno> {
    // SAFETY: the kernel reads size_of::<T>() bytes of it; for the rest the caller answers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attribute, size_of::<T>()) };
    Errno::result(result)
}

/// A descriptor that bpf(2) has just made. They are all close-on-exec.
fn owned(made: libc::c_long) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(made).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just gave it to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("descriptors are not negative")
}

/// A map of the kernel's. It goes when nobody holds it: neither supd nor a program.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

#[repr(C)]
struct Element {
    map: u32,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Map {
    /// Makes one with `entries` places, for keys and values of so many bytes.
    ///
    /// # Errors
    /// EPERM without CAP_BPF; what else the kernel says.
    pub fn new(kind: MapKind, key: usize, value: usize, entries: u32) -> Result<Self, Error> {
        Self::with(kind, key, value, entries, 0)
    }

    /// One that is there, for keys and values of so many bytes.
    #[must_use]
    pub fn of(fd: OwnedFd, key: usize, value: usize) -> Self {
        Self { fd, key, value }
    }

    fn with(kind: MapKind, key: usize, value: usize, entries: u32, flags: u32) -> Result<Self, Error> {
        let failed = |errno| Error::new("make", "a BPF map", errno);
        let size = |bytes: usize| u32::try_from(bytes).map_err(|_| failed(Errno::E2BIG));
        let create = Create {
            kind: kind as u32,
            key_size: size(key)?,
            value_size: size(value)?,
            max_entries: entries,
            flags,
        };
        // SAFETY: there is no address in it.
        let made = unsafe { bpf(MAP_CREATE, &create) }.and_then(owned);
        Ok(Self { fd: made.map_err(failed)?, key, value })
    }

    /// Puts a value in, over what was there.
    ///
    /// # Errors
    /// E2BIG: it is full. For a socket: EINVAL if it is in no group or does not listen, EBUSY if
    /// somebody has it in a map already.
    pub fn put(&self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        if key.len() != self.key || value.len() != self.value {
            return Err(Errno::EINVAL);
        }
        let element = Element {
            map: raw(self.fd.as_fd()),
            _pad: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: value.as_ptr().expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: the kernel reads as many bytes of both as the map was made for, which are as many as
        // they have; both live through the call.
        unsafe { bpf(MAP_UPDATE_ELEM, &element) }.map(drop)
    }

    /// What is there, as a number; of a socket its cookie (SO_COOKIE). Only for values of 8 bytes.
    ///
    /// # Errors
    /// ENOENT: nothing; what else the kernel says.
    pub fn number(&self, key: &[u8]) -> Result<u64, Errno> {
        let mut value = 0_u64;
        if key.len() != self.key || self.value != size_of_val(&value) {
            return Err(Errno::EINVAL);
        }
        let element = Element {
            map: raw(self.fd.as_fd()),
            _pad: 0,
            key: key.as_ptr().expose_provenance() as u64,
            value: (&raw mut value).expose_provenance() as u64,
            flags: 0,
        };
        // SAFETY: the kernel reads as many bytes of the key as the map was made for, and writes a value
        // to a place that is as large; both live through the call.
        unsafe { bpf(MAP_LOOKUP_ELEM, &element) }?;
        Ok(value)
    }

    /// Takes a key out. None there is a success.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&self, key: &[u8]) -> Result<(), Errno> {
        if key.len() != self.key {
            return Err(Errno::EINVAL);
        }
        let address = key.as_ptr().expose_provenance() as u64;
        let element = Element { map: raw(self.fd.as_fd()), _pad: 0, key: address, value: 0, flags: 0 };
        // SAFETY: the kernel reads as many bytes of the key as the map was made for, which it has.
        match unsafe { bpf(MAP_DELETE_ELEM, &element) } {
            Err(Errno::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A few words that supd writes and programs read, each word at once.
///
/// An array of one element, mapped into supd's memory. By bpf(2) a value is copied with memcpy, of
/// which no architecture promises that a program sees either the old or the new; a store is one.
#[derive(Debug)]
pub struct Words<const N: usize> {
    map: Map,
    at: NonNull<AtomicU64>,
}

/// What is mapped: the least that can be, for the words are no more than a page has.
const MAPPED: usize = 4096;

impl<const N: usize> Words<N> {
    /// All 0.
    ///
    /// # Errors
    /// As [`Map::new`].
    pub fn new() -> Result<Self, Error> {
        const { assert!(N > 0 && N * 8 <= MAPPED) };
        Self::of(Map::with(MapKind::Array, 4, N * 8, 1, MMAPABLE)?.fd)
    }

    /// Those of a map that is there.
    ///
    /// # Errors
    /// What mmap(2) says: EINVAL where it is no such map.
    pub fn of(fd: OwnedFd) -> Result<Self, Error> {
        let map = Map::of(fd, 4, N * 8);
        let (rights, fd) = (libc::PROT_READ | libc::PROT_WRITE, map.fd.as_raw_fd());
        // SAFETY: a new mapping, where the kernel likes, of a descriptor that is open.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), MAPPED, rights, libc::MAP_SHARED, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(Error::new("map", "a BPF map", Errno::last()));
        }
        let at = NonNull::new(at.cast()).ok_or_else(|| Error::new("map", "a BPF map", Errno::EFAULT))?;
        Ok(Self { map, at })
    }

    fn word(&self, n: usize) -> &AtomicU64 {
        assert!(n < N, "there are {N} words");
        // SAFETY: the mapping begins at a page, so each word is aligned; it has no fewer than N words, and
        // lives as long as `self`. Whoever else writes there is a program that adds to a word at once.
        unsafe { self.at.add(n).as_ref() }
    }

    /// Writes a word: whoever sees it sees what was written before.
    pub fn store(&self, n: usize, value: u64) {
        self.word(n).store(value, Ordering::SeqCst);
    }

    /// Reads a word.
    #[must_use]
    pub fn load(&self, n: usize) -> u64 {
        self.word(n).load(Ordering::SeqCst)
    }
}

impl<const N: usize> AsFd for Words<N> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl<const N: usize> Drop for Words<N> {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no reference to it outlives `self`.
        let _ = unsafe { libc::munmap(self.at.as_ptr().cast(), MAPPED) };
    }
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Loads a program that chooses a socket of a SO_REUSEPORT group, also for what a socket that closes
/// leaves behind (Linux 5.14).
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN; else what the verifier said is part of it.
pub fn load_reuseport(name: &str, program: Assembler) -> Result<OwnedFd, Error> {
    let failed = |errno| Error::new("load", format!("the BPF program {name}"), errno);
    let code = program.finish().map_err(failed)?;
    // Nothing that it calls asks for the GPL.
    let license = CString::from(c"MIT OR Apache-2.0");
    let mut short = [0; 16];
    short.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    let mut load = Load {
        kind: PROG_TYPE_SK_REUSEPORT,
        count: u32::try_from(code.len()).map_err(|_| failed(Errno::E2BIG))?,
        instructions: code.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: short,
        interface: 0,
        attach_type: SELECT_OR_MIGRATE,
    };
    // SAFETY: the kernel reads `count` instructions and a C string, which live through the call.
    let first = unsafe { bpf(PROG_LOAD, &load) };
    let errno = match first.and_then(owned) {
        Ok(fd) => return Ok(fd),
        Err(errno @ (Errno::EPERM | Errno::ENOSYS)) => return Err(failed(errno)),
        Err(errno) => errno,
    };
    // The reason is asked for only now: to write it down takes the verifier longer.
    let mut log = vec![0_u8; LOG_BYTES];
    load.log_level = 1;
    load.log_size = u32::try_from(log.len()).map_err(|_| failed(Errno::E2BIG))?;
    load.log = log.as_mut_ptr().expose_provenance() as u64;
    // SAFETY: as above, and the kernel writes at most `log_size` bytes to memory that has them.
    if let Ok(fd) = unsafe { bpf(PROG_LOAD, &load) }.and_then(owned) {
        return Ok(fd);
    }
    let what = format!("the BPF program {name} (the verifier: {})", last_words(&log));
    Err(Error::new("load", what, errno))
}

/// The end of what the verifier wrote, on one line.
fn last_words(log: &[u8]) -> String {
    let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("processed "))
        .collect();
    let text = lines.join("; ");
    let skip = text.char_indices().rev().nth(LOG_TOLD).map_or(0, |(at, _)| at);
    if text.is_empty() { "nothing".into() } else { text[skip..].into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::alone::root_or_skip;

    #[test]
    fn what_the_verifier_objects_to_is_told() {
        if !root_or_skip("os::bpf::tests::what_the_verifier_objects_to_is_told") {
            return;
        }
        let mut program = Assembler::default();
        program.add(&[load(Width::Eight, 0, 5, 0), exit()]);
        let error = load_reuseport("bad", program).unwrap_err().to_string();
        assert!(error.contains("R5 !read_ok"), "{error}");

        let mut good = Assembler::default();
        good.add(&[wide_number(Operation::Move, 0, 1)]);
        good.jump("end");
        good.label("end");
        good.add(&[exit()]);
        load_reuseport("good", good).unwrap();
    }

    #[test]
    fn words_are_those_of_the_map_and_each_is_its_own() {
        if !root_or_skip("os::bpf::tests::words_are_those_of_the_map_and_each_is_its_own") {
            return;
        }
        let words = Words::<2>::new().unwrap();
        assert_eq!((words.load(0), words.load(1)), (0, 0));
        words.store(1, u64::MAX);
        words.store(0, 7);
        assert_eq!((words.load(0), words.load(1)), (7, u64::MAX));
        // By bpf(2) it is the same memory.
        words.map.put(&0_u32.to_ne_bytes(), &[1; 16]).unwrap();
        assert_eq!(words.load(0), u64::from_ne_bytes([1; 8]));
    }

    #[test]
    fn without_the_privilege_it_is_a_refusal_and_no_more() {
        let refused = std::thread::spawn(|| {
            caps::clear(None, caps::CapSet::Effective).unwrap();
            Map::new(MapKind::SocketArray, 4, 8, 16).map(drop).and_then(|()| {
                let mut program = Assembler::default();
                program.add(&[wide_number(Operation::Move, 0, 1), exit()]);
                load_reuseport("none", program).map(drop)
            })
        });
        assert_eq!(refused.join().unwrap().unwrap_err().errno, Errno::EPERM);
    }
}
